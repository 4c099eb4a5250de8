"""Trains on 1, 2 and 4 processes that mpirun starts and compares what they write with one process; then kills ranks.

    python3 bench/train/ranks.py BINARY [--mpirun mpirun.openmpi --mpirun mpirun.mpich] [--kills 10] [--seed 1]

Every loss and norm, and the written model, must have the same bits for every MPI, every number of processes and every
optimizer. Then runs are ended by a kill -9 of one rank at random moments and go on with another number of ranks: the same
bits again. What a rank sent for a step is told beside the least that is possible.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def text(rng):
    """Words of made-up letters, some far more often than others."""
    words = ["".join(rng.choices("aeioulnrstkm", k=rng.randint(1, 8))) for _ in range(2000)]
    weights = [1 / (i + 1) for i in range(len(words))]
    lines = [" ".join(rng.choices(words, weights, k=rng.randint(5, 15))) for _ in range(4000)]
    return ".\n".join(lines)


def configuration(place, optimizer, steps):
    file = place / f"{optimizer}-{steps}.toml"
    file.write_text(
        f"""
[model]
depth = 2
vocabulary = 512
[data]
train = [{json.dumps(str(place / "text.txt"))}]
[training]
context = 128
batch = 1024
at-once = 128
steps = {steps}
shards = 4
[optimizer]
method = "{optimizer}"
[evaluation]
every = {steps}
tokens = 4096
[checkpoints]
every = 7
"""
    )
    return file


class Mpi:
    def __init__(self, mpirun):
        self.mpirun = mpirun
        about = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=True).stdout
        self.is_open = "Open MPI" in about or "OpenRTE" in about
        version = re.search(r"(?:Version|\)):?\s+([0-9][0-9.]*)", about)
        self.name = ("Open MPI " if self.is_open else "MPICH ") + (version.group(1) if version else "?")

    def command(self, ranks):
        more = ["--oversubscribe", "--bind-to", "none"] if self.is_open else []
        if self.is_open and os.geteuid() == 0:
            more.append("--allow-run-as-root")
        return [self.mpirun, *more, "-n", str(ranks)]


def found(folder):
    """A hash of the losses and norms of steps with the written model, and the lines of the steps."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    losses = [(line["kind"], line["step"], line.get("loss"), line.get("norm")) for line in lines]
    bits = hashlib.sha256(repr(losses).encode())
    bits.update((folder / "model.gguf").read_bytes())
    return bits.hexdigest()[:16], steps


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def ranks_of(binary, folder):
    """The processes of a run."""
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry.name.isdigit() and command[0].decode(errors="replace") == binary and str(folder).encode() in command:
            pids.append(int(entry.name))
    return pids


def steps_done(folder):
    """Steps that are in the metrics."""
    file = folder / "metrics.jsonl"
    return file.read_text().count('"kind":"step"') if file.exists() else 0


def kill(command, binary, folder, goal, rng):
    """Kills a rank when the run has done `goal` steps, or a moment after its start."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    pids = []
    while process.poll() is None and (not pids or steps_done(folder) < goal):
        time.sleep(0.01)
        pids = ranks_of(binary, folder)
    time.sleep(rng.uniform(0, 0.3))
    if process.poll() is None:
        os.kill(rng.choice(ranks_of(binary, folder) or pids), signal.SIGKILL)
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        sys.exit("ranks that outlive another one hang")
    if process.returncode == 0:
        sys.exit("the run ended before it was killed often enough: make it longer")
    return said


def compare(place, binary, mpis, steps):
    """Trains on each number of processes over each MPI with each optimizer."""
    whole = {}
    row("optimizer", "MPI", "ranks", "bits", "bytes a rank sent a step", "least possible", "times")
    row(*["---"] * 7)
    for optimizer in ("adamw", "muon"):
        run = configuration(place, optimizer, steps)
        for mpi, ranks in [(None, 1)] + [(mpi, ranks) for mpi in mpis for ranks in (1, 2, 4)]:
            folder = place / f"{optimizer}-{mpi.name if mpi else 'alone'}-{ranks}"
            command = [*(mpi.command(ranks) if mpi else []), binary, "train", str(run), "--out", str(folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            bits, lines = found(folder)
            sent, least = (statistics.mean(line.get(key) or 0 for line in lines) for key in ("bytes_sent", "least_bytes"))
            times = f"{sent / least:.5f}" if least else ""
            row(optimizer, mpi.name if mpi else "none", ranks, bits, f"{sent:.0f}", f"{least:.0f}", times)
            if whole.setdefault(optimizer, bits) != bits:
                sys.exit("these are other bits than those of one process")


def killing(place, binary, mpis, steps, kills, rng):
    """Kills ranks of runs over each MPI, and goes on with other numbers of ranks."""
    row("MPI", "optimizer", "kills", "of them before the first checkpoint", "ranks, one start after the other", "bits")
    row(*["---"] * 6)
    for mpi, optimizer in zip(mpis, ("adamw", "muon")):
        run = configuration(place, optimizer, steps)
        folder = place / f"whole-{mpi.name}"
        subprocess.run([binary, "train", str(run), "--out", str(folder)], check=True, capture_output=True)
        bits, _ = found(folder)
        folder = place / f"killed-{mpi.name}"
        early, numbers = 0, []
        train = [binary, "train", str(run), "--out", str(folder)]
        for i in range(kills):
            numbers.append(rng.choice([1, 2, 4]))
            goal = rng.randint(0, i * steps // (kills + 2))
            kill([*mpi.command(numbers[-1]), *train], binary, folder, goal, rng)
            early += not list((folder / "checkpoints").glob("step-*"))
        numbers.append(rng.choice([1, 2, 4]))
        subprocess.run([*mpi.command(numbers[-1]), *train], check=True, capture_output=True)
        same = found(folder)[0] == bits
        row(mpi.name, optimizer, kills, early, " ".join(map(str, numbers)), "the same" if same else "OTHERS")
        if not same:
            sys.exit("the killed run is not the whole one")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--mpirun", action="append")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["compare", "kills"])
    args = parser.parse_args()
    binary = os.path.abspath(args.binary)
    rng = random.Random(args.seed)
    place = Path(tempfile.mkdtemp())
    (place / "text.txt").write_text(text(rng))
    mpis = [Mpi(mpirun) for mpirun in args.mpirun or ["mpirun"]]
    if args.only != "kills":
        compare(place, binary, mpis, args.steps)
        print()
    if args.only != "compare":
        killing(place, binary, mpis, 3 * args.steps, args.kills, rng)
    shutil.rmtree(place)


main()
