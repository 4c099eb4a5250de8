#!/usr/bin/env python3
"""What a small model knows, beside guessing and an n-gram model: `evaluate.py AUTARKY WORK MODEL [MODEL...]`.

WORK is what make.py worked in; WORK/bigbench holds the benchmark_tasks of BIG-bench (PyPI's `bigbench` 1.0.0) and
WORK/xquad.jsonl the paragraphs of XQuAD, one {"text": ...} a line. The n-gram model reads all that the first stage may
draw from, with the same tokenizer (needs numpy and tokenizers). Rows are printed as JSON."""
import json, subprocess, sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ngram import NGram

TASKS = {
    "agreement, simple": "subject_verb_agreement/simple_english.json",
    "agreement, noun between": "subject_verb_agreement/nounpp_english.json",
    "agreement, in the wild": "subject_verb_agreement/linzen2016_english.json",
    "agreement, nonsense": "subject_verb_agreement/gulordava_nonce_english.json",
    "cause and effect": "cause_and_effect/one_sentence_no_prompt/task.json",
}
MOST = 1000  # questions of a task
CONTEXT = 512
HELD_OUT = 0.002  # of every file, as pretrain.toml says


def main():
    autarky, work, models = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    first = work / "pretrain"
    texts = {"held-out text": held_out(work / "data"), "XQuAD": xquad(work)}
    questions = {name: task(work / "bigbench" / path) for name, path in TASKS.items()}
    for name, text in texts.items():
        (work / "text").write_text(text)
        for model in models:
            found = json.loads(run(autarky, "perplexity", model, work / "text", "--json"))
            show(name, model, loss=found["surprise_nats"], bits_per_byte=found["bits_per_byte"])
    for name, rows in questions.items():
        (work / "questions").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for model in models:
            found = json.loads(run(autarky, "perplexity", model, work / "questions", "--choices", "--json"))
            show(name, model, questions=found["questions"], right=found["right"], right_error=found["right_error"])
        show(name, "guessing", right=found["chance"])

    tokenizer = Tokenizer.from_file(str(first / "tokenizer/tokenizer.json"))
    encode = lambda text: np.array(tokenizer.encode(text).ids, np.int64)
    ngram = NGram(learned(first / "data"))
    for name, text in texts.items():
        tokens = encode(text)
        # Scored as `perplexity` scores: the second half of every window.
        windows = tokens[: len(tokens) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
        scored = [ngram.log_probabilities(w[: CONTEXT // 2 + 1], w[CONTEXT // 2 + 1 :]) for w in windows]
        loss, per_byte = -np.mean(scored), len(tokens) / len(text.encode())
        show(name, "5-gram", loss=loss, bits_per_byte=loss / np.log(2) * per_byte)
        show(name, "guessing", loss=np.log(4096), bits_per_byte=12 * per_byte)
    # Answers of held-out conversations: what the last stage measured at its end, on the model before it was quantized.
    evaluations = [row for row in map(json.loads, open(work / "settle/metrics.jsonl")) if row["kind"] == "evaluation"]
    loss, per_nat = evaluations[-1]["loss"], evaluations[-1]["bits_per_byte"] / evaluations[-1]["loss"]
    show("answers", models[0], loss=loss, bits_per_byte=loss * per_nat)
    # The first stage may read those conversations, so that this n-gram model is of what the last stage reads.
    read = lambda name: np.fromfile(work / f"settle/data/{name}.tokens", np.uint32)
    tokens = read("validation")
    later = NGram(read("train") & 0x7FFFFFFF)
    answers = later.log_probabilities([], tokens & 0x7FFFFFFF)[tokens < 1 << 31]
    for name, loss in (("5-gram", -answers.mean()), ("guessing", np.log(4096))):
        show("answers", name, loss=loss, bits_per_byte=loss * per_nat)
    for name, rows in questions.items():
        right = [ngram_answer(ngram, encode, row) == row["answer"] for row in rows]
        show(name, "5-gram", questions=len(right), right=np.mean(right))


def ngram_answer(ngram, encode, row):
    end = 0  # of a text, and so what stands before one
    whole = [np.concatenate([[end], encode(row["prompt"] + choice)]) for choice in row["choices"]]
    return int(np.argmax([ngram.log_probabilities(w[:1], w[1:]).sum() for w in whole]))


def learned(data):
    """The tokens that the first stage may draw from: of every file all but the end."""
    tokens = np.fromfile(data / "train.tokens", np.uint32) & 0x7FFFFFFF
    ends = np.fromfile(data / "train.ends", np.uint64).astype(np.int64)
    parts, start, document = [], 0, 0
    for count in json.loads((data / "train.json").read_text())["documents"]:
        document += count
        end = ends[document - 1]
        parts.append(tokens[start : end - int((end - start) * HELD_OUT)])
        start = end
    return np.concatenate(parts)


def held_out(data):
    """The ends of the texts: a little less than what was held out, whose tokens are as many as this says of bytes."""
    parts = []
    for name in ("books", "plays", "reference"):
        text = (data / f"{name}.txt").read_bytes()
        parts.append(text[-int(len(text) * HELD_OUT * 0.9) :].decode(errors="ignore"))
    return "\n\n".join(parts)


def xquad(work):
    return "\n\n".join(json.loads(line)["text"] for line in (work / "xquad.jsonl").read_text().splitlines())


def task(path):
    rows = []
    for example in json.loads(path.read_text())["examples"]:
        scores = example["target_scores"]
        right = [i for i, score in enumerate(scores.values()) if score == 1]
        if len(right) == 1:
            rows.append({"prompt": example["input"], "choices": list(scores), "answer": right[0]})
    step = max(1, -(-len(rows) // MOST))
    return rows[::step]


def show(task, model, **numbers):
    print(json.dumps({"of": task, "model": Path(model).stem, **numbers}), flush=True)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


main()
