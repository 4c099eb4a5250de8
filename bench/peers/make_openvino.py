#!/usr/bin/env python3
"""Writes the shape of Llama-3.2-1B with random weights as OpenVINO's int4 model, as `optimum-cli export openvino
--weight-format int4` does it: groups of 128 weights to a scale, embeddings in 8 bits.

usage: make_openvino.py OUT_FOLDER   needs optimum-intel, nncf, openvino, transformers and torch, and 12 GB of memory
"""

import sys
import tempfile

import torch
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = LlamaConfig(
    num_hidden_layers=16,
    hidden_size=2048,
    intermediate_size=8192,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    vocab_size=128256,
    max_position_embeddings=32768,
    rope_theta=5e5,
    tie_word_embeddings=True,
    dtype="bfloat16",
)
INT4 = OVWeightQuantizationConfig(bits=4, sym=True, group_size=128, ratio=1.0)

torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
with tempfile.TemporaryDirectory() as folder:
    LlamaForCausalLM(SHAPE).save_pretrained(folder)
    model = OVModelForCausalLM.from_pretrained(folder, export=True, compile=False, quantization_config=INT4)
    model.save_pretrained(sys.argv[1])
