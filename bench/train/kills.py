"""Kills runs of training at random moments and compares what they write with a run that nobody disturbs.

    python3 bench/train/kills.py BINARY TEXT [--kills 50] [--seed 1]

Every loss (of steps and of held-out text) and the written model must have the same bits. In between, checkpoints are cut
short or get a bit flipped; the run must notice and use the one before.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def losses(folder):
    """The lines of the metrics without the time that they took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("text")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    place = Path(tempfile.mkdtemp())
    run = place / "run.toml"
    run.write_text(
        f"""
[model]
depth = 2
vocabulary = 512
[data]
train = [{json.dumps(os.path.abspath(args.text))}]
[training]
context = 128
batch = 1024
steps = 400
[evaluation]
every = 25
tokens = 4096
[checkpoints]
every = 7
"""
    )
    command = [args.binary, "train", str(run), "--json"]
    start = time.monotonic()
    subprocess.run([*command, "--out", str(place / "whole")], check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - start
    killed = [*command, "--out", str(place / "killed")]
    counts = {"kills": 0, "kills before the first checkpoint": 0, "damaged": 0, "noticed": 0}
    while counts["kills"] < args.kills:
        process = subprocess.Popen(killed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        # Anywhere from reading the data to the next few checkpoints.
        time.sleep(rng.uniform(0, whole * 2 / args.kills))
        process.send_signal(signal.SIGKILL)
        out = process.communicate()[0]
        if process.returncode == 0:
            sys.exit("the run ended before it was killed often enough: make it longer")
        counts["kills"] += 1
        counts["noticed"] += out.count('"kind":"damaged"')
        checkpoints = sorted((place / "killed" / "checkpoints").glob("step-*"))
        counts["kills before the first checkpoint"] += not checkpoints
        if len(checkpoints) > 1 and rng.random() < 0.2:
            file = checkpoints[-1] / rng.choice(["state.safetensors", "checkpoint.json"])
            data = bytearray(file.read_bytes())
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                del data[at:]
            elif not chr(data[at]).isspace():
                data[at] ^= 1 << rng.randrange(8)
            else:
                continue
            file.write_bytes(data)
            counts["damaged"] += 1
    out = subprocess.run(killed, check=True, stdout=subprocess.PIPE, text=True).stdout
    counts["noticed"] += out.count('"kind":"damaged"')
    same = losses(place / "whole") == losses(place / "killed")
    models = [(place / name / "model.gguf").read_bytes() for name in ("whole", "killed")]
    counts["losses compared"] = len(losses(place / "whole"))
    counts["same losses"] = same
    counts["same model"] = models[0] == models[1]
    print(json.dumps(counts, indent=1))
    shutil.rmtree(place)
    if not (same and models[0] == models[1]):
        sys.exit("the killed run is not the whole one")


main()
