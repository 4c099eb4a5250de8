"""Trains a small Llama with PyTorch, its products rounded as `precision = "int8"` rounds them, or another way, to see what matters.

    python3 bench/train/rounding.py TEXT [--steps 300] [--stretch 512] [KIND ...]

TEXT is plain text; its first million bytes are read, and the last tenth of its tokens held out. KIND is any of

    f32       nothing is rounded
    bf16      operands of products are BF16
    int8      integers: scales by row, and by column where tokens are summed over; derivatives dithered
    nearest   the same, but derivatives rounded to nearest

Prints the held-out loss of each. Needs torch, transformers and tokenizers.
"""

import argparse
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM


def integers(x, along, dithered):
    """x rounded to 127 steps of its largest magnitude along a dimension."""
    scale = x.abs().amax(along, keepdim=True).clamp_min(1e-30) / 127
    steps = x / scale
    steps = torch.floor(steps + torch.rand_like(steps)) if dithered else torch.round(steps)
    return steps.clamp(-127, 127) * scale


def halves(x):
    return x.bfloat16().float()


class Product(torch.autograd.Function):
    """y = x Wᵀ, and its derivatives."""

    @staticmethod
    def forward(context, x, weight, kind, stretch):
        context.save_for_backward(x, weight)
        context.kind, context.stretch = kind, stretch
        if kind == "bf16":
            return halves(x) @ halves(weight).T
        return integers(x, -1, False) @ integers(weight, 1, False).T

    @staticmethod
    def backward(context, dy):
        x, weight = context.saved_tensors
        rows, by_rows = x.flatten(0, -2), dy.flatten(0, -2)
        if context.kind == "bf16":
            return halves(dy) @ halves(weight), halves(by_rows).T @ halves(rows), None, None
        dithered = context.kind == "int8"
        by_x, by_weight = integers(dy, -1, dithered) @ integers(weight, 0, False), 0
        for i in range(0, len(rows), context.stretch):
            part = slice(i, i + context.stretch)
            by_weight = by_weight + integers(by_rows[part], 0, dithered).T @ integers(rows[part], 0, False)
        return by_x, by_weight, None, None


class Linear(torch.nn.Module):
    def __init__(self, linear, kind, stretch):
        super().__init__()
        self.weight, self.kind, self.stretch = linear.weight, kind, stretch

    def forward(self, x):
        return Product.apply(x, self.weight, self.kind, self.stretch)


def held_out_loss(kind, text, steps, stretch):
    torch.manual_seed(1)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=1024, initial_alphabet=alphabet))
    tokens = torch.tensor(tokenizer.encode(text).ids)
    train, held_out = tokens[: len(tokens) * 9 // 10], tokens[len(tokens) * 9 // 10 :]
    config = LlamaConfig(
        vocab_size=1024, hidden_size=192, intermediate_size=512, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=256, tie_word_embeddings=True, attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    if kind != "f32":
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(module, name, Linear(child, kind, stretch))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95))
    order = torch.Generator().manual_seed(3)

    def loss_of(rows):
        logits = model(rows[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    for step in range(steps):
        starts = torch.randint(0, len(train) - 257, (16,), generator=order)
        left = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min((step + 1) / 20, 1) * left
        optimizer.zero_grad()
        loss_of(torch.stack([train[i : i + 257] for i in starts])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        losses = [loss_of(held_out[None, i : i + 257]).item() for i in range(0, len(held_out) - 257, 256)]
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("kinds", nargs="*", default=["f32", "bf16", "int8", "nearest"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--stretch", type=int, default=512)
    args = parser.parse_args()
    text = args.text.read_bytes()[:1_000_000].decode(errors="ignore")
    for kind in args.kinds:
        print(f"{kind:8} {held_out_loss(kind, text, args.steps, args.stretch):.4f}", flush=True)


if __name__ == "__main__":
    main()
