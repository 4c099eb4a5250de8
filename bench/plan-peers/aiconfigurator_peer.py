"""AIConfigurator: serving on NVIDIA GPUs, from NVIDIA's database of measured operators, by its `cli_estimate`."""

import functools
import json
import logging
import os
import re
import tempfile
import warnings

from rows import Unsupported, plain

NAME = "AIConfigurator"
PACKAGE = "aiconfigurator"
KINDS = ("serve",)
# Tokens of prompts in a step. Its default is one prompt, where servers take up to 8192 tokens by default.
VARIANTS = {"defaults": None, "8192 tokens a step": 8192}
SYSTEMS = {
    "nvidia-a100-sxm-80": "a100_sxm",
    "nvidia-h100-sxm": "h100_sxm",
    "nvidia-h100-pcie": "h100_pcie",
    "nvidia-h200-sxm": "h200_sxm",
    "nvidia-b200-sxm": "b200_sxm",
    "nvidia-b300-sxm": "b300_sxm",
    "nvidia-gb200": "gb200",
    "nvidia-gb300": "gb300",
    "nvidia-l40s": "l40s",
    "nvidia-rtx-pro-6000-server": "rtx_pro_6000_server",
}
# The configurations that it comes with, by a part of our rows' names; the first that fits.
MODELS = (
    ("llama-3.1-8b", "meta-llama/Meta-Llama-3.1-8B"),
    ("llama-3.1-70b", "meta-llama/Meta-Llama-3.1-70B"),
    ("llama-3.3-70b", "meta-llama/Meta-Llama-3.1-70B"),
    ("llama-3.1-405b", "meta-llama/Meta-Llama-3.1-405B"),
    ("llama-4-maverick", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"),
    ("qwen3-235b", "Qwen/Qwen3-235B-A22B"),
    ("qwen3-30b", "Qwen/Qwen3-30B-A3B"),
    ("qwen3-32b", "Qwen/Qwen3-32B"),
    ("qwen3-8b", "Qwen/Qwen3-8B"),
    ("qwen3-14b", None),
    ("qwen3.5-397b", "Qwen/Qwen3.5-397B-A17B"),
    ("deepseek-v3.2", "deepseek-ai/DeepSeek-V3.2"),
    ("deepseek-v3.1", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-v3", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-r1", "deepseek-ai/DeepSeek-R1"),
    ("gpt-oss-120b", "openai/gpt-oss-120b"),
    ("gpt-oss-20b", "openai/gpt-oss-20b"),
    ("kimi-k2.5", "moonshotai/Kimi-K2.5"),
    ("minimax-m2.5", "MiniMaxAI/MiniMax-M2.5"),
    ("glm-5", "zai-org/GLM-5"),
    ("nemotron-3-nano", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"),
)


# The checkpoints of other formats that it comes with.
CHECKPOINTS = {
    ("meta-llama/Meta-Llama-3.1-70B", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("Qwen/Qwen3-32B", "fp8"): "Qwen/Qwen3-32B-FP8",
    ("Qwen/Qwen3-30B-A3B", "fp8"): "Qwen/Qwen3-30B-A3B-FP8",
    ("Qwen/Qwen3-235B-A22B", "fp8"): "Qwen/Qwen3-235B-A22B-FP8",
    ("Qwen/Qwen3-235B-A22B", "fp4"): "nvidia/Qwen3-235B-A22B-NVFP4",
    ("Qwen/Qwen3.5-397B-A17B", "fp4"): "nvidia/Qwen3.5-397B-A17B-NVFP4",
    ("deepseek-ai/DeepSeek-V3", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("deepseek-ai/DeepSeek-R1", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("moonshotai/Kimi-K2.5", "fp4"): "nvidia/Kimi-K2.5-NVFP4",
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
    ("zai-org/GLM-5", "fp8"): "zai-org/GLM-5-FP8",
    ("zai-org/GLM-5", "fp4"): "nvidia/GLM-5-NVFP4",
}


def load():
    global api, api_errors
    warnings.filterwarnings("ignore")
    # A model that it lacks is a row that it lacks: nothing is fetched.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from aiconfigurator.cli import api
    from aiconfigurator_core.sdk import errors, perf_database

    # It reads some five hundred files anew for every question, to find its current version.
    perf_database.get_supported_databases = functools.cache(perf_database.get_supported_databases)
    api_errors = (errors.PerfDataNotAvailableError, errors.EmpiricalNotImplementedError, ValueError)
    logging.disable(logging.CRITICAL)


def predict(row, variant):
    plain(row)
    if row.chip not in SYSTEMS:
        raise Unsupported("chip not in its list")
    place = dict(system_name=SYSTEMS[row.chip], backend_name=_backend(row), isl=row.isl, osl=row.osl, **_layout(row))
    if VARIANTS[variant]:
        place["ctx_tokens"] = max(row.isl, VARIANTS[variant])
    # Where a format was not measured: the formats that it reads from a checkpoint, and then its mixed mode, which
    # fills gaps among the measurements by its own estimates.
    named = dict(model_path=_model(row), **_formats(row))
    read = dict(model_path=CHECKPOINTS.get((named["model_path"], row.dtype), named["model_path"]))
    problem = None
    for formats in (named, read, {**named, "database_mode": "HYBRID"}, {**read, "database_mode": "HYBRID"}):
        try:
            return _rate(row, {**place, **formats})
        except api_errors as missing:
            problem = problem or missing
    raise Unsupported("operators that were not measured") from problem


def _rate(row, shape):
    copies = row.devices / (shape["tp_size"] * shape["pp_size"] * shape["attention_dp_size"])
    if copies < 1 or copies != int(copies):
        raise Unsupported("a layout over other devices than were counted")

    def run(batch):
        try:
            found = api.cli_estimate(batch_size=batch, **shape)
        except RuntimeError as problem:
            if "OOM" in str(problem):
                return None
            raise
        return None if found.kv_cache_warning else found

    share = copies * shape["attention_dp_size"]
    if row.id.startswith("aic-"):
        # The rows are its own: one batch, and a figure derived from both times as those rows' is.
        found = run(max(1, round(row.concurrency / share)))
        if not found:
            raise Unsupported("does not fit, says the planner")
        seconds = (found.ttft + (row.osl - 1) * found.tpot) / 1e3
        return row.concurrency * row.osl / seconds / row.devices
    if row.concurrency:
        found = run(max(1, round(row.concurrency / share)))
        if found:
            return found.tokens_per_second_per_gpu
    # No batch is given (or not all of it fits): the best of those that fit, as its own search takes.
    cap = (row.concurrency or row.requests or 1 << 20) / share
    cap = max(1, int(min(cap, 4096)))
    best = 0.0
    # Doubled until it does not fit; below 16 only where that does not.
    for sizes in ([16, 32, 64, 128, 256, 512, 1024, 2048, cap], [8, 4, 2, 1]):
        for batch in sizes:
            if batch <= cap:
                if not (found := run(batch)):
                    if batch >= 16:
                        break
                    continue
                best = max(best, found.tokens_per_second_per_gpu)
        if best:
            break
    if not best:
        raise Unsupported("does not fit, says the planner")
    return best


def _model(row):
    name = row.model["name"].lower()
    for part, path in MODELS:
        if part in name:
            return path or _written(row)
    raise Unsupported("model not in its list")


def _written(row):
    """A folder with the sizes of a model that it has the architecture of, which it takes in place of a name."""
    m = row.model
    folder = os.path.join(tempfile.gettempdir(), "plan-peers-" + m["name"].replace("/", "-"))
    os.makedirs(folder, exist_ok=True)
    sizes = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": m["hidden"],
        "num_hidden_layers": m["layers"],
        "num_attention_heads": m["heads"],
        "num_key_value_heads": m["kv_heads"],
        "head_dim": m["head_dim"],
        "intermediate_size": m["ffn"],
        "vocab_size": m["vocab"],
        "max_position_embeddings": 40960,
        "torch_dtype": "bfloat16",
    }
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(sizes, file)
    return folder


def _backend(row):
    text = f"{row.notes} {row.layout.get('command', '')} {row.raw['source']}".lower()
    for word, name in (("trtllm", "trtllm"), ("tensorrt", "trtllm"), ("sglang", "sglang"), ("vllm", "vllm")):
        if word in text:
            return name
    raise Unsupported("software that it has no measurements of")


def _layout(row):
    note = str(row.layout.get("note", ""))
    pipeline = row.size("pp")
    if found := re.search(r"PP(\d+)", note):
        pipeline = int(found[1])
    tensor, data = row.size("tp", row.devices // pipeline), row.size("attention_dp")
    expert = max(row.size("moe_ep"), row.size("ep"))
    if found := re.search(r"DEP(\d+)", note):
        tensor, data, expert = 1, int(found[1]), int(found[1])
    elif found := re.search(r"TP(\d+)", note):
        tensor = int(found[1])
    elif row.layout.get("dp_attention"):
        # SGLang divides its tensor parallelism by the copies of attention.
        data = row.size("dp")
        tensor //= data
    if tensor >= 32 and row.size("moe_tp") == tensor:
        # No layer of attention is cut over so many: a rack of copies, as we read those rows too.
        tensor, data, expert = 1, tensor, tensor
    elif row.id.startswith("aic-") and not row.layout.get("attention_dp"):
        # Its table leaves the copies of attention out where its batch is a copy's share of the clients.
        ratio = row.concurrency // int(row.raw["batch"])
        if ratio > 1 and tensor % ratio == 0:
            tensor, data = tensor // ratio, ratio if row.experts else 1
    layout = {"tp_size": tensor, "pp_size": pipeline, "attention_dp_size": data}
    if row.experts:
        layout |= {"moe_ep_size": expert, "moe_tp_size": max(1, tensor * data // expert)}
    return layout


def _formats(row):
    found = re.search(r"gemm (\w+)(?: moe (\w+))?", row.notes)
    if found:
        products, experts, cache = found[1], found[2], None
    elif "gpt-oss" in row.model["name"].lower() or row.dtype == "bf16":
        products = experts = cache = None
    elif row.dtype == "fp8":
        # NVIDIA's checkpoints have a scale for each matrix and a cache of FP8; the makers' have blocks.
        vendor = row.id.startswith("trtllm") and not row.latent
        products = experts = None if row.latent else "fp8" if vendor else "fp8_block"
        cache = "fp8" if vendor else None
    elif row.dtype == "fp4":
        products, experts, cache = "nvfp4", "nvfp4", "fp8"
    elif row.dtype == "int4w":
        products, experts, cache = "int4_wo", "int4_wo", None
    else:
        raise Unsupported(f"format {row.dtype}")
    modes = {"gemm_quant_mode": products, "kvcache_quant_mode": cache}
    if row.experts:
        modes["moe_quant_mode"] = experts
    return {name: mode for name, mode in modes.items() if mode}
