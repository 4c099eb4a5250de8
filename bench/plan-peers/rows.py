"""The measured rows, in the words that every planner understands: sizes, devices, and one figure to predict."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "crates/plan/data/runs"
KINDS = ("train", "prefill", "decode", "serve")


class Unsupported(Exception):
    """A planner cannot predict a row, and why."""


@dataclass(frozen=True)
class Row:
    """A measured run. `measured` is tokens/s per device: trained, of the prompt, or of the answer, by its kind."""

    raw: dict
    measured: float

    @property
    def id(self):
        return self.raw["id"]

    @property
    def kind(self):
        return self.raw["kind"]

    @property
    def chip(self):
        return self.raw.get("chip_id")

    @property
    def model(self):
        return self.raw["model"]

    @property
    def notes(self):
        return self.raw.get("notes") or ""

    @property
    def dtype(self):
        return self.raw["dtype_norm"]

    @property
    def devices(self):
        return int(self.raw["count"])

    @property
    def isl(self):
        return int(self.raw.get("isl") or 0)

    @property
    def osl(self):
        return int(self.raw.get("osl") or 0)

    @property
    def layout(self):
        return self.raw["parallelism"]

    def size(self, name, default=1):
        """A degree of parallelism."""
        value = self.layout.get(name)
        try:
            return max(int(value), 1)
        except (TypeError, ValueError):
            return default

    @property
    def latent(self):
        return self.model.get("attention") == "MLA"

    @property
    def experts(self):
        return int(self.model.get("experts") or 0)

    @property
    def hybrid(self):
        """Layers of more than one sort of attention: no planner here but AIConfigurator has a shape for those."""
        return any(w in self.model["name"].lower() for w in ("gpt-oss", "qwen3.5", "nemotron-3", "llama-4", "v4-"))

    @property
    def gated(self):
        """As crates/plan reads it: three matrices in a feed-forward layer, unless it is just four times the width."""
        return bool(self.experts) or self.model["ffn"] != 4 * self.model["hidden"]

    @property
    def parameters(self):
        """Of a dense model, with both embeddings."""
        m = self.model
        head = m.get("head_dim") or m["hidden"] // m["heads"]
        attention = m["hidden"] * head * (2 * m["heads"] + 2 * m["kv_heads"])
        layer = attention + (3 if self.gated else 2) * m["hidden"] * m["ffn"]
        return m["layers"] * layer + 2 * m["vocab"] * m["hidden"]

    @property
    def weight_bits(self):
        """Bits of a weight, from the file's size where the row gives it."""
        if gib := self.model.get("weights_gib"):
            return 8 * gib * 2**30 / self.parameters
        return {"bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4}[self.dtype]

    @property
    def concurrency(self):
        """Requests in flight, where they are limited by the clients."""
        if found := re.search(r"concurrency (\d+)", self.notes):
            return int(found[1])
        return int(self.raw["batch"]) if self.raw.get("batch") else None

    @property
    def requests(self):
        """Of a test that sends them all at once."""
        found = re.search(r"\((\d+) requests\)", self.notes)
        return int(found[1]) if found else None

    @property
    def shared(self):
        """A prompt in small pieces at some depth: the tokens of a step are of one sequence, with one cache."""
        return self.kind == "prefill" and "depth" in self.notes


def read():
    """All rows that are comparable: their own figures, published as measured."""
    for kind in KINDS:
        for line in (RUNS / f"{kind}.jsonl").read_text().splitlines():
            raw = json.loads(line)
            if raw.get("quality") == 3 and (figure := _figure(raw)):
                yield Row(raw, figure)


def _figure(raw):
    """Tokens/s per device, by the same choice among a row's figures as crates/plan/src/runs/interpret.rs makes."""
    chips = float(raw["count"])
    nodes = raw["parallelism"].get("nodes")
    per_node = chips / nodes if nodes else 8.0
    scales = {
        "train": {"tokens_per_s_per_device": 1},
        "serve": {
            "output_tokens_per_s_per_device": 1,
            "derived_output_tokens_per_s_per_device": 1,
            "output_tokens_per_s_per_device_approx": 1,
            "output_tokens_per_s_total": chips,
        },
        "prefill": {
            "input_tokens_per_s_total": chips,
            "input_tokens_per_s_per_device": 1,
            "input_tokens_per_s_per_node": per_node,
            "prefill_tokens_per_s": chips,
            "tokens_per_s_total": chips,
        },
        "decode": {
            "output_tokens_per_s_per_device": 1,
            "output_tokens_per_s_per_node": per_node,
            "output_tokens_per_s_total": chips,
            "decode_tokens_per_s": chips,
            "tokens_per_s_total": chips,
            "tokens_per_s_per_sequence": chips / (raw.get("batch") or 1),
        },
    }[raw["kind"]]
    measured = raw["measured"]
    for name, scale in scales.items():
        if measured.get(name) is not None:
            return measured[name] / scale
    if raw["kind"] == "train" and measured.get("iteration_seconds"):
        tokens = raw["parallelism"].get("global_batch", raw.get("batch")) * raw["isl"]
        return tokens / measured["iteration_seconds"] / chips
    if raw["kind"] == "prefill" and measured.get("ttft_s"):
        return raw["isl"] / measured["ttft_s"] / chips
    # Rates of operations and sizes in memory are figures that the planners below do not answer in tokens.
    return None


def plain(row):
    """Refuses what a planner of steps has no word for."""
    if "speculative" in row.notes or "speculative" in str(row.layout):
        raise Unsupported("speculative decoding")
    if "instances" in row.layout or "prefill_tp_dp" in row.layout:
        raise Unsupported("several instances of a server")
    if "cached prefix" in row.notes or "of the prompt" in row.notes:
        raise Unsupported("prompts that are cached")


def serving(row, prefill_s, decode_s, largest):
    """Output tokens/s of a server, from a planner that knows the time of steps only.

    The usual composition for a steady state: every sequence's prompt is read once, and its tokens are decoded in a
    batch that stays full: B * osl / (B prompts' time + osl * a step's time at half the answer). Prompts are read in
    steps of up to 8192 tokens, as servers do by default. B is the clients' concurrency, the requests of a burst, or
    without either what fits in memory, and never more than `largest(wanted)`, what the planner says fits.
    """
    wanted = row.concurrency or row.requests
    batch = largest(wanted)
    if batch < 1:
        raise Unsupported("does not fit, says the planner")
    together = max(1, min(batch, 8192 // max(row.isl, 1)))
    prompts = prefill_s(together) * batch / together
    return batch * row.osl / (prompts + row.osl * decode_s(batch))


def largest_that(fits, wanted, cap=4096):
    """The largest batch for which `fits`, not above what is wanted (or a cap that no server's default passes)."""
    low, high = 0, min(wanted or cap, cap)
    if fits(high):
        return high
    while high - low > max(1, low // 64):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
