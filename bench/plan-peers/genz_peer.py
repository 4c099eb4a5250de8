"""GenZ: prompts, decoding and serving on the systems that it comes with, by `prefill_moddeling`/`decode_moddeling`."""

import contextlib
import io
import shutil
import sys
import types
import warnings

from rows import Unsupported, largest_that, plain, serving

NAME = "GenZ"
PACKAGE = "genz_llm"
KINDS = ("prefill", "decode", "serve")
VARIANTS = {"defaults": 1.0}
SYSTEMS = {
    "nvidia-a100-sxm-40": "A100_40GB_GPU",
    "nvidia-a100-sxm-80": "A100_80GB_GPU",
    "nvidia-h100-sxm": "H100_GPU",
    "nvidia-gh200": "GH200_GPU",
    "nvidia-gb200": "GB200",
    "nvidia-b100": "B100",
    "amd-mi300x": "MI300X",
    "amd-mi325x": "MI325X",
    "intel-gaudi3": "Gaudi3",
    "google-tpu-v4": "TPUv4",
    "google-tpu-v5e": "TPUv5e",
    "google-tpu-v5p": "TPUv5p",
    "google-tpu-v6e": "TPUv6",
}
# It has one format for weights, cache and arithmetic.
BITS = {"bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "int8": "int8", "fp4": "fp4"}


class _Nothing(types.ModuleType):
    """A module that has every name. GenZ imports its plotting packages even where nothing is drawn."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *a, **k: None


def load():
    global genz, configs
    for name in ("plotly", "plotly.express", "plotly.graph_objects", "plotly.subplots", "plotnine", "IPython"):
        sys.modules.setdefault(name, _Nothing(name))
    sys.modules.setdefault("IPython.display", _Nothing("IPython.display"))
    warnings.filterwarnings("ignore")
    import GenZ as genz
    from GenZ.Models import default_models as configs


def unload():
    """It leaves a file of layers behind for every call."""
    from GenZ.Models.get_language_model import DATA_PATH

    shutil.rmtree(DATA_PATH, ignore_errors=True)


def predict(row, variant):
    plain(row)
    if row.chip not in SYSTEMS:
        raise Unsupported("chip not in its list")
    if row.dtype not in BITS:
        raise Unsupported(f"format {row.dtype}: weights and arithmetic of different formats")
    if row.latent or row.hybrid:
        raise Unsupported("attention that it has no model of")
    if row.shared:
        raise Unsupported("small pieces of one prompt at a depth")
    if row.size("attention_dp") > 1 or "DEP" in str(row.layout.get("note", "")) or row.layout.get("dp_attention"):
        raise Unsupported("attention copied while experts are spread")
    m = row.model
    model = configs.ModelConfig(
        model="row",
        vocab_size=m["vocab"],
        hidden_size=m["hidden"],
        intermediate_size=m["moe_ffn"] if row.experts else m["ffn"],
        num_ffi=2 if row.gated else 1,
        num_decoder_layers=m["layers"],
        num_attention_heads=m["heads"],
        num_key_value_heads=m["kv_heads"],
        head_dim=m.get("head_dim"),
        num_experts=row.experts or 1,
        expert_top_k=m.get("topk") or 1,
    )
    pipeline = row.size("pp")
    expert = max(row.size("moe_ep"), row.size("ep")) if row.experts else 1
    tensor = row.size("tp", row.devices // pipeline) // expert or 1
    used = tensor * expert * pipeline
    copies = max(1, row.devices // used)
    shape = dict(
        model=model,
        system_name=SYSTEMS[row.chip],
        system_eff=VARIANTS[variant],
        bits=BITS[row.dtype],
        tensor_parallel=tensor,
        expert_parallel=expert,
        pipeline_parallel=pipeline,
        parallelism_heirarchy=f"TP{{{tensor}}}_EP{{{expert}}}_PP{{{pipeline}}}",
    )

    def quietly(call, **more):
        with contextlib.redirect_stdout(io.StringIO()):
            return call(**shape, **more)

    def prefill_s(batch):
        return quietly(genz.prefill_moddeling, batch_size=batch, input_tokens=row.isl)["Latency"] / 1e3

    def decode_s(batch):
        # One beam: its default of 4 is for a search over beams.
        found = quietly(
            genz.decode_moddeling,
            batch_size=batch,
            Bb=1,
            input_tokens=max(row.isl, 1),
            output_tokens=max(row.osl // 2, 1),
        )
        return batch / found["Throughput"]

    def fits(batch):
        try:
            decode_s(batch)
        except ValueError as problem:
            if "would not fit" in str(problem):
                return False
            raise
        return True

    if row.kind == "prefill":
        batch = int(row.raw.get("batch") or 1)
        return batch * row.isl / prefill_s(batch) / row.devices
    if row.kind == "decode":
        batch = int(row.raw.get("batch") or 64)
        return batch / decode_s(batch) / row.devices

    def largest(wanted):
        return largest_that(fits, wanted and max(1, wanted // copies))

    return serving(row, prefill_s, decode_s, largest) / used
