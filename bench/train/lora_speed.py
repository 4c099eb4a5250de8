"""Times steps of LoRA with PyTorch and PEFT, in BF16, on a model of Llama-3.2-1B's shape with random weights.

    python3 bench/train/lora_speed.py [--rank 16] [--rows 2] [--length 256] [--steps 4]

To be set beside `autarky train --from llama3.2-1b-q4_0.gguf --lora 16`, whose steps are in its metrics.jsonl.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import transformers
from peft import LoraConfig, get_peft_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--rows", type=int, default=2)
parser.add_argument("--length", type=int, default=256)
parser.add_argument("--steps", type=int, default=4)
args = parser.parse_args()
torch.set_num_threads(2)
config = transformers.LlamaConfig(
    vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
    num_key_value_heads=8, head_dim=64, max_position_embeddings=131072, rope_theta=500000.0, tie_word_embeddings=True,
    attn_implementation="sdpa",
)
torch.set_default_dtype(torch.bfloat16)
model = transformers.LlamaForCausalLM(config)
torch.set_default_dtype(torch.float32)
model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear"))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4, fused=True)
rates = []
for step in range(args.steps + 1):
    ids = torch.randint(0, 128256, (args.rows, args.length))
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if step > 0:
        rates.append(args.rows * args.length / (time.perf_counter() - start))
resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"tokens_per_second": statistics.median(rates), "rounds": rates, "resident_bytes": resident,
                  "torch": torch.__version__, "transformers": transformers.__version__}))
