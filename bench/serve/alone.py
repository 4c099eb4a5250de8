#!/usr/bin/env python3
"""One client of `autarky serve` beside `autarky bench`, in turns: what serving costs where nobody shares the machine.

  alone.py --binary target/release/autarky --model MODEL.gguf [--prompt 512] [--generate 128] [--rounds 5]
           [--vocabulary 128000] [--rows rows.jsonl]

Prefill is the prompt's tokens over the time to the first token; decode, the other tokens over the time from the first to
the last. Prompts are random tokens, another for each round. Only the standard library is used.
"""
import argparse
import json
import random
import statistics
import subprocess
import tempfile
import urllib.parse

from load import request
from soak import Server


def served(server, args, rng):
    tokens = [rng.randrange(1000, args.vocabulary) for _ in range(args.prompt)]
    body = {"model": server.model, "prompt": tokens, "max_tokens": args.generate, "temperature": 0, "stream": True,
            "ignore_eos": True, "stream_options": {"include_usage": True}}
    where = urllib.parse.urlsplit(f"http://127.0.0.1:{server.port}")
    start, events, usage = request(where, "/v1/completions", json.dumps(body))
    return {"prefill": usage["prompt_tokens"] / (events[0] - start),
            "decode": (usage["completion_tokens"] - 1) / (events[-1] - events[0])}


def benched(args):
    command = [args.binary, "bench", args.model, "--prompt", str(args.prompt), "--generate", str(args.generate),
               "--rounds", "1", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {part: found[f"{part}_tokens_per_second"] for part in ("prefill", "decode")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    for flag, default in [("prompt", 512), ("generate", 128), ("rounds", 5), ("vocabulary", 128000)]:
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--rows")
    args = parser.parse_args()
    server, rng, rows = Server(args, data=tempfile.mkdtemp(prefix="autarky-alone-")), random.Random(), []
    served(server, args, rng)
    for number in range(args.rounds):
        turns = {"serve": lambda: served(server, args, rng), "bench": lambda: benched(args)}
        order = list(turns) if number % 2 == 0 else list(turns)[::-1]
        row = {"round": number, "began": order[0], **{name: turns[name]() for name in order}}
        rows.append(row)
        print(row, flush=True)
        if args.rows:
            with open(args.rows, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
    server.stop()
    for part in ("prefill", "decode"):
        both = {name: statistics.median(row[name][part] for row in rows) for name in ("serve", "bench")}
        print(f"{part}: serve {both['serve']:.1f} tokens/s, bench {both['bench']:.1f}: {both['serve'] / both['bench']:.3f}")


if __name__ == "__main__":
    main()
