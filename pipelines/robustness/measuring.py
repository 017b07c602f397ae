"""Figures of the grid of EHR-C: errors, answers that cross their operating point, calibration, the worst group."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import calibration
from ehr.metrics.resampling import Draws, Floats, interval
from ehr.shifts import score
from ehr.shifts.catalogue import TEST
from ehr.shifts.score import Measured
from pipelines.answering import Match, Model
from pipelines.cohort import Cohort
from pipelines.groups import groups
from pipelines.robustness.grid import Pass
from pipelines.samples import Questions

PASSES = pl.Schema(
    {
        "corruption": pl.String(),
        "severity": pl.Int32(),
        "model": pl.String(),
        "auroc": pl.Float64(),
        "auroc_lower": pl.Float64(),
        "auroc_upper": pl.Float64(),
        "auprc": pl.Float64(),
        "flips": pl.Float64(),
        "shift": pl.Float64(),
        "ece_change": pl.Float64(),
        "worst_group": pl.String(),
        "worst_group_change": pl.Float64(),
        "asked": pl.Int64(),
    }
)
Array = npt.NDArray[np.float32]


class Asked(NamedTuple):
    """Whom a report asks about.

    Attributes:
        questions: N, in the cohort's axes.
        matches: outcomes and horizons that model and cohort have, of those that are estimable.
        place: the row of each question's patient in the draws, i64 [N].
        draws: resamples of patients.
    """

    questions: Questions
    matches: list[Match]
    place: npt.NDArray[np.int64]
    draws: Draws

    @property
    def places(self) -> list[tuple[int, int]]:
        """Outcomes and horizons in the cohort's axes."""
        return [held.cohort for held in self.matches]


def in_cohort(model: Model, asked: Asked, one: Pass) -> Array:
    """Return calibrated probabilities in the cohort's axes, NaN where nothing is asked."""
    probability = calibration.apply(model.calibration, one.logit)
    found = np.full_like(asked.questions.label, np.nan)
    for held in asked.matches:
        found[(slice(None), *held.cohort)] = probability[(slice(None), *held.model)]
    return found


def measure(asked: Asked, probability: Array) -> Measured:
    """Measure one pass."""
    return score.measure(probability, asked.questions.label, asked.places, asked.place, asked.draws)


def measured(model: Model, asked: Asked, passes: dict[str, list[Pass]]) -> dict[str, Any]:
    """Return what the grid came to, by corruption; "" is the clean records."""
    ours = {name: [measure(asked, in_cohort(model, asked, one)).auroc for one in held] for name, held in passes.items()}
    clean = ours.pop("")[0]
    unseen = {name: held for name, held in ours.items() if not TEST[name].seen}
    found: dict[str, Any] = {"clean_auroc": told(clean), "corruptions": list(ours)}
    found["seen"] = [name for name in ours if TEST[name].seen]
    found["excess_error"] = told(score.mean_excess(clean, ours))
    if unseen:
        found["excess_error_unseen"] = told(score.mean_excess(clean, unseen))
    if passes[""][0].reference.size:
        theirs = {name: [measure(asked, one.reference).auroc for one in held] for name, held in passes.items()}
        plain = theirs.pop("")[0]
        found["reference_clean_auroc"] = told(plain)
        found["mce"] = told(score.corruption_error(ours, theirs))
        if unseen:
            found["mce_unseen"] = told(score.corruption_error(unseen, {name: theirs[name] for name in unseen}))
        relative = score.relative_error((clean, ours), (plain, theirs))
        found["relative"] = {name: {"value": value, "ratio": ratio} for name, (value, ratio) in relative.items()}
        found["reference_excess_error"] = told(score.mean_excess(plain, theirs))
    return found


def told(values: Floats) -> dict[str, float]:
    """Return a value with its interval."""
    return dict(zip(("value", "lower", "upper"), interval(values), strict=True))


def tabulated(model: Model, cohort: Cohort, asked: Asked, passes: dict[str, list[Pass]]) -> pl.DataFrame:
    """Return PASSES."""
    clean = in_cohort(model, asked, passes[""][0])
    points = score.operating_points(clean, asked.places)
    ages = np.full(len(asked.place), np.nan)
    parts = groups(cohort, asked.questions.subject, ages)
    rows: list[tuple[Any, ...]] = []
    for name, held in passes.items():
        for number, one in enumerate(held, start=1):
            probability = in_cohort(model, asked, one)
            found, moved = measure(asked, probability), score.moved(clean, probability, asked.questions.label, points)
            worst = worst_group(clean, probability, asked, parts)
            key = (name or "clean", number if name else 0)
            rows.append((*key, "model", *interval(found.auroc), float(found.auprc[0]), *moved, *worst, one.asked))
            if one.reference.size:
                plain = measure(asked, one.reference)
                nothing = (None,) * 5
                rows.append((*key, "reference", *interval(plain.auroc), float(plain.auprc[0]), *nothing, None))
    return pl.DataFrame(rows, schema=PASSES, orient="row")


def worst_group(
    clean: Array, shifted: Array, asked: Asked, parts: dict[str, npt.NDArray[np.str_]]
) -> tuple[str | None, float | None]:
    """Return the group of patients whose mean AUROC falls most, and by how much it changes."""
    once = np.ones((len(asked.draws.subject), 1), dtype=np.uint8)
    draws = Draws(asked.draws.subject, once)
    found: list[tuple[float, str]] = []
    for attribute, names in parts.items():
        for group in np.unique(names).tolist():
            own = names == group
            label = asked.questions.label[own]
            places = score.estimable(label, asked.places)
            if places:
                before, after = (
                    score.measure(part[own], label, places, asked.place[own], draws).auroc[0]
                    for part in (clean, shifted)
                )
                found.append((float(after - before), f"{attribute} {group}"))
    change, name = min(found, default=(None, None))  # pyright: ignore[reportArgumentType]
    return name, change
