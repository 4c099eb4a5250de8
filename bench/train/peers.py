"""Times steps of training beside PyTorch's, in rounds that take turns, and prints a row of JSON for each.

    python3 bench/train/peers.py BINARY [--rounds 5] [--python PYTHON] [--sizes 15m,110m]

PyTorch as people train with it: transformers' Llama, BF16 autocast, fused AdamW, clipping, eager and compiled. Ours twice,
with products of BF16 numbers and of 8-bit integers. All get the same shapes, tokens of a step, and threads. PyTorch stays
loaded and waits; ours is started anew for every round, with two steps that do not count. PYTHON needs torch and transformers.
"""

import argparse
import json
import statistics
import subprocess
import sys

SIZES = {"15m": (288, 6, 6, 768, 16, 256), "110m": (768, 12, 12, 2048, 4, 512)}
THREADS = 2


def worker(mode, size):
    import resource
    import time

    import torch
    import transformers

    width, layers, heads, feed_forward, batch, length = SIZES[size]
    torch.set_num_threads(THREADS)
    config = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=width, intermediate_size=feed_forward, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=length,
        tie_word_embeddings=True, attn_implementation="sdpa",
    )
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(model) if mode == "compiled" else model

    def step():
        ids = torch.randint(0, 32000, (batch, length))
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return batch * length / (time.perf_counter() - start)

    for _ in range(3):
        step()
    print(json.dumps({"torch": torch.__version__, "parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    for line in sys.stdin:
        step()
        rates = [step() for _ in range(int(line))]
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"tokens_per_second": statistics.median(rates), "resident_bytes": resident}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--sizes", default="15m,110m")
    args = parser.parse_args()
    for size in args.sizes.split(","):
        steps = 3 if size == "15m" else 2
        workers = {}
        for mode in ("eager", "compiled"):
            command = [args.python, __file__, "--worker", mode, size]
            pipe = subprocess.PIPE
            workers[mode] = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            print(json.dumps({"size": size, "mode": mode, **json.loads(workers[mode].stdout.readline())}), flush=True)
        rows = {"bf16": [], "int8": [], "eager": [], "compiled": []}

        def ours(precision):
            command = [args.binary, "bench", "--train", size, "--json", "--rounds", str(steps)]
            command += ["--threads", str(THREADS), "--precision", precision]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            return {
                "tokens_per_second": found["train_tokens_per_second"],
                "resident_bytes": found["resident_bytes"],
                "flops": found["flops"],
                "peak_flops": found["peak_flops"],
            }

        def theirs(mode):
            workers[mode].stdin.write(f"{steps}\n")
            workers[mode].stdin.flush()
            return json.loads(workers[mode].stdout.readline())

        for round in range(args.rounds):
            turns = list(rows)
            turns = turns[round % 4 :] + turns[: round % 4]
            for who in turns:
                row = theirs(who) if who in workers else ours(who)
                rows[who].append(row)
                print(json.dumps({"size": size, "round": round + 1, "who": who, **row}), flush=True)
        for process in workers.values():
            process.stdin.close()
            process.wait()
        median = {who: statistics.median(r["tokens_per_second"] for r in found) for who, found in rows.items()}
        resident = {who: max(r["resident_bytes"] for r in found) for who, found in rows.items()}
        print(json.dumps({"size": size, "median": median, "resident": resident}), flush=True)
        for who in ("bf16", "int8"):
            print(json.dumps({
                "size": size, "who": who,
                "times_eager": median[who] / median["eager"],
                "times_compiled": median[who] / median["compiled"],
                "share_of_peak": statistics.median(r["flops"] / r["peak_flops"] for r in rows[who]),
                "memory_of_eager": resident[who] / resident["eager"],
                "memory_of_compiled": resident[who] / resident["compiled"],
            }), flush=True)


if sys.argv[1:2] == ["--worker"]:
    worker(*sys.argv[2:4])
else:
    main()
