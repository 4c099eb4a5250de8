#!/usr/bin/env python3
"""Writes a GGUF file with the exact shapes of a published model and random weights.

How fast a model runs does not depend on the values of its weights, so such a file times an engine where the
published one cannot be downloaded. The text it writes is noise. Needs numpy only; tensors are written one by one,
so the memory needed is that of the largest.

usage: make_model.py SHAPE QUANT OUT.gguf

QUANT is Q4_0, Q8_0, Q4_K (with Q6_K where llama.cpp's Q4_K_M mix has it) or F32.
"""

import struct
import sys
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of a published model, as its `config.json` gives them."""

    architecture: str
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    pre_tokenizer: str
    rope_base: float
    tied: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_hidden: int = 0


SHAPES = {
    "llama3.2-1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128256, "llama-bpe", 5e5),
    "llama3.2-3b": Shape("llama", 28, 3072, 8192, 24, 8, 128, 128256, "llama-bpe", 5e5),
    "llama3.1-8b": Shape("llama", 32, 4096, 14336, 32, 8, 128, 128256, "llama-bpe", 5e5, tied=False),
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 4864, 14, 2, 64, 151936, "qwen2", 1e6, qkv_bias=True),
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, "qwen2", 1e6, qk_norm=True),
    "qwen3-4b": Shape("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, "qwen2", 1e6, qk_norm=True),
    "qwen3-8b": Shape("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, "qwen2", 1e6, tied=False, qk_norm=True),
    "qwen3-30b-a3b": Shape(
        "qwen3moe", 48, 2048, 6144, 32, 4, 128, 151936, "qwen2", 1e6, tied=False, qk_norm=True,
        experts=128, experts_used=8, expert_hidden=768,
    ),
}

# ggml's number for each type, the values in a block, and the block's bytes.
TYPES = {"F32": (0, 1, 4), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210)}
# llama.cpp's number for each mix, `general.file_type`.
FILE_TYPES = {"F32": 0, "Q4_0": 2, "Q8_0": 7, "Q4_K": 15}
ALIGNMENT = 32


@dataclass(frozen=True)
class Tensor:
    name: str
    type: str
    sizes: tuple[int, ...]  # the fastest first, as GGUF stores them
    deviation: float = 0.0  # standard deviation of the values; 0 for a tensor of ones

    def bytes(self) -> int:
        _, values, size = TYPES[self.type]
        return int(np.prod(self.sizes)) // values * size

    def write(self, out, rng) -> None:
        count = int(np.prod(self.sizes))
        if self.type == "F32":
            values = np.ones(count) if self.deviation == 0.0 else rng.standard_normal(count) * self.deviation
            out.write(values.astype("<f4").tobytes())
            return
        _, values, size = TYPES[self.type]
        blocks = rng.integers(0, 256, (count // values, size), dtype=np.uint8)
        for column, scale in scales(self.type, self.deviation):
            blocks[:, column : column + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        out.write(blocks.tobytes())


def scales(quant: str, deviation: float) -> list[tuple[int, float]]:
    """Where a block of random bits keeps its f16 scales, and the scale that gives its values this deviation."""
    nibble, byte = 16 / 12**0.5, 256 / 12**0.5  # deviations of uniform 4-bit and 8-bit numbers
    sub_scale = 63 / 2  # mean of uniform 6-bit numbers
    match quant:
        case "Q4_0":
            return [(0, deviation / nibble)]
        case "Q8_0":
            return [(0, deviation / byte)]
        case "Q4_K":  # d × scale × q − dmin × minimum, with dmin chosen for a mean of zero
            d = deviation / nibble / sub_scale
            return [(0, d), (2, d * 15 / 2)]
        case "Q6_K":  # d × signed 8-bit scale × signed 6-bit q
            return [(208, deviation / (byte * 64 / 12**0.5))]
    raise ValueError(quant)


def tensors(shape: Shape, quant: str) -> list[Tensor]:
    """Every tensor of the model, by llama.cpp's names."""
    s, width, q_width, kv_width = shape, shape.width, shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    mixed = quant == "Q4_K"
    head = {"Q4_0": "Q6_K", "Q4_K": "Q6_K"}.get(quant, quant)
    if width % TYPES[head][1]:
        head = "Q8_0"

    def linear(name, rows, columns, quant=quant, experts=()):
        return Tensor(name, quant, (columns, rows, *experts), columns**-0.5)

    def ones(name, size):
        return Tensor(name, "F32", (size,))

    made = [
        linear("token_embd.weight", s.vocabulary, width, head if s.tied else quant),
        ones("output_norm.weight", width),
    ]
    if not s.tied:
        made.append(linear("output.weight", s.vocabulary, width, head))
    for i in range(s.layers):
        block = f"blk.{i}."
        # The first and last eighth of the layers, and every third between, keep two projections in more bits.
        eighth = s.layers // 8
        in_more_bits = i < eighth or i >= 7 * s.layers // 8 or (i - eighth) % 3 == 2
        better = "Q6_K" if mixed and in_more_bits else quant
        made += [
            ones(block + "attn_norm.weight", width),
            linear(block + "attn_q.weight", q_width, width),
            linear(block + "attn_k.weight", kv_width, width),
            linear(block + "attn_v.weight", kv_width, width, better),
            linear(block + "attn_output.weight", width, q_width),
            ones(block + "ffn_norm.weight", width),
        ]
        if s.qkv_bias:
            sizes = {"q": q_width, "k": kv_width, "v": kv_width}
            made += [Tensor(f"{block}attn_{name}.bias", "F32", (size,), 0.02) for name, size in sizes.items()]
        if s.qk_norm:
            made += [ones(f"{block}attn_{name}_norm.weight", s.head_width) for name in "qk"]
        if s.experts:
            made.append(linear(block + "ffn_gate_inp.weight", s.experts, width, "F32"))
            rows, kind, experts = s.expert_hidden, "_exps", (s.experts,)
        else:
            rows, kind, experts = s.hidden, "", ()
        made += [
            linear(f"{block}ffn_gate{kind}.weight", rows, width, experts=experts),
            linear(f"{block}ffn_up{kind}.weight", rows, width, experts=experts),
            linear(f"{block}ffn_down{kind}.weight", width, rows, better, experts),
        ]
    return made


def byte_characters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (chr(256 + i) for i in range(256))
    return [chr(byte) if byte in plain else next(others) for byte in range(256)]


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """`size` tokens and their merges: the bytes, all pairs of bytes, triples ..., and two control tokens at the end."""
    alphabet = byte_characters()
    tokens, merges, parent = list(alphabet), [], 0
    while len(tokens) < size - 2:
        for character in alphabet[: size - 2 - len(tokens)]:
            merges.append(f"{tokens[parent]} {character}")
            tokens.append(tokens[parent] + character)
        parent += 1
    return [*tokens, "<|begin|>", "<|end|>"], merges


def metadata(name: str, shape: Shape, quant: str) -> dict:
    """The metadata by GGUF's keys; Python's int, float, str, list and bool become u32, f32, string, array and bool."""
    s, arch = shape, shape.architecture
    tokens, merges = vocabulary(s.vocabulary)
    entries = {
        "general.architecture": arch,
        "general.name": f"{name} with random weights",
        "general.file_type": FILE_TYPES[quant],
        "general.alignment": ALIGNMENT,
        f"{arch}.block_count": s.layers,
        f"{arch}.context_length": 32768,
        f"{arch}.embedding_length": s.width,
        f"{arch}.feed_forward_length": s.hidden,
        f"{arch}.attention.head_count": s.heads,
        f"{arch}.attention.head_count_kv": s.kv_heads,
        f"{arch}.attention.key_length": s.head_width,
        f"{arch}.attention.value_length": s.head_width,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{arch}.rope.dimension_count": s.head_width,
        f"{arch}.rope.freq_base": s.rope_base,
        f"{arch}.vocab_size": s.vocabulary,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": s.pre_tokenizer,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([1] * (len(tokens) - 2) + [3, 3], "<i4"),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": len(tokens) - 2,
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.add_bos_token": False,
    }
    if s.experts:
        entries |= {
            f"{arch}.expert_count": s.experts,
            f"{arch}.expert_used_count": s.experts_used,
            f"{arch}.expert_feed_forward_length": s.expert_hidden,
        }
    return entries


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(value) -> bytes:
    """A metadata value with its type before it."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + string(value)
        case list():
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string, value))
        case np.ndarray():
            return struct.pack("<IIQ", 9, 5, len(value)) + value.tobytes()
    raise TypeError(type(value))


def aligned(size: int) -> int:
    return -size % ALIGNMENT + size


def write(path: str, entries: dict, made: list[Tensor], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    with open(path, "wb") as out:
        out.write(struct.pack("<4sIQQ", b"GGUF", 3, len(made), len(entries)))
        for key, value in entries.items():
            out.write(string(key) + entry(value))
        offset = 0
        for t in made:
            numbers = (len(t.sizes), *t.sizes, TYPES[t.type][0], offset)
            out.write(string(t.name) + struct.pack(f"<I{len(t.sizes)}QIQ", *numbers))
            offset += aligned(t.bytes())
        for t in made:
            out.write(bytes(aligned(out.tell()) - out.tell()))
            t.write(out, rng)
        out.write(bytes(aligned(out.tell()) - out.tell()))


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in FILE_TYPES:
        sys.exit(f"{__doc__}\nSHAPE is one of {', '.join(SHAPES)}")
    name, quant, path = sys.argv[1:]
    shape = SHAPES[name]
    if shape.width % TYPES[quant][1]:
        sys.exit(f"{quant} needs a width that {TYPES[quant][1]} divides; {name} has {shape.width}")
    write(path, metadata(name, shape, quant), tensors(shape, quant))


if __name__ == "__main__":
    main()
