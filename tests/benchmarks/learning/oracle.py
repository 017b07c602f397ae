"""The simulator's ceiling: the true risk given the observed history, as an arm that cannot be beaten but by luck."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics.measures import EDGE, Answers, fitted, mass_bins, ranking
from pipelines.cohort import Cohort
from pipelines.samples import Questions, counts, questions_of
from tests.benchmarks.learning.cohorts import PLANS

COMMON = 0.05
"""Training prevalence from which an outcome is common."""
Floats = npt.NDArray[np.float32]


def risks(name: str, cohort: Cohort, asked: Questions) -> Floats:
    """Return true risks of questions, NaN where none is known, f32 [N, K, H]."""
    truth = pl.concat([pl.read_parquet(path) for path in sorted((PLANS[name].source / "truth").glob("*.parquet"))])
    found = np.full(asked.label.shape, np.nan, np.float32)
    key = {pair: row for row, pair in enumerate(zip(asked.subject.tolist(), asked.time.tolist(), strict=True))}
    for k, outcome in enumerate(cohort.registry.names):
        for h, days in enumerate(cohort.registry.horizons[k].tolist()):
            held = truth.filter((pl.col("outcome") == outcome) & (pl.col("horizon_days") == days))
            times = held["prediction_time"].to_physical()
            at = [key.get(pair, -1) for pair in zip(held["subject_id"].to_list(), times.to_list(), strict=True)]
            rows = np.array(at, dtype=np.int64)
            found[rows[rows >= 0], k, h] = held["risk"].to_numpy()[rows >= 0]
    return found


def compared(name: str, cohort: Cohort, asked: Questions, probability: Floats) -> dict[str, Any]:
    """Return, by common outcome and horizon, AUROC of the oracle and of an arm, and the arm's calibration.

    Slope and expected calibration error are against the true risk, not against what chance made of it.
    """
    if not PLANS[name].mechanism:
        return {}
    risk = risks(name, cohort, asked)
    labels, positives = counts(questions_of(cohort, "train"))
    found: dict[str, Any] = {}
    for k, h in np.argwhere(positives >= COMMON * np.maximum(labels, 1)).tolist():
        known = ~np.isnan(asked.label[:, k, h]) & ~np.isnan(risk[:, k, h])
        if labels[k, h] and known.any():
            slot = f"{cohort.registry.names[k]}.{cohort.registry.horizons[k, h]}"
            found[slot] = one(asked.label[known, k, h] == 1, risk[known, k, h], probability[known, k, h])
    return found


def one(label: npt.NDArray[np.bool_], risk: Floats, probability: Floats) -> dict[str, float]:
    """Compare an arm with the oracle on N answers."""
    weight, place = np.ones((len(label), 1), np.uint8), np.arange(len(label))
    given = [Answers(values.astype(np.float64), label, place) for values in (risk, probability)]
    oracle, arm = (float(ranking(answers, weight)[0][0]) for answers in given)
    p, true = (answers.probability for answers in (given[1], given[0]))
    p = np.clip(p, EDGE, 1 - EDGE)
    z = np.log(p) - np.log1p(-p)
    line = fitted(np.stack([z, np.ones_like(z)], 1), np.zeros_like(z), true)
    bins = mass_bins(p)
    error = np.abs(np.bincount(bins, p - true)).sum() / len(p)
    return {
        "oracle": round(oracle, 5),
        "auroc": round(arm, 5),
        "slope": float("nan") if line is None else round(float(line[0]), 4),
        "ece": round(float(error), 5),
    }
