#!/usr/bin/env python3
"""Teaches a small model to write facts of a sentence as a record, with a LoRA adapter, and counts exact answers on
sentences that it has not seen: `format.py AUTARKY MODEL.gguf FOLDER`. Prints raw rows as JSON."""
import itertools, json, random, subprocess, sys, time
from pathlib import Path

NAMES = "Tom Lily Ben Anna Sam Mia Max Sue Tim Jack Lucy Amy Bob Sara Mary Joe Jane Kate Bill Fred".split()
COLOURS = "red blue green yellow pink brown black white orange purple".split()
THINGS = "ball car hat box cup doll boat kite book coat bag toy bird fish tree".split()
PLACES = "park house garden room school shop forest kitchen yard barn".split()
FORMS = ["{name} has a {colour} {thing} in the {place}.", "In the {place}, {name} saw a {colour} {thing}.",
         "There is a {colour} {thing} in the {place}. It is for {name}."]
# Models of stories have no chat template, and some never learned a token that ends a text: an answer ends with a full stop.
TEMPLATE = ("{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] + '\\n' }}{% else %}"
            "{{ message['content'] + '.' }}{% endif %}{% endfor %}")


def rows(count, held_out):
    """Sentences; those whose facts are held out are of combinations that are never learned."""
    draw = random.Random(1)
    facts = list(itertools.product(NAMES, COLOURS, THINGS, PLACES))
    draw.shuffle(facts)
    for name, colour, thing, place in facts[:held_out] if count is None else facts[held_out:held_out + count]:
        values = dict(name=name, colour=colour, thing=thing, place=place)
        yield {"prompt": draw.choice(FORMS).format(**values),
               "answer": f"who: {name}; what: {thing}; colour: {colour}; where: {place}"}


def exact(autarky, model, tests, raw=()):
    right, wrong = 0, []
    for row in tests:
        prompt = row["prompt"] + "\n" if raw else row["prompt"]
        command = [autarky, "run", model, "--json", "-p", prompt, "--temperature", "0", "-n", "60", "--stop", ".", *raw]
        text = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["text"].strip()
        right += text == row["answer"]
        if text != row["answer"]:
            wrong.append({"prompt": row["prompt"], "text": text})
    return right, wrong


def main():
    autarky, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "template.jinja").write_text(TEMPLATE)
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(6000, 200)))
    tests = list(rows(None, 200))
    (folder / "run.toml").write_text(f"""
[model]
from = "{Path(model).resolve()}"
chat-template = "template.jinja"
[adapter]
rank = 16
[data]
train = ["train.jsonl"]
[training]
epochs = 2.0
batch = 2048
[optimizer]
learning-rate = 5e-3
""")
    before, _ = exact(autarky, model, tests, ["--raw"])
    start = time.time()
    subprocess.run([autarky, "train", str(folder / "run.toml"), "--out", str(folder / "run")], check=True)
    seconds = time.time() - start
    after, wrong = exact(autarky, str(folder / "run" / "model.gguf"), tests)
    print(json.dumps({"model": Path(model).name, "rank": 16, "tests": len(tests), "exact_before": before, "exact_after": after,
                      "seconds": round(seconds, 1), "wrong": wrong[:5]}))


main()
