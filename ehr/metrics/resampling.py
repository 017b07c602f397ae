"""Resamples of patients: drawn once, used for every outcome and model, so that differences are paired."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
MOST = 255
"""How often a patient is drawn at most: more than 30 has a chance below 1e-30."""


class Draws(NamedTuple):
    """How often each patient stands in each resample.

    Attributes:
        subject: P patients, ascending, i64 [P].
        weight: times drawn, u8 [P, 1 + B]; column 0 is the cohort itself: everyone once.
    """

    subject: Ints
    weight: npt.NDArray[np.uint8]

    def places(self, subject: Ints) -> Ints:
        """Return the row of each sample's patient, i64 [N]."""
        return np.searchsorted(self.subject, subject)


def draw(subject: Ints, positive: npt.NDArray[np.bool_], *, resamples: int, seed: int) -> Draws:
    """Resample patients with replacement, those with any positive and the others apart.

    A patient comes with all of her samples, so that repeated samples of one patient do not narrow an interval
    (cluster bootstrap, Davison and Hinkley 1997, section 3.8).

    Args:
        subject: of each sample, i64 [N].
        positive: whether a sample has any positive label, bool [N].
        resamples: B.
        seed: equal seeds and patients give equal draws.
    """
    patients, place = np.unique(subject, return_inverse=True)
    any_positive = np.bincount(place, positive, minlength=len(patients)) > 0
    weight = np.ones((len(patients), 1 + resamples), dtype=np.uint8)
    generator = np.random.Generator(np.random.Philox(seed))
    for stratum in (np.flatnonzero(any_positive), np.flatnonzero(~any_positive)):
        for b in range(1, 1 + resamples if len(stratum) else 0):
            drawn = np.bincount(generator.integers(len(stratum), size=len(stratum)), minlength=len(stratum))
            weight[stratum, b] = np.minimum(drawn, MOST)
    return Draws(patients, weight)


def interval(replicates: Floats, *, centred: bool = False) -> tuple[float, float, float]:
    """Return the value and its 95 % interval: percentiles of the resamples that have a value.

    Args:
        replicates: the value of the cohort itself, then of B resamples, f64 [1 + B].
        centred: shift the resamples to have the cohort's value as their mean: for what resampling inflates, a sum of
            absolute values, or precision among patients who are drawn twice.
    """
    value, others = float(replicates[0]), replicates[1:]
    others = others[np.isfinite(others)]
    if not np.isfinite(value) or not len(others):
        return value, float("nan"), float("nan")
    if centred:
        others = others - others.mean() + value
    lower, upper = np.percentile(others, [2.5, 97.5])
    return value, float(lower), float(upper)


def totals(values: npt.NDArray[Any], place: Ints, weight: npt.NDArray[np.uint8]) -> Floats:
    """Return sums over samples in each resample, f64 [1 + B, M].

    Args:
        values: f64 [N, M].
        place: the row of each sample's patient, i64 [N].
        weight: u8 [P, 1 + B].
    """
    sums = np.stack([np.bincount(place, column, minlength=len(weight)) for column in values.T], 1)
    held = np.zeros((weight.shape[1], values.shape[1]))
    present = np.unique(place)
    for columns in chunks(weight.shape[1], len(present)):
        held[columns] = weight[present, columns].astype(np.float64).T @ sums[present]
    return held


def chunks(columns: int, rows: int) -> list[slice]:
    """Divide columns so that a block of rows by columns stays near 4 million cells."""
    width = max(8, (1 << 22) // max(1, rows))
    return [slice(begin, min(begin + width, columns)) for begin in range(0, columns, width)]
