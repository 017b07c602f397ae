"""Scores by group of patients: sex, age band, and whatever else does not change in a record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics.measures import Answers, ranking
from ehr.metrics.resampling import Draws, totals
from ehr.metrics.scores import Slot, row

SUBGROUPS = pl.Schema(
    {
        "attribute": pl.String(),
        "group": pl.String(),
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
AGES = (18, 40, 65, 80)
"""Years at which a band begins."""


def age_bands(years: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.str_]:
    """Return the band of each age in years: 0-17, 18-39, 40-64, 65-79, 80+."""
    edges = (0, *AGES)
    names = [f"{a}-{b - 1}" for a, b in zip(edges, AGES, strict=False)] + [f"{AGES[-1]}+"]
    return np.array(names)[np.searchsorted(AGES, years, side="right")]


def by_group(
    slots: Sequence[Slot],
    rows: Sequence[npt.NDArray[np.int64]],
    groups: Mapping[str, npt.NDArray[np.str_]],
    model: str,
    draws: Draws,
) -> pl.DataFrame:
    """Return AUROC, and observed over expected events, of one model in each group; null under 10 positives.

    Args:
        slots: outcomes and horizons; those that are not estimable are left out.
        rows: of each slot, which of the N samples have a label.
        groups: by attribute, the group of each sample, str [N].
        model: whose probabilities.
        draws: resamples of patients.

    Returns:
        SUBGROUPS.
    """
    found: list[tuple[Any, ...]] = []
    for held, known in zip(slots, rows, strict=True):
        if not held.estimable:
            continue
        whole = Answers(held.probability[model], held.label, held.place)
        for attribute, group_of in groups.items():
            own = group_of[known]
            for group in np.unique(group_of).tolist():
                key = (attribute, group, held.outcome, held.horizon_days)
                found += [(*key, *measured) for measured in of_group(whole, own == group, draws)]
    return pl.DataFrame(found, schema=SUBGROUPS, orient="row")


def of_group(whole: Answers, there: npt.NDArray[np.bool_], draws: Draws) -> list[tuple[Any, ...]]:
    """Return metric, value, lower, upper, count, positives and prevalence for the samples of a group."""
    part = Answers(whole.probability[there], whole.label[there], whole.place[there])
    count, positives = len(part.label), int(part.label.sum())
    facts = (count, positives, positives / count if count else None)
    if not part.estimable:
        return [(metric, None, None, None, *facts) for metric in ("auroc", "observed_over_expected")]
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = ranking(part, draws.weight)[0]
        sums = totals(np.stack([part.label, part.probability], 1), part.place, draws.weight)
        ratio = sums[:, 0] / sums[:, 1]
    return [("auroc", *row(auroc, "auroc"), *facts), ("observed_over_expected", *row(ratio, "ratio"), *facts)]
