#!/usr/bin/env python3
"""Times llama.cpp on a GGUF file: the peer of `autarky bench --turns`, with the same sizes, lines and keys.

Calls llama.cpp's C interface directly, as its own llama-bench and llama-batched-bench do: calls of up to 2048 tokens for
the prompts, logits of each one's last token only, then one call a step with one token of every sequence; no sampling.
Prints {"ready": true} when loaded, filled to the depth and warm; then a line of JSON with a round's speeds for each line
of standard input; and at its end what was run and how it was built.

Flash attention is as llama.cpp chooses (on, where the model allows it), unless --no-flash-attention is given: decode over a
long cache is faster without.

usage: llama_cpp_bench.py MODEL [--prompt N] [--generate N] [--depth N] [--sequences N] [--threads N]
                                [--no-flash-attention]
       llama_cpp_bench.py MODEL --first-token   the seconds from opening the file to the first token's logits, Python's
                                                own start not counted
"""

import argparse
import json
import os
import random
import resource
import sys
import time
from pathlib import Path

import llama_cpp as lib

BATCH = 2048  # tokens in a call; llama.cpp cuts them into micro-batches
MICRO_BATCH = 512  # llama.cpp's default
CACHE_UNIT = 256  # llama.cpp rounds a sequence's cache up to this
WARM_UP = 128, 8  # prompt tokens and steps of the first round, which is not timed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for flag, default in [("prompt", 512), ("generate", 64), ("depth", 0), ("sequences", 1), ("threads", os.cpu_count())]:
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--no-flash-attention", action="store_true")
    parser.add_argument("--first-token", action="store_true")
    return parser.parse_args()


class Engine:
    def __init__(self, args) -> None:
        self.depth, self.sequences = args.depth, args.sequences
        self.quiet = lib.llama_log_callback(lambda level, text, data: None)  # the library keeps the pointer only
        lib.llama_log_set(self.quiet, None)
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(args.model.encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {args.model}")
        params = lib.llama_context_default_params()
        positions = args.depth + args.prompt + args.generate + 8
        params.n_ctx = args.sequences * -(-positions // CACHE_UNIT) * CACHE_UNIT
        params.n_seq_max = args.sequences
        params.n_batch = BATCH
        params.n_ubatch = MICRO_BATCH
        params.n_threads = params.n_threads_batch = args.threads
        if args.no_flash_attention:
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp cannot make a context")
        self.memory = lib.llama_get_memory(self.context)
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.batch = lib.llama_batch_init(BATCH, 0, 1)
        self.positions = [0] * args.sequences

    def push(self, tokens: int) -> None:
        """Computes `tokens` random tokens more of every sequence, one sequence after another."""
        batch, batch.n_tokens = self.batch, 0
        for sequence in range(self.sequences):
            for left in range(tokens, 0, -1):
                i = batch.n_tokens
                batch.token[i] = random.randrange(self.vocabulary)
                batch.pos[i] = self.positions[sequence]
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = sequence
                batch.logits[i] = left == 1
                batch.n_tokens += 1
                self.positions[sequence] += 1
                if batch.n_tokens == BATCH:
                    self.decode()
        self.decode()

    def decode(self) -> None:
        if self.batch.n_tokens and lib.llama_decode(self.context, self.batch):
            sys.exit("llama_decode failed")
        self.batch.n_tokens = 0
        lib.llama_synchronize(self.context)

    def cut(self) -> None:
        """Cuts every sequence back to the depth."""
        for sequence in range(self.sequences):
            lib.llama_memory_seq_rm(self.memory, sequence, self.depth, -1)
            self.positions[sequence] = self.depth

    def time(self, prompt: int, generate: int) -> dict:
        """A round from the depth on. A step that does not count comes first: it brings back into caches and page tables what
        another engine's turn pushed out."""
        self.cut()
        self.push(1)
        self.cut()
        begin = time.perf_counter()
        self.push(prompt)
        middle = time.perf_counter()
        for _ in range(generate):
            self.push(1)
        end = time.perf_counter()
        return {
            "prefill_tokens_per_second": self.sequences * prompt / (middle - begin),
            "decode_tokens_per_second": self.sequences * generate / (end - middle) if generate else None,
        }


def say(fields: dict) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    args = arguments()
    flags = Path(sys.prefix, "llama_cpp.flags")
    report = {
        "version": f"llama-cpp-python {lib.__version__}",
        "threads": args.threads,
        "flash_attention": "off" if args.no_flash_attention else "auto",
        "isa": " ".join(lib.llama_print_system_info().decode().replace("|", " ").replace(" = 1", "").split()),
        "flags": flags.read_text().strip() if flags.exists() else "unknown: not built by bench/peers/setup.sh",
    }
    if args.first_token:
        begin = time.perf_counter()
        Engine(args).push(6)
        say({"first_token_seconds": time.perf_counter() - begin, **report})
        return
    engine = Engine(args)
    engine.push(args.depth)
    engine.time(min(args.prompt, WARM_UP[0]), min(args.generate, WARM_UP[1]))
    say({"ready": True})
    for _ in sys.stdin:
        say(engine.time(args.prompt, args.generate))
    say({**report, "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})


if __name__ == "__main__":
    main()
