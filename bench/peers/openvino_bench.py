#!/usr/bin/env python3
"""Times OpenVINO on a model folder that make_openvino.py wrote: the peer of `autarky bench --turns`, with the same sizes,
lines and keys, for one sequence from an empty cache. As OpenVINO GenAI does, it has the model compute the logits of the
last position only.

usage: openvino_bench.py FOLDER [--prompt N] [--generate N] [--depth 0] [--sequences 1] [--threads N]
"""

import argparse
import json
import os
import sys
import time

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import openvino.properties as properties
import openvino.properties.hint as hint

WARM_UP = 128, 8  # prompt tokens and steps of the first round, which is not timed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    for flag, default in [("prompt", 512), ("generate", 64), ("depth", 0), ("sequences", 1), ("threads", os.cpu_count())]:
        parser.add_argument(f"--{flag}", type=int, default=default)
    args = parser.parse_args()
    if args.depth != 0 or args.sequences != 1:
        parser.error("one sequence from an empty cache is all that this script knows")
    return args


def keep_last_position(model: ov.Model) -> None:
    """Cuts what goes into the product with the vocabulary down to the last position."""
    product = model.output("logits").get_node().input_value(0).get_node()
    if product.get_type_name() != "MatMul":
        sys.exit(f"the logits come from a {product.get_type_name()}, not from a product with the vocabulary")
    last = ops.slice(product.input_value(0), [-1], [-2], [-1], [1])
    product.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()


class Engine:
    def __init__(self, args) -> None:
        config = {properties.inference_num_threads: args.threads, hint.performance_mode: hint.PerformanceMode.LATENCY}
        core = ov.Core()
        model = core.read_model(f"{args.folder}/openvino_model.xml")
        keep_last_position(model)
        self.model = core.compile_model(model, "CPU", config)
        self.inputs = {name for port in self.model.inputs for name in port.get_names()}
        self.request = self.model.create_infer_request()
        self.random = np.random.default_rng(0)

    def push(self, count: int, past: int) -> None:
        feed = {
            "input_ids": self.random.integers(1000, 90000, (1, count), np.int64),
            "attention_mask": np.ones((1, past + count), np.int64),
            "position_ids": np.arange(past, past + count, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        feed = {name: value for name, value in feed.items() if name in self.inputs}
        self.request.infer(feed, share_inputs=True, share_outputs=True)

    def time(self, prompt: int, generate: int) -> dict:
        self.request.reset_state()
        self.push(1, 0)  # does not count: brings back into caches what another engine's turn pushed out
        self.request.reset_state()
        begin = time.perf_counter()
        self.push(prompt, 0)
        middle = time.perf_counter()
        for i in range(generate):
            self.push(1, prompt + i)
        end = time.perf_counter()
        return {
            "prefill_tokens_per_second": prompt / (middle - begin),
            "decode_tokens_per_second": generate / (end - middle) if generate else None,
        }


def say(fields: dict) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    args = arguments()
    engine = Engine(args)
    engine.time(min(args.prompt, WARM_UP[0]), min(args.generate, WARM_UP[1]))
    say({"ready": True})
    for _ in sys.stdin:
        say(engine.time(args.prompt, args.generate))
    capabilities = ov.Core().get_property("CPU", properties.device.capabilities)
    precision = engine.model.get_property(hint.inference_precision)
    say({
        "version": f"openvino {ov.__version__}",
        "threads": args.threads,
        "isa": f"capabilities {' '.join(capabilities)}, inference precision {precision.get_type_name()}",
        "flags": "the PyPI wheel",
    })


if __name__ == "__main__":
    main()
