#!/usr/bin/env python3
"""Makes the model that is in the program, from nothing but text: `make.py AUTARKY CORPUS WORK`.

CORPUS has the files that README.md lists (compressed with zstd). What was done of it is kept in WORK: killed, it goes on."""
import json, re, shutil, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent
TALK = ("chatterbot-corpus:english", "self-instruct")
# Typographers' signs cost a small vocabulary dearly.
PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "\u00a0": " "})


def text(corpus, name):
    return subprocess.run(["zstd", "-dc", corpus / f"{name}.zst"], check=True, capture_output=True).stdout.decode()


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def questions(corpus, name, keep):
    for line in text(corpus, name).rstrip("\n").split("\n"):
        row = json.loads(line)
        if keep(row["source"]):
            yield {part: row[part].translate(PLAIN) for part in ("prompt", "answer")}


def dialogues(corpus):
    for dialogue in text(corpus, "dialogue.txt").translate(PLAIN).split("<|endofdoc|>"):
        messages = []
        for line in dialogue.strip().split("\n"):
            turn = re.match(r"(User|Assistant): (.*)", line)
            if turn:
                messages.append({"role": turn[1].lower(), "content": turn[2]})
            elif messages and line.strip():
                messages[-1]["content"] += "\n" + line
        while messages and messages[0]["role"] != "user":
            messages.pop(0)
        if len(messages) > 1:
            yield {"messages": messages}


def chat(corpus, data):
    """What the second and third stages read: of the commands every second one for all systems. Every hundredth row is held out. Talk, and
    what it says of itself, are few beside the rest: they count several times. So that it forgets no text, some are there, too: many
    in the second stage, others and fewer in the third."""
    commands = list(questions(corpus, "instruct_tldr.jsonl", lambda source: source.startswith("tldr:pages/common/")))[::2]
    every = lambda source: "chinese" not in source and not source.startswith(TALK)
    answers = [*questions(corpus, "instruct.jsonl", every), *commands, *dialogues(corpus)]
    write(data / "answers.jsonl", [row for i, row in enumerate(answers) if i % 100])
    write(data / "validation.jsonl", answers[::100])
    talk = list(questions(corpus, "instruct.jsonl", lambda source: source.startswith(TALK)))
    own = [json.loads(line) for line in (HERE / "own.jsonl").read_text().splitlines()]
    write(data / "talk.jsonl", 8 * talk + 16 * own)
    parts = {"texts": (("books", 0, 9), ("plays", 0, 3), ("reference", 0, 3)),
             "few": (("books", 9, 12), ("plays", 3, 4), ("reference", 3, 4))}
    for part, of in parts.items():
        texts = [(data / f"{name}.txt").read_text()[first * 1_000_000 : end * 1_000_000] for name, first, end in of]
        (data / f"{part}.txt").write_text("\n\n".join(texts))


def main():
    autarky, corpus, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    data = work / "data"
    if not (data / "done").exists():
        data.mkdir(parents=True, exist_ok=True)
        for name in ("books", "plays", "reference"):
            (data / f"{name}.txt").write_text(text(corpus, f"{name}.txt").translate(PLAIN))
        write(data / "instruct.jsonl", questions(corpus, "instruct.jsonl", lambda source: "chinese" not in source))
        write(data / "instruct_tldr.jsonl", questions(corpus, "instruct_tldr.jsonl", lambda source: source.startswith("tldr:pages/")))
        write(data / "dialogue.jsonl", dialogues(corpus))
        chat(corpus, data)
        (data / "done").touch()
    for stage in ("pretrain", "chat", "settle"):
        shutil.copy(HERE / f"{stage}.toml", work)
        subprocess.run([autarky, "train", work / f"{stage}.toml"], check=True)
    # It is unsure of most things, so that the more probable tokens are the better ones.
    model = work / "autarky-default"
    shutil.copytree(work / "settle/model", model, dirs_exist_ok=True)
    draws = model / "generation_config.json"
    draws.write_text(json.dumps(json.loads(draws.read_text()) | {"temperature": 0.3}))
    run = lambda *command: subprocess.run([autarky, *command, "--force"], check=True)
    run("convert", model, "-o", work / "trained.gguf")
    run("quantize", work / "trained.gguf", work / "autarky-default.gguf", "--type", "Q8_0")


main()
