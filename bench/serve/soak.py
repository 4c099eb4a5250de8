#!/usr/bin/env python3
"""Treats a server badly and checks that it keeps its promises.

  soak.py --binary target/release/autarky --model models/stories260k.gguf [CHECK...] [--scale 1.0] [--rows rows.jsonl]

Checks (all of them when none is named); --scale makes them shorter or longer:
  determinism   the same greedy request alone, and amid 15 others that come and go: identical text and log probabilities
  disconnects   2,000 streams broken off at random points: places free at once, no block of cache lost, others unharmed
  overload      ten times more requests than there is room for, for 5 minutes: 429 or 503 with Retry-After and nothing
                else beyond the queue, what was taken is finished, memory flat
  kills         kill -9 amid traffic, 100 times: conversations are as they were acknowledged, and the server comes back
  utf8          every event is valid, and the stream is what the whole answer is, for emoji, CJK and combining marks
  prefix        a second request with a long shared beginning: time to its first token beside the first's
  drain         SIGTERM amid answers: they end, new requests are refused, the process exits by itself

Only the standard library is used. Ends with a table, and exit code 1 if anything failed.
"""
import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


class Server:
    """The server as a process on a free port."""

    def __init__(self, args, *flags, data=None):
        self.args, self.flags, self.data = args, list(flags), data or tempfile.mkdtemp(prefix="autarky-soak-")
        self.start()

    def start(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = [self.args.binary, "serve", self.args.model, "--port", str(self.port), "--log", "off",
                   "--chat-template", "chatml", "--data", self.data, *self.flags]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self.data)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                models = self.get("/api/models")[1]["models"]
                if models and models[0]["state"] == "ready":
                    self.model = models[0]["id"]
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}")
            time.sleep(0.02)
        raise SystemExit("the server did not come up within 60 s")

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, timeout=120):
        connection = self.connect(timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"content-type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
            kind = response.getheader("content-type") or ""
            return response.status, json.loads(raw) if "json" in kind and raw else raw, response.headers
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def stream(self, path, body, take=None):
        """The events of a stream; broken off after `take` of them."""
        connection = self.connect()
        events = []
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}), {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                return response.status, response.read()
            for line in response:
                line.decode("utf-8")  # every line is valid by itself
                if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                    events.append(json.loads(line[6:]))
                    if take is not None and len(events) >= take:
                        break
            return 200, events
        finally:
            connection.close()

    def stats(self):
        return self.get("/api/stats")[1]

    def settled(self):
        """Counters of the model when nothing runs any more."""
        while True:
            model = self.stats()["models"][0]
            if model["running"] == model["waiting"] == 0:
                return model
            time.sleep(0.01)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def completion(self, prompt, tokens, **more):
        return {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}


WORDS = "once upon a time there was little girl who liked to play with big red ball in the park and mom said".split()


def text(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def in_threads(count, work):
    """Runs `work(number)` in threads and raises what any of them raised."""
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    return threads, failures


def join(started):
    threads, failures = started
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def determinism(args):
    server = Server(args, "--parallel", "16", "--prefill-beside", "24")
    ask = server.completion("Once upon a time there was a", 60, logprobs=3)

    def choice():
        return server.request("POST", "/v1/completions", ask)[1]["choices"][0]

    alone = choice()
    stop = threading.Event()

    def other(number):
        rng = random.Random(number)
        while not stop.is_set():
            body = server.completion(text(rng, rng.randrange(2, 60)), rng.randrange(1, 120), seed=rng.randrange(1000))
            body["temperature"] = rng.choice([0, 1])
            server.stream("/v1/completions", body, take=rng.choice([None, 1, 5, 20]))

    started = in_threads(15, other)
    rounds = max(1, int(100 * args.scale))
    same = sum(choice() == alone for _ in range(rounds))
    stop.set()
    join(started)
    server.stop()
    return same == rounds, f"{same} of {rounds} identical"


def disconnects(args):
    server = Server(args, "--parallel", "8")
    total = max(8, int(2000 * args.scale))
    ask = server.completion("Once upon a time", 80)
    expected = server.request("POST", "/v1/completions", ask)[1]["choices"][0]["text"]
    steady, stop = [], threading.Event()

    def unharmed(_):
        while not stop.is_set():
            steady.append(server.request("POST", "/v1/completions", ask)[1]["choices"][0]["text"] == expected)

    def rude(number):
        rng = random.Random(number)
        for _ in range(total // 8):
            body = server.completion(text(rng, rng.randrange(1, 80)), 400)
            server.stream("/v1/completions", body, take=rng.randrange(0, 40) or None if rng.random() < 0.02 else rng.randrange(1, 40))

    watching = in_threads(1, unharmed)
    join(in_threads(8, rude))
    stop.set()
    join(watching)
    end = server.settled()
    server.stop()
    lost = end["blocks_used"]
    good = all(steady) and steady and lost == 0
    return good, f"{total // 8 * 8} broken off, {end['cancelled']} cancelled in time, {lost} blocks lost, {sum(steady)} of {len(steady)} others unharmed"


def overload(args):
    server = Server(args, "--parallel", "4", "--queue", "8")
    seconds = max(3.0, 300 * args.scale)
    deadline = time.monotonic() + seconds
    statuses, unfinished, wrong = {}, [0], []
    lock = threading.Lock()

    def client(number):
        rng = random.Random(number)
        while time.monotonic() < deadline:
            body = server.completion(text(rng, 30), 100, ignore_eos=True)
            status, answer, headers = server.request("POST", "/v1/completions", body)
            with lock:
                statuses[status] = statuses.get(status, 0) + 1
                if status == 200:
                    unfinished[0] += answer["choices"][0]["finish_reason"] != "length"
                elif status not in (429, 503) or not headers.get("retry-after"):
                    wrong.append((status, answer))
            if status != 200:
                time.sleep(rng.uniform(0.0, 0.05))

    # Warm: threads, arenas and the cache of prompts have their size.
    join(in_threads(12, lambda n: server.request("POST", "/v1/completions", server.completion(text(random.Random(n), 60), 100))))
    before = server.resident()
    started = in_threads(120, client)
    health = []
    while time.monotonic() < deadline:
        health.append(server.get("/health")[0])
        time.sleep(0.2)
    join(started)
    server.settled()
    after = server.resident()
    server.stop()
    growth = (after - before) / 2**20
    good = not wrong and unfinished[0] == 0 and set(health) == {200} and growth < 64
    return good, f"{seconds:.0f} s of 120 clients: {statuses}, {len(wrong)} wrong, {unfinished[0]} unfinished, memory {growth:+.0f} MiB"


def kills(args):
    server = Server(args)
    rounds = max(2, int(100 * args.scale))
    known, rng, lost = {}, random.Random(1), 0
    for number in range(rounds):
        acknowledged, stop = {}, threading.Event()

        def writer(which):
            own = random.Random(number * 10 + which)
            try:
                while not stop.is_set():
                    title = f"{number}-{which}-{own.randrange(10**9)}"
                    document = {"text": title * own.randrange(1, 50)}
                    status, answer, _ = server.request("POST", "/api/conversations", {"title": title, "model": server.model, "document": document}, timeout=10)
                    if status == 201:
                        acknowledged[answer["id"]] = document
            except (OSError, http.client.HTTPException, ValueError):
                pass  # the server was killed

        def reader(_):
            try:
                while not stop.is_set():
                    server.stream("/v1/completions", server.completion(text(random.Random(number), 20), 200))
            except (OSError, http.client.HTTPException, ValueError):
                pass

        writers, readers = in_threads(3, writer), in_threads(2, reader)
        time.sleep(rng.uniform(0.02, 0.3))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        stop.set()
        join(writers)
        join(readers)
        known.update(acknowledged)
        server.start()
        for identity, document in acknowledged.items():
            status, answer, _ = server.get(f"/api/conversations/{identity}")
            lost += status != 200 or answer["document"] != document
    listed = {c["id"] for c in server.get("/api/conversations")[1]["conversations"]}
    lost += len(set(known) - listed)
    server.stop()
    return lost == 0, f"{rounds} kills, {len(known)} conversations acknowledged, {lost} lost"


STRINGS = ["\U0001F600\U0001F469‍\U0001F469‍\U0001F467‍\U0001F466\U0001F3F3️‍\U0001F308", "漢字とかなと한글", "é̂ạ́ Z͑ͫ̓", "naïve café — ‘ok’", "\U00020000\U0001D11E"]


def utf8(args):
    server = Server(args)
    wrong, asked = 0, 0
    for string in STRINGS:
        schema = {"type": "object", "properties": {"s": {"enum": [string]}}, "required": ["s"], "additionalProperties": False}
        body = {"model": server.model, "messages": [{"role": "user", "content": string}], "max_tokens": 400, "temperature": 0,
                "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}}
        whole = server.request("POST", "/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]
        status, events = server.stream("/v1/chat/completions", body)
        streamed = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
        asked += 1
        wrong += whole != streamed or json.loads(whole) != {"s": string} or "�" in streamed
    for seed in range(max(5, int(100 * args.scale))):
        body = server.completion("漢", 40, seed=seed, temperature=2.0) | {"temperature": 2.0, "top_p": 1.0}
        whole = server.request("POST", "/v1/completions", body)[1]["choices"][0]["text"]
        status, events = server.stream("/v1/completions", body)
        asked += 1
        wrong += whole != "".join(e["choices"][0]["text"] for e in events if e["choices"])
    server.stop()
    return wrong == 0, f"{asked} answers, {wrong} wrong"


def prefix(args):
    server = Server(args, *args.prefix_flags.split())
    rng, shares = random.Random(5), []
    for _ in range(5):
        shared = [rng.randrange(*args.prefix_range) for _ in range(args.prefix_tokens)]

        def first_token(tail):
            body = server.completion(shared + [rng.randrange(*args.prefix_range) for _ in range(tail)], 2)
            start = time.perf_counter()
            server.stream("/v1/completions", body, take=1)
            return time.perf_counter() - start

        first, second = first_token(8), first_token(8)
        shares.append(second / first)
        server.settled()
    server.stop()
    median = sorted(shares)[2]
    return median <= 0.10, f"{args.prefix_tokens} shared tokens: first token after {median * 100:.1f} % of the first request's time (median of 5)"


def drain(args):
    server = Server(args, "--parallel", "2")
    results = []

    def client(_):
        status, events = server.stream("/v1/completions", server.completion("Once upon a time", 300, ignore_eos=True))
        results.append((status, events[-1]["choices"][0]["finish_reason"] if events and events[-1]["choices"] else None))

    started = in_threads(2, client)
    while server.stats()["models"][0]["running"] < 2 and len(results) < 2:
        time.sleep(0.005)
    server.process.send_signal(signal.SIGTERM)
    join(started)
    code = server.process.wait(30)
    good = code == 0 and all(result == (200, "length") for result in results)
    return good, f"exit code {code}, {results}"


CHECKS = {f.__name__: f for f in (determinism, disconnects, overload, kills, utf8, prefix, drain)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", choices=[*CHECKS, []], metavar="CHECK")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--prefix-tokens", type=int, default=400)
    parser.add_argument("--prefix-range", type=int, nargs=2, default=(10, 500))
    parser.add_argument("--prefix-flags", default="")
    parser.add_argument("--rows")
    args = parser.parse_args()
    args.binary, args.model = os.path.abspath(args.binary), os.path.abspath(args.model)
    failed = False
    for name in args.checks or CHECKS:
        begin = time.monotonic()
        good, what = CHECKS[name](args)
        failed |= not good
        seconds = time.monotonic() - begin
        print(f"{'ok  ' if good else 'FAIL'} {name:12} {what} ({seconds:.0f} s)", flush=True)
        if args.rows:
            with open(args.rows, "a", encoding="utf-8") as out:
                out.write(json.dumps({"check": name, "good": bool(good), "what": what, "seconds": seconds, "scale": args.scale}) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
