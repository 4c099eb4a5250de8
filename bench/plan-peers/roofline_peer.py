"""The roofline of a layer at the data sheet's peaks, as LLM-Viewer publishes it (arXiv 2402.16363).

LLM-Viewer is not packaged, and none of its code is here: this is its published method, for one device. Every product of
a layer takes the longer of its operations at the chip's peak and its bytes at the chip's bandwidth, with activations
read and written, and attention fused (its option). Chips are those of crates/plan.
"""

import tomllib

from rows import ROOT, Unsupported, plain

NAME = "Roofline as in LLM-Viewer"
PACKAGE = None
VERSION = "(arXiv 2402.16363)"
KINDS = ("prefill", "decode")
VARIANTS = {"defaults": None}


def load():
    pass


def predict(row, _variant):
    plain(row)
    if row.devices != 1:
        raise Unsupported("more than one device")
    if row.experts:
        raise Unsupported("a mixture of experts")
    if "CPU cores only" in row.raw["chip"]:
        raise Unsupported("on the CPU of a chip whose data sheet is of its GPU")
    path = ROOT / f"crates/plan/data/chips/{row.chip}.toml"
    if not row.chip or not path.exists():
        raise Unsupported("chip without a data sheet")
    chip = tomllib.loads(path.read_text())
    peaks = chip["peak_dense_tops"]
    small = row.dtype in ("fp8", "int8")
    peak = peaks.get("fp8") or peaks.get("int8") if small else peaks.get("fp16") or peaks.get("bf16")
    peak = (peak or peaks.get("fp32") or 0) * 1e12
    if not peak:
        raise Unsupported("no peak in the data sheet")
    bandwidth = chip["memory"]["bandwidth_gb_s"] * 1e9
    weight, half = row.weight_bits / 8, 1 if small else 2
    m = row.model
    head = m.get("head_dim") or m["hidden"] // m["heads"]
    width, queries, keys = m["hidden"], m["heads"] * head, m["kv_heads"] * head
    batch = int(row.raw.get("batch") or 1)
    if row.kind == "decode" or row.shared:
        tokens, context = batch, row.isl + row.osl / 2
        # Tokens of one sequence read its cache once.
        caches, pairs = (1 if row.shared else batch), tokens * context
    else:
        tokens, context = batch * row.isl, row.isl
        caches, pairs = batch, batch * row.isl**2

    def roof(operations, moved):
        return max(operations / peak, moved / bandwidth)

    def product(inner, outer):
        return roof(2 * tokens * inner * outer, inner * outer * weight + tokens * (inner + outer) * half)

    up = (m["ffn"],) * (2 if row.gated else 1)
    layer = product(width, queries) + 2 * product(width, keys) + product(queries, width)
    layer += sum(product(width, w) for w in up) + product(m["ffn"], width)
    layer += roof(4 * pairs * queries, (2 * caches * context * keys + 2 * tokens * queries) * half)
    # Two norms and two sums, each read and written.
    layer += 4 * roof(5 * tokens * width, 2 * tokens * width * half)
    ends = product(width, m["vocab"]) if row.kind == "decode" else roof(0, width * m["vocab"] * weight)
    return tokens / (m["layers"] * layer + ends)
