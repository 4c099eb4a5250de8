"""Trains the model of a run of `autarky train` with PyTorch: the same weights to begin with, tokens, held-out text and recipe.

    python3 bench/train/torch_train.py FOLDER INITIAL [--seed 1]

FOLDER is a finished run whose documents are joined (data.packing = "joined") and whose learning rate falls along a cosine;
INITIAL a Hugging Face folder with the weights that it began with, in 32-bit floats. Rows are drawn in another order.
Prints the held-out loss of both.
"""

import argparse
import json
import math
import tomllib
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("initial", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    config = tomllib.loads((args.folder / "run.toml").read_text())
    checkpoint = max((args.folder / "checkpoints").glob("step-*"))
    plan = json.loads((checkpoint / "checkpoint.json").read_text())["run"]["plan"]
    context, rows, steps = plan["context"], plan["rows"], plan["steps"]
    tokens = np.fromfile(args.folder / "data/train.tokens", dtype="<u4").astype(np.int64)
    about = json.loads((args.folder / "data/train.json").read_text())
    assert len(about["documents"]) == 1, "one file, so that the held-out part is one"
    cut = len(tokens) - int(len(tokens) * config["data"]["held-out"])
    train, held_out = torch.from_numpy(tokens[:cut]), torch.from_numpy(tokens[cut:])
    model = AutoModelForCausalLM.from_pretrained(args.initial, dtype=torch.float32)
    options = config["optimizer"]
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": options["weight-decay"]}, {"params": vectors, "weight_decay": 0.0}]
    betas = (options["first-decay"], options["second-decay"])
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=betas, eps=options["epsilon"], fused=True)
    warmup, floor = steps // 50, config["schedule"]["floor"]

    def rate(step):
        if step < warmup:
            return plan["learning-rate"] * (step + 1) / warmup
        left = 0.5 + 0.5 * math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1))
        return plan["learning-rate"] * (floor + (1 - floor) * left)

    def windows(of):
        starts = range(0, len(of) - 1, context)
        return [of[start : start + context + 1] for start in starts]

    def loss_of(window):
        logits = model(window[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())

    all_rows = [window for window in windows(train) if len(window) == context + 1]
    order = []
    for step in range(steps):
        batch = []
        while len(batch) < rows:
            if not order:
                order = torch.randperm(len(all_rows)).tolist()
            batch.append(all_rows[order.pop()])
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = loss_of(torch.stack(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options["largest-norm"])
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps}  loss {loss.item():.4f}", flush=True)
    with torch.no_grad():
        parts = [(loss_of(window[None]).item(), len(window) - 1) for window in windows(held_out)]
    theirs = sum(loss * n for loss, n in parts) / sum(n for _, n in parts)
    lines = [json.loads(line) for line in (args.folder / "metrics.jsonl").read_text().splitlines()]
    ours = [line["loss"] for line in lines if line["kind"] == "evaluation"][-1]
    print(json.dumps({"held_out_tokens": sum(n for _, n in parts), "autarky": ours, "pytorch": theirs,
                      "ratio": ours / theirs, "torch": torch.__version__}))


main()
