#!/usr/bin/env python3
"""Other planners' predictions beside ours, on the same measured rows.

    compare.py                              # the receipts again, from what is kept: needs no planner installed
    compare.py --predict genz roofline      # ask those planners first, in a Python that has them installed

Predictions are kept in predictions.csv beside this file, one line for each planner, variant and row, those that it
refused included. Our errors are those of bench/receipts/plan-accuracy.csv: each row predicted by a fit that has not
seen its document. A comparison is of the rows only that both have a figure for.
"""

import argparse
import csv
import importlib
import importlib.metadata
import math
import statistics
from collections import Counter
from pathlib import Path

import rows
from rows import ROOT, Unsupported

HERE = Path(__file__).resolve().parent
KEPT = HERE / "predictions.csv"
ACCURACY = ROOT / "bench/receipts/plan-accuracy.csv"
RECEIPT = ROOT / "bench/receipts/plan-peers.md"
RAW = ROOT / "bench/receipts/plan-peers.csv"
PEERS = ("llm_analysis", "genz", "roofline", "calculon", "aiconfigurator")
COLUMNS = ("peer", "version", "variant", "kind", "id", "predicted", "refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", nargs="+", choices=PEERS, default=[], metavar="PEER", help=" ".join(PEERS))
    parser.add_argument("--only", default="", help="with --predict: rows whose ids contain this; the others' stay")
    arguments = parser.parse_args()
    measured = {row.id: row for row in rows.read()}
    for name in arguments.predict:
        asked = [row for row in measured.values() if arguments.only in row.id]
        fresh = predictions(importlib.import_module(f"{name}_peer"), asked)
        keep(fresh, {line["id"] for line in fresh} if arguments.only else None)
    compare(measured, read(KEPT))


def keep(fresh, ids):
    """Puts a planner's predictions in place of its old ones: of those rows, or of all where `ids` is none."""
    names = {line["peer"] for line in fresh}
    # Read only now: another planner may have been asked meanwhile.
    kept = read(KEPT) if KEPT.exists() else []
    stays = [line for line in kept if line["peer"] not in names or (ids is not None and line["id"] not in ids)]
    write(KEPT, COLUMNS, sorted(stays + fresh, key=key))


def key(line):
    return line["peer"], line["variant"], line["kind"], line["id"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path, columns, lines):
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(lines)


def predictions(peer, measured):
    """What a planner says of every row of its kinds. Whatever it fails at is a row that it does not support."""
    peer.load()
    version = importlib.metadata.version(peer.PACKAGE) if peer.PACKAGE else peer.VERSION
    lines = []
    for row in measured:
        for variant in peer.VARIANTS if row.kind in peer.KINDS else ():
            figure, refused = None, ""
            try:
                figure = peer.predict(row, variant)
                if not (figure > 0 and math.isfinite(figure)):
                    figure, refused = None, "no finite figure"
            except Unsupported as why:
                refused = str(why)
            except Exception as problem:  # in any way: then it has no figure
                refused = f"fails: {type(problem).__name__}"
                print(f"{peer.NAME}, {row.id}: {problem!r}"[:300])
            lines.append(
                dict(
                    zip(
                        COLUMNS,
                        (
                            peer.NAME,
                            version,
                            variant,
                            row.kind,
                            row.id,
                            f"{figure:.6g}" if figure else "",
                            refused,
                        ),
                        strict=True,
                    )
                )
            )
    if hasattr(peer, "unload"):
        peer.unload()
    return lines


def compare(measured, kept):
    ours, unseen_chip, documents = {}, {}, {}
    for line in read(ACCURACY):
        documents[line["id"]] = line["document"]
        ratios = ours if line["left_out"] == "document" else unseen_chip
        ratios[line["id"]] = math.exp(-float(line["ln_error"]))
    groups, refused, raw = {}, {}, []
    for line in kept:
        row = measured.get(line["id"])
        if row is None or line["id"] not in ours:
            continue
        group = (line["peer"], line["version"], line["variant"], part(row, line["peer"]))
        groups.setdefault(group, [])
        refused.setdefault(group, Counter())
        if not line["predicted"]:
            refused[group][line["refused"]] += 1
            continue
        theirs = float(line["predicted"]) / row.measured
        groups[group].append((theirs, ours[row.id], unseen_chip[row.id], documents[row.id]))
        raw.append(
            {
                "peer": line["peer"],
                "version": line["version"],
                "variant": line["variant"],
                "rows": group[3],
                "id": row.id,
                "chip": row.chip,
                "measured": f"{row.measured:.6g}",
                "peer_predicted": line["predicted"],
                "our_prediction": f"{ours[row.id] * row.measured:.6g}",
                "peer_error": f"{abs(theirs - 1):.4f}",
                "our_error": f"{abs(ours[row.id] - 1):.4f}",
                "our_error_without_chip": f"{abs(unseen_chip[row.id] - 1):.4f}",
            }
        )
    write(RAW, list(raw[0]), raw)
    RECEIPT.write_text(receipt(groups, refused))
    print(f"wrote {RECEIPT.relative_to(ROOT)} and {RAW.relative_to(ROOT)}")


def part(row, peer):
    """The rows that a line of the table is of."""
    if peer == "AIConfigurator":
        return "serve, its maker's own runs" if row.id.startswith("aic-") else "serve, others' runs"
    if peer == "llm-analysis" and row.kind == "train":
        # Its advice of half the FLOPS is from the time of 16 bits.
        return "train, FP8" if row.dtype == "fp8" else "train, 16 bits"
    return row.kind


def median(errors):
    return statistics.median(errors)


def p90(errors):
    """The error at nine tenths of the way through them, as the fit's receipt takes it."""
    return sorted(errors)[math.floor(0.9 * (len(errors) - 1) + 0.5)]


def share(error):
    return f"{100 * error:.1f} %" if error < 10 else f"{100 * error:.0f} %"


def called(group):
    peer, version, variant, _ = group
    return f"{peer} {version}" + (f", {variant}" if variant not in ("defaults", "published") else "")


ORDER = ("train", "prefill", "decode", "serve")


def receipt(groups, refused):
    lines = [HEADER, TABLE_HEAD]
    losses, local, shown = [], [], sorted(groups, key=lambda g: (ORDER.index(g[3].split(",")[0]), g[0], g[2], g[3]))
    for group in shown:
        pairs = groups[group]
        if not pairs:
            continue
        name, kind = called(group), group[3]
        ratios, *own, documents = zip(*pairs, strict=True)
        theirs = [abs(ratio - 1) for ratio in ratios]
        ours, unseen = ([abs(ratio - 1) for ratio in some] for some in own)
        # One factor on every prediction, chosen after seeing these very rows: more than a user can do.
        scale = math.exp(-median([math.log(ratio) for ratio in ratios]))
        scaled = [abs(ratio * scale - 1) for ratio in ratios]
        nearer = sum(o < t for t, o in zip(theirs, ours, strict=True))
        bold = "**{}**".format
        worse = median(ours) > median(theirs), p90(ours) > p90(theirs)
        cells = [share(median(theirs)), share(p90(theirs)), share(median(ours)), share(p90(ours))]
        for i, lost in enumerate(worse):
            cells[i if lost else i + 2] = bold(cells[i if lost else i + 2])
        both = [f"{share(median(errors))} / {share(p90(errors))}" for errors in (unseen, scaled)]
        asked = len(pairs) + sum(refused[group].values())
        lines.append("| " + " | ".join((name, kind, f"{len(pairs)} of {asked}", *cells, *both, str(nearer))) + " |")
        for document in sorted(set(documents)):
            chosen = [i for i, d in enumerate(documents) if d == document]
            its, our = (median([errors[i] for i in chosen]) for errors in (theirs, ours))
            if len(chosen) >= 3 and our > its:
                local.append(f"| {name} | {kind} | {document} | {len(chosen)} | {share(its)} | {share(our)} |")
        for what, measure in (("median", median), ("90th percentile", p90)):
            if measure(ours) > measure(theirs):
                losses.append(f"- {name}, {kind}: {what} {share(measure(theirs))}, ours {share(measure(ours))}.")
            elif measure(ours) > measure(scaled):
                hindsight = f"{what} {share(measure(scaled))} with one factor in hindsight"
                losses.append(f"- {name}, {kind}: {hindsight}, ours {share(measure(ours))} without.")
    lines += ["", "## Where we lose", "", *(losses or ["Nowhere in this table."])]
    if local:
        lines += ["", "And on these documents, of those with three rows or more that both predict:", ""]
        lines += [
            "| planner | rows | document | n | its median | our median |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += local
    lines += ["", NOTES, "## Rows that a planner does not support", "", "| planner | rows | refused | why |"]
    lines.append("| --- | --- | --- | --- |")
    for group in shown:
        if refused[group]:
            why = "; ".join(f"{reason} ({n})" for reason, n in refused[group].most_common())
            lines.append(f"| {called(group)} | {group[3]} | {sum(refused[group].values())} | {why} |")
    return "\n".join(lines) + "\n"


HEADER = """# Planners side by side

Made by `bench/plan-peers/compare.py` from `bench/plan-peers/predictions.csv` (what each planner said, asked by the
same script) and `plan-accuracy.csv` (ours, each row predicted without its document). Every row is in
`plan-peers.csv`. Errors are |predicted / measured − 1| of tokens/s per device, on the rows that both predict; the
better of two is bold. Then, each as median / 90th percentile: ours where the fit has seen no run at all on the row's
chip; and the planner's if one factor, chosen after seeing these very rows, were put on all its predictions. Last, on
how many rows we are nearer.
"""
TABLE_HEAD = """\
| planner | rows | n | its median | its 90th | our median | our 90th | ours, chip unseen | its, in hindsight | nearer |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
NOTES = """## How each was asked, and what was assumed

- **We** are fitted to measured runs. Of the others, only AIConfigurator (a database of measured operators) and
  Calculon (efficiencies given for its machine) are; a planner with every efficiency at 1 tells an upper limit, as its
  authors say. The column with one factor in hindsight is what is left when that is made good. A document is one table
  or file: our fit has seen other tables of the same page, and most of the training rows are from five tables of
  llm-foundry's. The column for a chip unseen has no such neighbours. Three training rows are left out, whose figure
  is not in tokens.
- **llm-analysis** by `LLMAnalysis.training` and `.inference`, dense models, its own GPU files, the row's layout,
  micro-batch, recomputation and ZeRO stage. Its defaults have every efficiency at 1; "documented" takes what its
  README and warnings advise: 0.5 of the FLOPS for training, 0.7 for inference, 0.65 of the bandwidth (its 0.6 to
  0.7). Gated feed-forward layers are widened by half, as in its own Llama files; weights of GGUF files have the
  file's bits; FP8 takes its 8-bit peak. Serving is its own composition (`total_tokens_per_sec`), in the batch of the
  clients or the largest that it says fits.
- **GenZ** by `prefill_moddeling` and `decode_moddeling` on its own systems with its default efficiency (1) and its
  communication model, one beam. It has one format for everything, so rows with weights of another format than the
  arithmetic are not supported; nor is latent attention, which it has to do. Serving composes its two times: each
  prompt read once in steps of up to 8192 tokens, the answer decoded in a full batch at half its length. The batch is
  the clients' concurrency or the burst's requests, and never more than it says fits. Its paper (arXiv 2406.01698)
  reports a geometric mean error of 5.82 % on its authors' own measurements.
- **Roofline as in LLM-Viewer** is that project's published method, written anew here: it is not packaged, and its
  code is not used. One device, prompts and decoding, each product the longer of operations and bytes at the data
  sheet's peaks, attention fused, the last logits only. Its authors say that only relative figures should be read from
  it.
- **Calculon** is not packaged either: its published iteration times for Table 5 of arXiv 2205.05198, on the six lines
  of its eight that are among our rows. Its own mean error over the eight is 3.65 % of the time. Its machine
  file gives this GPU's efficiencies by the sizes of products and messages; our prediction has seen no run of that
  document.
- **AIConfigurator** by `cli_estimate` with its database of the chip and of the serving software that a row names, in
  its current version, newer than most rows' software. Where a format was not measured, the formats of the checkpoint
  that it comes with are taken, and then its mixed mode. "Its maker's own runs" are those that it publishes to be
  checked by: they are asked with the row's batch, layout and formats, and turned into a rate as those rows' figure
  is, concurrency x answer / (first token + the rest); where its table gives a batch of a part of the clients only,
  attention is read as copied. Others' runs mostly have no batch: the best of those that fit in memory is taken, as
  its own search does. Its default is one prompt in a step; "8192 tokens a step" is what servers take. Its database
  was measured on the same chips.
- Speculative decoding, cached prompts and several instances of a server are left out for all.
"""


if __name__ == "__main__":
    main()
