"""The demo from nothing, and what its model is worth: `python -m tests.benchmarks.demo`."""

import argparse
import shutil
import time

import polars as pl

from ehr.metrics.scores import MACRO
from tests.benchmarks.harness import ROOT, Figure, measured, verb

COMMAND = "python -m tests.benchmarks.demo"
DEMO = ROOT / "runs" / "demo"
RIVAL = "logistic_regression"


def main() -> int:
    """Measure and write the figures; the demo under runs/demo is made anew."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    shutil.rmtree(DEMO, ignore_errors=True)
    started = time.perf_counter()
    measured(verb("demo", "--output", DEMO))
    minutes = (time.perf_counter() - started) / 60
    seconds = pl.read_json(DEMO / "seconds.json").row(0, named=True)
    Figure(
        name="demo.minutes", value=minutes, unit="minutes", command=COMMAND, seeds=(7,),
        note=", ".join(f"{verb} {held:.0f} s" for verb, held in seconds.items()),
    ).write()  # fmt: skip
    macro = pl.read_parquet(DEMO / "report" / "scores.parquet").filter(outcome=MACRO)
    held = {(row["model"], row["metric"]): row for row in macro.iter_rows(named=True)}
    gain = held["anamnesis", f"auroc_over_{RIVAL}"]
    others = {model: row["value"] for (model, metric), row in held.items() if metric == "auroc"}
    Figure(
        name="demo.auroc_gain", value=gain["value"], unit="macro-AUROC", command=COMMAND, seeds=(7,),
        rival="logistic regression on count features", rival_value=others[RIVAL], lower=gain["lower"],
        upper=gain["upper"], count=gain["count"],
        note="; ".join(f"{model} {value:.3f}" for model, value in others.items()),
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
