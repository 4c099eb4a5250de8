"""llm-analysis: dense models on the GPUs that it comes with, by its classes `LLMAnalysis(...).training/.inference`."""

import logging

from rows import Unsupported, largest_that, plain

NAME = "llm-analysis"
PACKAGE = "llm-analysis"
KINDS = ("train", "prefill", "decode", "serve")
# Its defaults are every efficiency at 1. Its README: "if one has to make assumptions", 0.5 of the FLOPS for training,
# up to 0.7 for inference; its warning: 0.6 to 0.7 of the memory's bandwidth in inference.
VARIANTS = {
    "defaults": {"train": (1.0, 1.0), "infer": (1.0, 1.0)},
    "documented": {"train": (0.5, 1.0), "infer": (0.7, 0.65)},
}
GPUS = {
    "nvidia-a100-sxm-40": "a100-sxm-40gb",
    "nvidia-a100-sxm-80": "a100-sxm-80gb",
    "nvidia-a100-pcie-80": "a100-pcie-80gb",
    "nvidia-h100-sxm": "h100-sxm-80gb",
    "nvidia-h100-pcie": "h100-pcie-80gb",
}


def load():
    global api, config
    from llm_analysis import analysis as api
    from llm_analysis import config

    api.logger.setLevel(logging.CRITICAL)


def predict(row, variant):
    plain(row)
    if row.experts:
        raise Unsupported("a mixture of experts")
    if row.chip not in GPUS:
        raise Unsupported("chip not in its list")
    if row.shared:
        raise Unsupported("small pieces of one prompt at a depth")
    m = row.model
    # It counts two matrices in a feed-forward layer. Its own configurations of gated models (Llama) widen it by half
    # for the third, and so does this.
    width = m["ffn"] * 3 // 2 if row.gated else m["ffn"]
    model = config.ModelConfig(
        name=m["name"],
        num_layers=m["layers"],
        n_head=m["heads"],
        hidden_dim=m["hidden"],
        vocab_size=m["vocab"],
        max_seq_len=max(row.isl, 1) + row.osl,
        num_key_value_heads=m["kv_heads"],
        ffn_embed_dim=width,
        expansion_ratio=width / m["hidden"],
    )
    gpu = config.get_gpu_config_by_name(GPUS[row.chip])
    return (_train if row.kind == "train" else _infer)(row, model, gpu, variant)


def _analysis(model, gpu, dtype, parallelism, efficiency):
    flops, memory = efficiency
    return api.LLMAnalysis(model, gpu, dtype, parallelism, flops_efficiency=flops, hbm_memory_efficiency=memory)


def _train(row, model, gpu, variant):
    if row.dtype not in ("bf16", "fp16", "fp8"):
        raise Unsupported(f"format {row.dtype}")
    if "LoRA" in str(row.layout.get("task", "")):
        raise Unsupported("adapters only: its README has them to do")
    if row.size("cp") > 1:
        raise Unsupported("context parallelism")
    tensor, pipeline = row.size("tp"), row.size("pp")
    if tensor > 8:
        raise Unsupported("tensor parallelism over more than 8 devices")
    data = row.devices // (tensor * pipeline)
    micro = row.size("micro_batch")
    steps = row.size("grad_accum", 0) or row.size("micro_num", 1)
    batch = row.size("global_batch", 0) or int(row.raw.get("batch") or 0) or micro * data * steps
    if batch % (micro * data):
        raise Unsupported("a batch that its micro-batches do not divide")
    bits = 8 if row.dtype == "fp8" else 16
    dtype = config.DtypeConfig("", bits, bits, 16)
    words = str(row.layout.get("recompute") or "")
    recompute = 2 if "full" in words else 1 if "selective" in words else 0
    sharded = row.layout.get("fsdp")
    stage = 3 if sharded and sharded not in ("NO_SHARD", "None", 1) else 0
    parallelism = config.ParallelismConfig(tensor, pipeline, data, 1, tensor)
    found = _analysis(model, gpu, dtype, parallelism, VARIANTS[variant]["train"]).training(
        batch_size_per_gpu=micro,
        global_batch_size=batch,
        seq_len=row.isl,
        activation_recomputation=api.ActivationRecomputation(recompute),
        ds_zero=api.DSZeRO(stage),
    )
    return batch * row.isl / found["latency_per_iter"] / row.devices


def _infer(row, model, gpu, variant):
    if row.hybrid or row.latent:
        raise Unsupported("attention that it has no model of")
    head = row.model.get("head_dim")
    if head and head * row.model["heads"] != row.model["hidden"]:
        raise Unsupported("heads that do not add up to the width")
    if row.dtype.startswith("gguf") or row.dtype in ("bf16", "fp16"):
        activations = 16
    elif row.dtype in ("fp8", "int8") and gpu.name.startswith("h100"):
        activations = 8
    else:
        raise Unsupported(f"format {row.dtype}")
    weights = row.weight_bits if row.dtype.startswith("gguf") else activations
    dtype = config.DtypeConfig("", weights, activations, 16)
    pipeline = row.size("pp")
    tensor = row.size("tp", row.devices // pipeline)
    copies = row.devices // (tensor * pipeline)
    parallelism = config.ParallelismConfig(tensor, pipeline, 1, 1, tensor)
    analysis = _analysis(model, gpu, dtype, parallelism, VARIANTS[variant]["infer"])

    def run(batch):
        prompt = max(row.isl, 1)  # it has no answer without a prompt
        answer = row.osl or 1
        return analysis.inference(batch_size_per_gpu=batch, seq_len=prompt, num_tokens_to_generate=answer)

    def fits(batch):
        try:
            run(batch)
        except AssertionError as problem:
            if "fit" in str(problem):
                return False
            raise
        return True

    if row.kind == "serve":
        wanted = row.concurrency or row.requests
        batch = largest_that(fits, wanted and max(1, wanted // copies))
        if batch < 1:
            raise Unsupported("does not fit, says the planner")
        # Its own composition of prompts and answers.
        return run(batch)["total_tokens_per_sec"] / (tensor * pipeline)
    batch = int(row.raw.get("batch") or 1)
    if not fits(batch):
        raise Unsupported("does not fit, says the planner")
    figure = "prefill_tokens_per_sec" if row.kind == "prefill" else "decode_tokens_per_sec"
    # Its latency is of one stage, and one sequence passes the stages of a pipeline one after the other.
    stages = pipeline if batch == 1 else 1
    return run(batch)[figure] / stages / (tensor * pipeline)
