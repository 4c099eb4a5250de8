"""Teaches a small model to add, by rewards alone, after a careless teacher.

    python3 bench/train/arithmetic.py BINARY --out FOLDER [--first 1000] [--steps 300] [--depth 2] [--seed 1]

1. The 1,000 sums of a number below 100 and one below 10 are shuffled, and 100 of them are held out from everything.
2. A new model is trained on the others for `--first` steps, eight times each, every time with an answer that is 0 to 6 too high,
   all equally likely: it learns what an answer looks like and about how large it is, and is right once in seven times.
3. GRPO on the same prompts: the reward is 1 where the answer is the sum and 0 elsewhere, for `--steps` steps. The right
   answer is in a field that only the reward reads.

Printed are rows of the metrics: the mean reward on the held-out sums (the most probable answer to each) before, on the way and
after, and that of the answers that were drawn in the steps.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] + '=' }}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
)


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def train(binary, run, out):
    start = time.monotonic()
    out.mkdir(exist_ok=True)
    command = [binary, "train", str(run), "--out", str(out), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return lines, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-first", action="store_true")
    args = parser.parse_args()
    place = args.out.resolve()
    place.mkdir(parents=True, exist_ok=True)

    sums = [(a, b) for a in range(100) for b in range(10)]
    random.Random(args.seed).shuffle(sums)
    held_out, known = sums[: len(sums) // 10], sums[len(sums) // 10 :]
    rng = random.Random(args.seed + 1)
    careless = [(a, b, a + b + rng.randint(0, 6)) for _ in range(8) for a, b in known]
    write(place / "taught.jsonl", [{"prompt": f"{a}+{b}", "completion": str(c)} for a, b, c in careless])
    write(place / "held-out.jsonl", [{"prompt": f"{a}+{b}", "answer": str(a + b)} for a, b in held_out])
    write(place / "asked.jsonl", [{"prompt": f"{a}+{b}", "answer": str(a + b)} for a, b in known])
    (place / "template.jinja").write_text(TEMPLATE)
    # Digits are tokens of their own: the vocabulary has no room for anything but bytes.
    (place / "first.toml").write_text(
        f"""
seed = {args.seed}
[model]
depth = {args.depth}
vocabulary = 259
chat-template = "template.jinja"
[data]
train = ["taught.jsonl"]
held-out = 0.01
[training]
context = 32
batch = 2048
steps = {args.first}
[evaluation]
every = 100
[optimizer]
learning-rate = 3e-3
"""
    )
    (place / "rewards.toml").write_text(
        f"""
seed = {args.seed}
[model]
from = "first/model.gguf"
[data]
train = ["asked.jsonl"]
validation = ["held-out.jsonl"]
[training]
context = 32
steps = {args.steps}
at-once = 8192
[optimizer]
learning-rate = {args.rate}
weight-decay = 0.0
[schedule]
decay = "linear"
[evaluation]
every = 25
[grpo]
prompts = 64
answers = 16
answer-tokens = 6
[[reward]]
kind = "exact"
"""
    )
    lines, seconds = train(args.binary, place / "first.toml", place / "first")
    print(f"first: {args.first} steps in {seconds:.0f} s")
    for line in lines[-3:]:
        print(" ", json.dumps(line))
    if args.only_first:
        return
    lines, seconds = train(args.binary, place / "rewards.toml", place / "rewards")
    print(f"rewards: {args.steps} steps in {seconds:.0f} s")
    for line in lines:
        if line["kind"] == "rewards" and (line["held_out"] or line["step"] % 25 == 1):
            print(" ", json.dumps(line))


if __name__ == "__main__":
    sys.exit(main())
