"""Calculon's published iteration times for Table 5 of arXiv 2205.05198, as its own `llm-validation` prints them.

It is not packaged. The times are from the output of its test, whose mean error over the table's eight lines is 3.65 %;
six of the eight are among our rows. Its machine file gives this GPU's efficiencies by the sizes of products and
messages.
"""

from rows import Unsupported

NAME = "Calculon"
PACKAGE = None
VERSION = "0.1.0 (published times)"
KINDS = ("train",)
VARIANTS = {"published": None}
SECONDS = {
    "selrec-t5-Megatron-22B-full": 1.40,
    "selrec-t5-Megatron-22B-selective": 1.14,
    "selrec-t5-GPT3-175B-full": 18.03,
    "selrec-t5-GPT3-175B-selective": 13.64,
    "selrec-t5-MT-NLG-530B-full": 49.89,
    "selrec-t5-MT-NLG-530B-selective": 34.47,
    "selrec-t5-Megatron-1T-full": 90.08,
    "selrec-t5-Megatron-1T-selective": 66.04,
}


def load():
    pass


def predict(row, _variant):
    if row.id not in SECONDS:
        raise Unsupported("not in the table that it was published for")
    return row.raw["batch"] * row.isl / SECONDS[row.id] / row.devices
