"""Curves behind the measures: ROC, precision and recall, reliability, net benefit."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.metrics.measures import mass_bins
from ehr.metrics.resampling import Floats

Bools = npt.NDArray[np.bool_]


class Steps(NamedTuple):
    """Counts at each distinct threshold, from the highest: all with a probability of at least it are called.

    Attributes:
        threshold: descending, f64 [T].
        true: true positives, f64 [T].
        false: false positives, f64 [T].
    """

    threshold: Floats
    true: Floats
    false: Floats


def steps(probability: Floats, label: Bools) -> Steps:
    """Count true and false positives at each distinct probability.

    Args:
        probability: f64 [N].
        label: bool [N].
    """
    order = np.argsort(-probability, kind="stable")
    score, hit = probability[order], label[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    true = np.cumsum(hit, dtype=np.float64)[last]
    return Steps(score[last], true, last + 1 - true)


def roc(probability: Floats, label: Bools) -> tuple[Floats, Floats]:
    """Return false-positive rate and sensitivity, ascending from 0 to 1; the area below is the AUROC."""
    found = steps(probability, label)
    zero = np.zeros(1)
    return np.concatenate([zero, found.false / found.false[-1]]), np.concatenate([zero, found.true / found.true[-1]])


def precision_recall(probability: Floats, label: Bools) -> tuple[Floats, Floats]:
    """Return recall, ascending, and precision at each threshold."""
    found = steps(probability, label)
    return found.true / found.true[-1], found.true / (found.true + found.false)


class Reliability(NamedTuple):
    """Bins of equal mass: mean probability, observed frequency, and its 95 % interval (Wilson), f64 [bins] each."""

    expected: Floats
    observed: Floats
    lower: Floats
    upper: Floats


def reliability(probability: Floats, label: Bools, bins: int = 10) -> Reliability:
    """Return observed frequencies over bins of equal mass."""
    place = mass_bins(probability, bins)
    count = np.bincount(place).astype(np.float64)
    there = count > 0
    count = count[there]
    expected = np.bincount(place, probability)[there] / count
    observed = np.bincount(place, label)[there] / count
    z = 1.959964
    centre = (observed + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(observed * (1 - observed) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return Reliability(expected, observed, centre - half, centre + half)


def net_benefit(probability: Floats, label: Bools, threshold: Floats) -> Floats:
    """Return TP/n - FP/n · t/(1 - t) where all with a probability of at least t are treated (Vickers and Elkin 2006).

    Args:
        probability: f64 [N].
        label: bool [N].
        threshold: t, in (0, 1), f64 [T].
    """
    found = steps(probability, label)
    # The last step whose threshold is not below t; none is before the first.
    called = np.searchsorted(-found.threshold, -threshold, side="right")
    true = np.concatenate([[0.0], found.true])[called]
    false = np.concatenate([[0.0], found.false])[called]
    return (true - false * threshold / (1 - threshold)) / len(label)


def thin(x: Floats, y: Floats, points: int = 200) -> tuple[Floats, Floats]:
    """Return at most so many points of a curve with ends kept, evenly spaced along it, for drawing."""
    if len(x) <= points:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    at = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(x) - 1))
    return x[at], y[at]
