"""Whether ranking and calibration became worse than they were, by more than chance."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.metrics.resampling import Ints, draw
from ehr.metrics.scores import slot

RESAMPLES, SEED = 200, 0
WATCHED = ("auroc", "calibration_intercept", "calibration_slope")
"""AUROC is watched for falling alone, calibration for leaving in either direction."""


class Measured(NamedTuple):
    """A metric and its standard error, by resampling patients."""

    value: float
    error: float


class Performance(NamedTuple):
    """How one outcome at one horizon was answered; metrics are empty under 10 positives or negatives."""

    labelled: int
    positives: int
    metrics: Mapping[str, Measured]


class Change(NamedTuple):
    """One metric then and now.

    Attributes:
        outcome: name.
        horizon_days: window.
        metric: of WATCHED.
        before: on the patients learnt from, or another reference.
        now: on those scored.
        chance: p-value among all that were asked.
    """

    outcome: str
    horizon_days: int
    metric: str
    before: Measured
    now: Measured
    chance: float


def performance(
    subject: Ints, label: npt.NDArray[np.floating[Any]], probability: npt.NDArray[np.floating[Any]]
) -> Performance:
    """Measure one outcome at one horizon.

    Args:
        subject: i64 [N]; samples of one patient are resampled together.
        label: 0, 1 or NaN, f32 [N]; samples without a label are left out.
        probability: f32 [N].
    """
    # All of one stratum: drawn apart, positives would be as many in each resample, and how their number wavers is most
    # of the error of the intercept.
    draws = draw(subject, np.zeros(len(subject), dtype=np.bool_), resamples=RESAMPLES, seed=SEED)
    held = slot("", 0, label, {"model": probability}, draws.places(subject), draws)
    found = {name: measured(held.replicates["model"][name]) for name in WATCHED} if held.estimable else {}
    kept = {name: made for name, made in found.items() if math.isfinite(made.value) and made.error > 0}
    return Performance(len(held.label), int(held.label.sum()), kept)


def measured(replicates: npt.NDArray[np.float64]) -> Measured:
    """Return the value and the standard deviation of its resamples."""
    others = replicates[1:][np.isfinite(replicates[1:])]
    return Measured(float(replicates[0]), float(others.std(ddof=1)) if len(others) > 1 else 0.0)


def changes(
    before: Mapping[tuple[str, int], Performance], now: Mapping[tuple[str, int], Performance], *, families: int = 1
) -> list[Change]:
    """Compare what both measured.

    The difference of two independent groups is divided by its standard error and taken as normal, an approximation
    that asks for some tens of positives; p-values are multiplied by the number of metrics (Bonferroni).

    Args:
        before: by outcome and horizon.
        now: the same of others.
        families: of questions that share the bearable chance.
    """
    pairs = [
        (key, name, before[key].metrics[name], now[key].metrics[name])
        for key in now
        if key in before
        for name in WATCHED
        if name in before[key].metrics and name in now[key].metrics
    ]
    return [
        Change(*key, name, old, new, min(1.0, chance(name, old, new) * len(pairs) * families))
        for key, name, old, new in pairs
    ]


def chance(metric: str, before: Measured, now: Measured) -> float:
    """Return the p-value of one difference: one-sided of AUROC, else two-sided."""
    z = (now.value - before.value) / math.hypot(now.error, before.error)
    return 0.5 * math.erfc(-z / math.sqrt(2)) if metric == "auroc" else math.erfc(abs(z) / math.sqrt(2))


def to_json(held: Mapping[tuple[str, int], Performance]) -> list[dict[str, Any]]:
    """Return performances as plain types; counts under 10 are left out with their metrics."""
    return [
        {
            "outcome": outcome,
            "horizon_days": days,
            "count": found.labelled,
            "positives": found.positives,
            "metrics": {name: list(made) for name, made in found.metrics.items()},
        }
        for (outcome, days), found in held.items()
        if found.metrics
    ]


def from_json(content: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Performance]:
    """Read performances.

    Raises:
        ValueError: they are none.
    """
    try:
        return {
            (str(row["outcome"]), int(row["horizon_days"])): Performance(
                int(row["count"]),
                int(row["positives"]),
                {str(name): Measured(float(value), float(error)) for name, (value, error) in row["metrics"].items()},
            )
            for row in content
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("not the performance of a release; expected digest.json made by anamnesis") from None
