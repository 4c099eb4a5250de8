#!/usr/bin/env python3
"""Writes golden.bin, what the PyPI package `gguf` makes of a few blocks, for the test of the same name.

    pip install gguf numpy
    python3 crates/quant/tests/golden.py

The file, little-endian, no padding:
1. for each type in the order of TYPES: 4 blocks (of plain floats 64 elements), then what they dequantize to, f32;
2. 512 values, f32;
3. for each type in the order of ROUNDED: those values quantized.
"""

import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4".split()
ROUNDED = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 MXFP4".split()
# Byte offsets of the f16 scales in a block.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}


def blocks(name, rng):
    """Blocks with an ordinary scale, a negative one, a subnormal one and an infinite one."""
    length, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    bytes_ = rng.integers(0, 256, (64 if length == 1 else 4, size), dtype=np.uint8)
    for at in SCALES.get(name, []):
        scales = np.array([0.0123, -1.5, 3.1e-6, np.inf], dtype=np.float16)
        bytes_[:, at:at + 2] = scales.view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        bytes_[:, 0] = [120, 0, 1, 255]
    return bytes_


def main():
    rng = np.random.default_rng(42)
    parts = []
    with np.errstate(all="ignore"):
        for name in TYPES:
            data = blocks(name, rng)
            parts += [data.tobytes(), quants.dequantize(data, GGMLQuantizationType[name]).astype("<f4").tobytes()]
        # Ordinary weights, an all-zero block, a constant one, tiny numbers and large ones.
        values = (rng.standard_normal(512) * 0.02).astype(np.float32)
        values[64:96] = 0
        values[96:128] = -0.37
        values[128:160] *= 1e-5
        values[160:192] *= 1e5
        parts.append(values.astype("<f4").tobytes())
        for name in ROUNDED:
            parts.append(quants.quantize(values.reshape(16, 32), GGMLQuantizationType[name]).tobytes())
    path = pathlib.Path(__file__).with_suffix(".bin")
    path.write_bytes(b"".join(parts))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
