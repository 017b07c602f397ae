"""SCORES: one row an outcome, horizon, model and metric, with intervals; macro means and paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics.measures import METRICS, Answers, measure
from ehr.metrics.resampling import Draws, Floats, Ints, interval

SCORES = pl.Schema(
    {
        "model": pl.String(),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "count": pl.Int64(),
        "positives": pl.Int64(),
        "prevalence": pl.Float64(),
    }
)
MACRO = "macro"
PAIRED = ("auroc", "auprc")
INFLATED = ("auprc", "lift", "ece")
"""Metrics that a resample overstates; so do their differences."""


class Slot(NamedTuple):
    """One outcome at one horizon, as several models answer it.

    Attributes:
        outcome: name.
        horizon_days: window.
        label: of the samples that have one, bool [N].
        place: the row of each sample's patient in the draws, i64 [N].
        probability: by model, f64 [N].
        replicates: by model and metric, f64 [1 + B]; empty where not estimable.
    """

    outcome: str
    horizon_days: int
    label: npt.NDArray[np.bool_]
    place: Ints
    probability: Mapping[str, Floats]
    replicates: Mapping[str, Mapping[str, Floats]]

    @property
    def estimable(self) -> bool:
        """Whether it has 10 positives and 10 negatives at least."""
        return bool(self.replicates)


def slot(
    outcome: str,
    horizon_days: int,
    label: npt.NDArray[np.floating[Any]],
    probability: Mapping[str, npt.NDArray[np.floating[Any]]],
    place: Ints,
    draws: Draws,
) -> Slot:
    """Measure all models on one outcome and horizon.

    Args:
        outcome: name.
        horizon_days: window.
        label: 0, 1 or NaN, f32 [N]; samples without a label are left out.
        probability: by model, f32 [N].
        place: the row of each sample's patient in the draws, i64 [N].
        draws: resamples of patients.
    """
    known = ~np.isnan(label)
    positive, at = label[known] == 1, place[known]
    held = {model: values[known].astype(np.float64) for model, values in probability.items()}
    answers = {model: Answers(values, positive, at) for model, values in held.items()}
    replicates = {model: measure(given, draws.weight) for model, given in answers.items() if given.estimable}
    return Slot(outcome, horizon_days, positive, at, held, replicates)


def table(slots: Sequence[Slot], models: Sequence[str]) -> pl.DataFrame:
    """Return SCORES: slot by slot, model by model, then paired differences, then macro means.

    A difference `auroc_over_RIVAL` is the first model's AUROC minus the rival's, over the same resamples.
    Macro rows (outcome `macro`, horizon null) are means over the estimable outcomes and horizons.
    """
    rows: list[tuple[Any, ...]] = []
    for held in slots:
        rows += slot_rows(held, models)
    return pl.DataFrame([*rows, *macro_rows(slots, models)], schema=SCORES, orient="row")


def slot_rows(held: Slot, models: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the rows of one slot; values are null where it is not estimable."""
    count, positives = len(held.label), int(held.label.sum())
    facts = (count, positives, positives / count if count else None)
    metrics = {model: held.replicates.get(model, dict.fromkeys(METRICS)) for model in models}
    rows = [
        (model, held.outcome, held.horizon_days, metric, *row(values, metric), *facts)
        for model in models
        for metric, values in metrics[model].items()
    ]
    for rival in models[1:]:
        for metric in PAIRED:
            ours, theirs = metrics[models[0]][metric], metrics[rival][metric]
            gain = None if ours is None or theirs is None else ours - theirs
            name = f"{metric}_over_{rival}"
            rows.append((models[0], held.outcome, held.horizon_days, name, *row(gain, name), *facts))
    return rows


def row(values: Floats | None, metric: str) -> tuple[float | None, ...]:
    """Return value, lower and upper, null where there is none."""
    if values is None:
        return (None, None, None)
    value, lower, upper = interval(values, centred=metric.startswith(INFLATED))
    # The shift may leave the range of a metric; a difference has none.
    found = (value, max(lower, 0.0) if metric in INFLATED else lower, upper)
    return tuple(number if np.isfinite(number) else None for number in found)


def macro_rows(slots: Sequence[Slot], models: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return means of AUROC and AUPRC over estimable slots, and the paired differences of these means."""
    estimable = [held for held in slots if held.estimable]
    if not estimable:
        return []
    count = sum(len(held.label) for held in estimable)
    positives = sum(int(held.label.sum()) for held in estimable)
    facts = (count, positives, positives / count)
    rows: list[tuple[Any, ...]] = []
    for metric in PAIRED:
        means = {model: np.mean([held.replicates[model][metric] for held in estimable], axis=0) for model in models}
        rows += [(model, MACRO, None, metric, *row(means[model], metric), *facts) for model in models]
        for rival in models[1:]:
            name = f"{metric}_over_{rival}"
            rows.append((models[0], MACRO, None, name, *row(means[models[0]] - means[rival], name), *facts))
    return rows
