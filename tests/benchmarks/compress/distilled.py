"""What ternary weights cost behind a teacher, file against file: `python -m tests.benchmarks.compress.distilled`.

The compressed file is that of `anamnesis export --target cpu`, with the table of codes in three values too.
"""

import argparse

import polars as pl

from ehr.metrics.scores import MACRO
from tests.benchmarks.compress import quality
from tests.benchmarks.compress.models import NAMES, RUNS, once, trained
from tests.benchmarks.compress.quality import SEED, Compared, answered
from tests.benchmarks.harness import ROOT, Figure, mean_of, verb

COMMAND = "python -m tests.benchmarks.compress.distilled"
CONFIG = ROOT / "configs" / "compress" / "ternary.yaml"
SHORTER = ("--method.init_args.steps", "400", "--method.init_args.tokens", "2048")
"""Smaller batches than the defaults, so that a model takes minutes on one core."""
HOW = (
    "weights of blocks and table of codes -a, 0, a a row, 400 steps of 2,048 positions with the dense network as "
    "teacher, exported with --target cpu --embeddings trits"
)
LEAST_POSITIVES = 50
"""Outcomes with fewer have slopes too noisy to compare."""


def compared(name: str) -> Compared:
    """Compress, export for a processor, and ask both files of the same held-out patients."""
    model, folder = trained(name), RUNS / f"{name}-ternary"
    run, release, dense = folder / "run", folder / "release", model.run.parent / "release"
    words = ("--config", CONFIG, "--no-gate", *SHORTER)
    once(verb("compress", model.run, model.cohort, run, *words), run)
    once(verb("export", run, release, "--target", "cpu", "--embeddings", "trits"), release)
    once(verb("export", model.run, dense), dense)
    return answered({"compressed": release, "dense": dense}, model.cohort)


def write(name: str, found: Compared) -> None:
    """Write the figures of one model."""
    quality.write(name, "ternary", found, HOW, COMMAND)
    slope = found.scores.filter(
        (pl.col("metric") == "calibration_slope")
        & (pl.col("outcome") != MACRO)
        & (pl.col("positives") >= LEAST_POSITIVES)
    ).drop_nulls("value")
    keys = ["outcome", "horizon_days"]
    pair = slope.filter(model="compressed").join(slope.filter(model="dense"), on=keys, suffix="_dense").sort(keys)
    change = mean_of((pair["value"] - pair["value_dense"]).to_list())
    Figure(
        name=f"compress.quality.{name}.ternary.slope_change", value=change.value, lower=change.lower,
        upper=change.upper, unit="calibration slope", rival="the exported fp32 file", rival_value=0.0,
        count=found.patients, seeds=(SEED,), command=COMMAND,
        note=f"mean over {len(pair)} outcomes and horizons of {LEAST_POSITIVES} positives or more, Student's "
        f"interval over these: {pair['value'].mean():.3f} against {pair['value_dense'].mean():.3f}; {HOW}; "
        f"{found.told}",
    ).write()  # fmt: skip


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=NAMES, action="append", help="(default: those that are trained)")
    given = parser.parse_args()
    for name in given.model or NAMES:
        try:
            found = compared(name)
        except ValueError as missing:
            if given.model:
                parser.error(str(missing))
            print(f"note: {missing}")
            continue
        write(name, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
