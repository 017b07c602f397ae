"""What ternary weights cost behind a teacher, file against file: `python -m tests.benchmarks.compress.distilled`.

The compressed file is that of `anamnesis export --target cpu`, with the table of codes in three values too.
"""

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics.resampling import draw, interval
from ehr.metrics.scores import MACRO
from pipelines.samples import Questions
from tests.benchmarks.compress import quality
from tests.benchmarks.compress.models import NAMES, RUNS, once, trained
from tests.benchmarks.compress.quality import SEED, Compared, answered
from tests.benchmarks.harness import ROOT, Figure, verb

COMMAND = "python -m tests.benchmarks.compress.distilled"
CONFIG = ROOT / "configs" / "compress" / "ternary.yaml"
SHORTER = ("--method.init_args.steps", "400", "--method.init_args.tokens", "2048")
"""Smaller batches than the defaults, so that a model takes minutes on one core."""
BLOCKS = ("--method.init_args.layers", '["@blocks"]')
TABLES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "physionet2012": (
        "int8",
        BLOCKS,
        "weights of blocks -a, 0, a a row, table of codes int8; its network hardly ranks",
    ),
}
"""Where outcomes are told sums of the table's rows, as stays of two days are, it keeps eight bits."""
TERNARY = ("trits", (), "weights of blocks and table of codes -a, 0, a a row")
HOW = "400 steps of 2,048 positions with the dense network as teacher, exported with --target cpu --embeddings"
LEAST_POSITIVES = 50
"""Outcomes with fewer have slopes of their own too noisy to compare."""
RESAMPLES, STEPS, TINY = 100, 50, 1e-12


def compared(name: str) -> Compared:
    """Compress, export for a processor, and ask both files of the same held-out patients."""
    model, folder = trained(name), RUNS / f"{name}-ternary"
    run, release, dense = folder / "run", folder / "release", model.run.parent / "release"
    table, layers, _ = TABLES.get(name, TERNARY)
    words = ("--config", CONFIG, "--no-gate", *SHORTER, *layers)
    once(verb("compress", model.run, model.cohort, run, *words), run)
    once(verb("export", run, release, "--target", "cpu", "--embeddings", table), release)
    once(verb("export", model.run, dense), dense)
    return answered({"compressed": release, "dense": dense}, model.cohort)


def write(name: str, found: Compared) -> None:
    """Write the figures of one model."""
    table, _, told = TABLES.get(name, TERNARY)
    how = f"{told}, {HOW} {table}"
    quality.write(name, "ternary", found, how, COMMAND)
    slope = {arm: slopes(found.asked, held) for arm, held in found.probability.items()}
    change = interval(slope["compressed"] - slope["dense"])
    Figure(
        name=f"compress.quality.{name}.ternary.slope_change", value=change[0], lower=change[1], upper=change[2],
        unit="calibration slope", rival="the exported fp32 file", rival_value=float(slope["dense"][0]),
        count=found.patients, seeds=(SEED,), command=COMMAND,
        note=f"one slope over all outcomes and horizons, each with an intercept of its own: "
        f"{slope['compressed'][0]:.3f} against {slope['dense'][0]:.3f}; {RESAMPLES} paired resamples of patients; "
        f"{apart(found)}; {how}; {found.told}",
    ).write()  # fmt: skip


def slopes(asked: Questions, probability: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the common slope of a file's answers, as it is and in resamples of patients, f64 [1 + B]."""
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=RESAMPLES, seed=SEED)
    place, known = draws.places(asked.subject), ~np.isnan(asked.label)
    at, k, h = np.nonzero(known)
    p = np.clip(probability[known].astype(np.float64), 1e-7, 1 - 1e-7)
    group = k * known.shape[2] + h
    weight = draws.weight[place[at]].astype(np.float64)
    return np.array([pooled_slope(np.log(p / (1 - p)), asked.label[known], group, one) for one in weight.T])


def pooled_slope(
    logit: npt.NDArray[np.float64],
    label: npt.NDArray[Any],
    group: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
) -> float:
    """Return the slope of logistic regression of labels on logits, with an intercept for each group (Newton's steps).

    The mean of slopes by outcome has no use where a file ranks an outcome no better than chance: its slope is then
    anything.
    """
    slope, intercept = 1.0, np.zeros(group.max() + 1)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(slope * logit + intercept[group], -30, 30)))
        curve, rest = weight * p * (1 - p), weight * (label - p)
        bent, mixed, missed = (
            np.bincount(group, values, minlength=len(intercept)) for values in (curve, curve * logit, rest)
        )
        share = mixed / np.maximum(bent, TINY)
        step = (rest @ logit - share @ missed) / (curve @ logit**2 - share @ mixed)
        slope += step
        intercept += (missed - mixed * step) / np.maximum(bent, TINY)
        if abs(step) < 1e-9:
            break
    return float(slope)


def apart(found: Compared) -> str:
    """Return how much the slopes of outcomes change one by one."""
    slope = found.scores.filter(
        (pl.col("metric") == "calibration_slope")
        & (pl.col("outcome") != MACRO)
        & (pl.col("positives") >= LEAST_POSITIVES)
    ).drop_nulls("value")
    keys = ["outcome", "horizon_days"]
    pair = slope.filter(model="compressed").join(slope.filter(model="dense"), on=keys, suffix="_dense")
    change = (pair["value"] - pair["value_dense"]).to_numpy()
    return (
        f"by itself each of {len(pair)} outcomes and horizons of {LEAST_POSITIVES} positives or more changes by "
        f"{np.median(change):+.3f} in the median, {change.mean():+.3f} in the mean, {change.min():+.3f} to "
        f"{change.max():+.3f}"
    )


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
