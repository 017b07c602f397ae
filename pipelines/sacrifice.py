"""What a compression costs: the same patients asked of the dense and of the compressed network, with paired draws."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from compress.gates import Budget, Quality, check
from ehr import calibration as calibrations
from ehr.calibration import Calibration
from ehr.metrics.resampling import draw
from ehr.metrics.scores import Slot, slot, table
from ehr.metrics.subgroups import by_group
from pipelines.cohort import Cohort
from pipelines.groups import groups
from pipelines.samples import Questions

COMPRESSED, DENSE = "compressed", "dense"
HELD = ("auroc", "auprc", "brier", "ece")
RARE, TOP = 0.01, 0.05
"""Outcomes of at most this prevalence are rare; their recall is that among so many with the highest probability."""
Floats = npt.NDArray[np.float32]


class Answered(NamedTuple):
    """One network's answers.

    Attributes:
        logit: f32 [N, K, H].
        calibration: of these logits.
    """

    logit: Floats
    calibration: Calibration


class Sacrifice(NamedTuple):
    """Quality before and after.

    Attributes:
        scores: SCORES of `compressed` and `dense`, with `auroc_over_dense` and `auprc_over_dense`, paired.
        before: by outcome and horizon.
        after: the same questions.
        groups_before: by group of patients, outcome and horizon.
        groups_after: the same.
        rare: recall of rare outcomes, before and after, by name.
    """

    scores: pl.DataFrame
    before: list[Quality]
    after: list[Quality]
    groups_before: list[Quality]
    groups_after: list[Quality]
    rare: dict[str, dict[str, float]]


def sacrifice(
    cohort: Cohort,
    asked: Questions,
    age_years: npt.NDArray[np.float64],
    dense: Answered,
    compressed: Answered,
    *,
    bootstrap: int,
    seed: int,
) -> Sacrifice:
    """Measure both networks on the same questions.

    Args:
        cohort: of the questions; its static events name groups of patients.
        asked: N questions.
        age_years: at each, f64 [N].
        dense: answers before.
        compressed: answers after.
        bootstrap: resamples of patients.
        seed: of the resamples.
    """
    probability = {
        name: calibrations.apply(held.calibration, held.logit)
        for name, held in ((COMPRESSED, compressed), (DENSE, dense))
    }
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=bootstrap, seed=seed)
    # Groups are shown without intervals: one column of draws, everybody once.
    alone = draws._replace(weight=draws.weight[:, :1])
    place, slots, rows = draws.places(asked.subject), list[Slot](), list[npt.NDArray[np.int64]]()
    for k, outcome in enumerate(cohort.registry.names):
        for h, days in enumerate(cohort.registry.horizons[k]):
            if days >= 0:
                label = asked.label[:, k, h]
                given = {name: values[:, k, h] for name, values in probability.items()}
                slots.append(slot(outcome, int(days), label, given, place, draws))
                rows.append(np.flatnonzero(~np.isnan(label)))
    scores = table(slots, [COMPRESSED, DENSE])
    parts = groups(cohort, asked.subject, age_years)
    apart = [of_groups(by_group(slots, rows, parts, name, alone)) for name in (DENSE, COMPRESSED)]
    return Sacrifice(scores, of(slots, DENSE), of(slots, COMPRESSED), apart[0], apart[1], rare(slots))


def of(slots: list[Slot], model: str) -> list[Quality]:
    """Return the quality of one model by outcome and horizon."""
    return [
        Quality(
            f"{held.outcome} at {held.horizon_days} days",
            int(held.label.sum()),
            {name: float(held.replicates[model][name][0]) if held.estimable else math.nan for name in HELD},
        )
        for held in slots
    ]


def of_groups(frame: pl.DataFrame) -> list[Quality]:
    """Return the quality by group of patients, outcome and horizon."""
    return [
        Quality(
            f"{row['attribute']} {row['group']}, {row['outcome']} at {row['horizon_days']} days",
            row["positives"],
            {"auroc": math.nan if row["value"] is None else row["value"]},
        )
        for row in frame.filter(metric="auroc").iter_rows(named=True)
    ]


def rare(slots: list[Slot]) -> dict[str, dict[str, float]]:
    """Return the recall of rare outcomes among the patients with the highest probability, by model."""
    found: dict[str, dict[str, float]] = {}
    for held in slots:
        if held.estimable and held.label.mean() <= RARE:
            count = math.ceil(TOP * len(held.label))
            found[f"{held.outcome} at {held.horizon_days} days"] = {
                name: float(held.label[np.argsort(-values, kind="stable")[:count]].sum() / held.label.sum())
                for name, values in held.probability.items()
            }
    return found


def summary(found: Sacrifice, budget: Budget | None) -> dict[str, Any]:
    """Return plain values for a report: scores, the group that loses most, rare outcomes, and budgets that broke.

    Raises:
        ValueError: no outcome has enough positives for a budget.
    """
    breaches = (
        []
        if budget is None
        else check(found.before, found.after, budget, subgroups=(found.groups_before, found.groups_after))
    )
    worst = max(
        (
            (one.metrics["auroc"] - two.metrics["auroc"], one.name)
            for one, two in zip(found.groups_before, found.groups_after, strict=True)
            if math.isfinite(one.metrics["auroc"] - two.metrics["auroc"])
        ),
        default=None,
    )
    return {
        "scores": found.scores.to_dicts(),
        "worst_subgroup": None if worst is None else {"group": worst[1], "auroc_change": -worst[0]},
        "rare_recall": found.rare,
        "breaches": [str(held) for held in breaches],
    }
