#!/usr/bin/env python3
"""Checks this crate against the PyPI package `gguf` on random blocks of every type.

    pip install gguf numpy
    python3 crates/quant/tests/check_gguf.py            # from the root of the repository
    python3 crates/quant/tests/check_gguf.py --blocks 200000 --seed 7

Dequantization must agree bit for bit (of NaNs only that they are NaN): for random bytes, for every one of the 65,536
f16 scales or 256 E8M0 scales (infinities, NaNs, subnormals), and both through `dequantize` and through `codes` with
the formula in its documentation. Types that `gguf` can quantize must come out as the same bytes (MXFP4: but where
float32 rounds log2 up to the next integer, which this crate does not). For every type the script prints the error of
quantizing normal, Student-t (4 degrees of freedom) and uniform numbers: root mean square, relative to theirs.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ROOT = pathlib.Path(__file__).resolve().parents[3]
FLOATS = ["F32", "F16", "BF16"]
ROUNDED = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 MXFP4".split()
BLOCKS = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
# Byte offsets of the f16 scales in a block.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}


def build(example):
    """Builds an example and returns the path of its binary."""
    out = subprocess.run(
        ["cargo", "build", "--release", "-q", "-p", "autarky-quant", "--example", example, "--message-format=json"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE,
    ).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == example:
            return message["executable"]
    sys.exit(f"cargo named no binary for {example}")


def random_blocks(name, count, rng):
    """Random bytes; then blocks whose scales are ordinary numbers; then every possible scale."""
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    wild = rng.integers(0, 256, (count, size), dtype=np.uint8)
    if name in FLOATS:
        every = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        return np.concatenate([wild, every if size == 2 else wild])
    tame = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[name]:
        scale = (rng.standard_normal(count) * 0.01).astype(np.float16)
        tame[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
    parts = [wild, tame]
    for at in SCALES[name]:
        every = rng.integers(0, 256, (1 << 16, size), dtype=np.uint8)
        every[:, at:at + 2] = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        parts.append(every)
    if name == "MXFP4":
        every = rng.integers(0, 256, (256, size), dtype=np.uint8)
        every[:, 0] = np.arange(256)
        parts.append(every)
    return np.concatenate(parts)


def run(binary, arguments, data):
    return subprocess.run([binary, *arguments], input=data.tobytes(), capture_output=True, check=True).stdout


def weights(count, rng):
    """Rows of 256 numbers of many magnitudes, some zero, some constant, some all of one sign."""
    values = rng.standard_normal((count, 256)) * np.exp2(rng.integers(-10, 6, (count, 1)))
    values[::16] = 0
    values[1::16] = values[1::16, :1]
    values[2::16] = np.abs(values[2::16])
    values[3::16] = np.round(values[3::16] * 8) / 8 + 0.0  # no -0: which zero is the minimum depends on the machine
    return values.astype(np.float32)


def log2_rounds_up(values):
    """Rows of 32 whose largest magnitude is just below a power of two."""
    mantissa, _ = np.frexp(np.abs(values.reshape(-1, 32)).max(axis=-1))
    return mantissa > 1 - 2.0**-18


def check_quantize(name, binary, count, rng):
    values = weights(count, rng)
    qtype = GGMLQuantizationType[name]
    theirs = quants.quantize(values, qtype).view(np.uint8).reshape(-1, GGML_QUANT_SIZES[qtype][1])
    ours = np.frombuffer(run(binary, [name], values), dtype=np.uint8).reshape(theirs.shape)
    good = (ours == theirs).all(axis=-1)
    if name == "MXFP4":
        good |= log2_rounds_up(values)
    return good.all()


def errors(name, binary, rng):
    row = []
    qtype = GGMLQuantizationType[name]
    for values in [rng.standard_normal(1 << 18), rng.standard_t(4, 1 << 18), rng.uniform(-1, 1, 1 << 18)]:
        values = values.astype(np.float32)
        blocks = np.frombuffer(run(binary, [name], values), dtype=np.uint8).reshape(-1, GGML_QUANT_SIZES[qtype][1])
        off = quants.dequantize(blocks, qtype).ravel() - values
        row.append(np.sqrt(np.mean(off**2) / np.mean(values**2)))
    return row


def same_bits(ours, theirs):
    nan = np.isnan(theirs)
    return np.array_equal(np.isnan(ours), nan) and np.array_equal(
        ours.view(np.uint32)[~nan], theirs.view(np.uint32)[~nan]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=4096, help="random blocks of each kind and type")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    dequantize = build("dequantize")
    failed = False
    for name in FLOATS + BLOCKS:
        blocks = random_blocks(name, args.blocks, rng)
        with np.errstate(all="ignore"):
            theirs = quants.dequantize(blocks, GGMLQuantizationType[name]).ravel()
        for flag in [[], ["--codes"]] if name in BLOCKS else [[]]:
            ours = np.frombuffer(run(dequantize, [name, *flag], blocks), dtype="<f4")
            good = ours.shape == theirs.shape and same_bits(ours, theirs)
            failed |= not good
            print(f"{name:7} {' '.join(['dequantize', *flag]):20} {len(blocks):8} blocks  {'same bits' if good else 'DIFFERENT'}")
    quantize = build("quantize")
    for name in ROUNDED:
        good = check_quantize(name, quantize, args.blocks, rng)
        failed |= not good
        print(f"{name:7} {'quantize':20} {8 * args.blocks:8} blocks  {'same bytes' if good else 'DIFFERENT'}")
    print("relative error        normal  student-t  uniform")
    for name in FLOATS + BLOCKS:
        print(f"{name:7}            " + "".join(f"{error:10.5f}" for error in errors(name, quantize, rng)))
    sys.exit(failed)


if __name__ == "__main__":
    main()
