#!/usr/bin/env python3
"""Loads servers with the same requests, in turn, and says what came of it.

  load.py NAME=http://127.0.0.1:8080/v1 NAME=... [--clients 16] [--requests 48] [--prompt 512] [--generate 128]
          [--rounds 5] [--vocabulary 128000] [--model NAME] [--rows rows.jsonl]

Every client sends a request to /completions, reads its stream to the end, and sends the next, until all requests of the
round are done (a closed loop). Prompts are random tokens, different in every request, so that no cache of prompts helps
anybody; `ignore_eos` makes every answer as long as asked for. Servers take turns, round by round. Only the standard
library is used.

What is told of a round: total tokens a second (those of prompts and of answers, over the time from the first request to
the last event); time to first token; time per output token of a request (from its first token to its last, over their
number less one), median and 99th percentile; and the gaps between a stream's events, 99th percentile.
"""
import argparse
import http.client
import json
import queue
import random
import statistics
import threading
import time
import urllib.parse


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, round(p / 100 * (len(values) - 1)))] if values else float("nan")


def request(where, path, body):
    """Sends a request, on a connection of its own, and reads its stream; gives the times of its events with text."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=3600)
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read(2000)!r}")
    events, usage = [], None
    for line in response:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise SystemExit(f"error: {event['error']}")
        usage = event.get("usage") or usage
        if event.get("choices"):
            events.append(time.perf_counter())
    connection.close()
    return start, events, usage


def run(url, args, seed):
    """One round; a row of what was measured."""
    where = urllib.parse.urlsplit(url)
    path = where.path.rstrip("/") + "/completions"
    rng = random.Random(seed)
    waiting = queue.Queue()
    for _ in range(args.requests):
        tokens = [rng.randrange(1000, args.vocabulary) for _ in range(args.prompt)]
        body = {"model": args.model, "prompt": tokens, "max_tokens": args.generate, "temperature": 0, "stream": True,
                "ignore_eos": True, "stream_options": {"include_usage": True}, "seed": 1}
        waiting.put(json.dumps(body))
    done, failures = [], []

    def client():
        try:
            while True:
                try:
                    body = waiting.get_nowait()
                except queue.Empty:
                    return
                done.append(request(where, path, body))
        except BaseException as problem:  # told by the main thread, which ends the run
            failures.append(problem)

    threads = [threading.Thread(target=client) for _ in range(args.clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{url}: {failures[0]!r}")
    seconds = max(events[-1] for _, events, _ in done) - begin
    # What the server counted, not what was asked for.
    prompt = sum(usage["prompt_tokens"] for _, _, usage in done)
    generated = sum(usage["completion_tokens"] for _, _, usage in done)
    first = [events[0] - start for start, events, _ in done]
    each = [(events[-1] - events[0]) / (usage["completion_tokens"] - 1) for _, events, usage in done
            if usage["completion_tokens"] > 1]
    gaps = [b - a for _, events, _ in done for a, b in zip(events, events[1:])]
    return {"seconds": seconds, "prompt_tokens": prompt, "generated_tokens": generated,
            "tokens_per_second": (prompt + generated) / seconds, "generated_per_second": generated / seconds,
            "first_token_ms": {"p50": percentile(first, 50) * 1e3, "p99": percentile(first, 99) * 1e3},
            "per_token_ms": {"p50": percentile(each, 50) * 1e3, "p99": percentile(each, 99) * 1e3},
            "gap_ms": {"p50": percentile(gaps, 50) * 1e3, "p99": percentile(gaps, 99) * 1e3}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    for flag, default in [("clients", 16), ("requests", 48), ("prompt", 512), ("generate", 128), ("rounds", 5),
                          ("vocabulary", 128000)]:
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--model", default="")
    # Prompts that a server saw in an earlier run would be in its cache.
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--rows")
    args = parser.parse_args()
    servers = [server.split("=", 1) for server in args.servers]
    rows = []
    for number in range(args.rounds):
        # Whoever is first in one round is last in the next.
        for name, url in servers if number % 2 == 0 else servers[::-1]:
            row = {"server": name, "round": number, **run(url, args, args.seed + number)}
            rows.append(row)
            print(f"{number} {name:14} {row['tokens_per_second']:8.1f} tok/s  first token {row['first_token_ms']['p50']:7.0f} ms"
                  f"  per token p50 {row['per_token_ms']['p50']:6.1f} p99 {row['per_token_ms']['p99']:6.1f} ms"
                  f"  gap p99 {row['gap_ms']['p99']:6.1f} ms", flush=True)
            if args.rows:
                with open(args.rows, "a", encoding="utf-8") as out:
                    out.write(json.dumps({**row, "clients": args.clients, "prompt": args.prompt, "generate": args.generate}) + "\n")
    for name, _ in servers:
        own = [row for row in rows if row["server"] == name]
        median = lambda get: statistics.median(get(row) for row in own)
        print(f"median {name:14} {median(lambda r: r['tokens_per_second']):8.1f} tok/s"
              f"  per token p99 {median(lambda r: r['per_token_ms']['p99']):6.1f} ms"
              f"  first token p50 {median(lambda r: r['first_token_ms']['p50']):7.0f} ms")


if __name__ == "__main__":
    main()
