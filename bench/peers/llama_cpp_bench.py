#!/usr/bin/env python3
"""Times llama.cpp on a GGUF file and prints one line of JSON with the keys of `autarky bench --json`.

Calls llama.cpp's C interface directly, as its own llama-bench does: one call for the prompt, logits of its last
token only, then one call a token; no sampling. The first of the runs warms up and is not counted.

usage: llama_cpp_bench.py MODEL [--prompt N] [--generate N] [--depth N] [--threads N] [--runs N] [--flash-attention]
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import time
from pathlib import Path

import llama_cpp as lib

MICRO_BATCH = 512  # llama.cpp's default


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--flash-attention", action="store_true")
    return parser.parse_args()


def open_model(args):
    quiet = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(quiet, None)
    open_model.quiet = quiet  # the library keeps the pointer only
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(args.model.encode(), lib.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp cannot load {args.model}")
    params = lib.llama_context_default_params()
    params.n_ctx = args.depth + args.prompt + args.generate + 8
    params.n_batch = 2048
    params.n_ubatch = MICRO_BATCH
    params.n_threads = params.n_threads_batch = args.threads
    on, auto = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED, lib.LLAMA_FLASH_ATTN_TYPE_AUTO
    params.flash_attn_type = on if args.flash_attention else auto
    context = lib.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp cannot make a context")
    return model, context


def main() -> None:
    args = arguments()
    model, context = open_model(args)
    tokens = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def decode(count: int) -> None:
        ids = (lib.llama_token * count)(*(random.randrange(tokens) for _ in range(count)))
        if lib.llama_decode(context, lib.llama_batch_get_one(ids, count)):
            sys.exit("llama_decode failed")

    def run() -> tuple[float, float]:
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        for start in range(0, args.depth, 2048):
            decode(min(2048, args.depth - start))
        begin = time.perf_counter()
        decode(args.prompt)
        lib.llama_synchronize(context)
        middle = time.perf_counter()
        for _ in range(args.generate):
            decode(1)
            lib.llama_synchronize(context)
        return args.prompt / (middle - begin), args.generate / (time.perf_counter() - middle)

    runs = [run() for _ in range(args.runs + 1)][1:]
    flags = Path(sys.prefix, "llama_cpp.flags")
    report = {
        "engine": "llama.cpp",
        "version": f"llama-cpp-python {lib.__version__}",
        "prefill_tokens_per_second": statistics.median(prefill for prefill, _ in runs),
        "decode_tokens_per_second": statistics.median(decode for _, decode in runs),
        "threads": args.threads,
        "runs": args.runs,
        "flash_attention": "on" if args.flash_attention else "auto",
        "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "isa": " ".join(lib.llama_print_system_info().decode().split()),
        "flags": flags.read_text().strip() if flags.exists() else "unknown: not built by bench/peers/setup.sh",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
