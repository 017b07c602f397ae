"""What is asked of futures: windows of outcomes, and prediction times."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.codes import match
from ehr.grammar import IMPOSSIBLE, Grammar
from ehr.outcomes.registry import Registry
from ehr.timelines import Timelines
from ehr.vocabulary import Vocabulary
from pipelines.cohort import Cohort, labels
from pipelines.rethink.patients.settings import Rethinking

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Slot(NamedTuple):
    """One window of one outcome: (time + gap, time + gap + horizon].

    Attributes:
        outcome: its name.
        horizon_days: length of the window.
        gap_days: before the window begins.
        incident: whether a future that holds the event within the gap is left out.
        tokens: ids that are the event.
    """

    outcome: str
    horizon_days: int
    gap_days: float
    incident: bool
    tokens: tuple[int, ...]


class Asked(NamedTuple):
    """Q prediction times with what came after them, sorted by subject and time.

    Attributes:
        subject: i64 [Q].
        time: microseconds since 1970, i64 [Q].
        label: 0 or 1, NaN where not known or not asked, f64 [Q, S].
    """

    subject: Ints
    time: Ints
    label: Floats

    def take(self, rows: Ints) -> "Asked":
        """Return some rows."""
        return Asked(self.subject[rows], self.time[rows], self.label[rows])


def slots_of(
    registry: Registry,
    vocabulary: Vocabulary,
    rules: Grammar,
    settings: Rethinking,
    parents: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[list[Slot], dict[str, str]]:
    """Return the windows that futures can answer, and why others are left out.

    Raises:
        ValueError: an outcome named in the settings is not the cohort's, or no window is left.
    """
    if unknown := [name for name in settings.outcomes if name not in registry.names]:
        raise ValueError(f"outcomes: no outcome {unknown[0]}; the cohort has {', '.join(registry.names)}")
    bare = vocabulary.bare()
    codes = [vocabulary.codes[at] for at in bare.tolist()]
    slots: list[Slot] = []
    left: dict[str, str] = {}
    for outcome in registry.outcomes:
        if settings.outcomes and outcome.name not in settings.outcomes:
            continue
        hit = np.array(match(codes, outcome.any_of, parents), dtype=bool) & (rules.kind != IMPOSSIBLE)
        tokens = tuple(np.flatnonzero(hit).tolist())
        if not tokens:
            left[outcome.name] = "no future can hold its codes"
            continue
        for days in outcome.horizons_days:
            if not 0 < outcome.gap_days + days <= settings.longest_days:
                left[f"{outcome.name}, {days} days"] = f"its window ends after {settings.longest_days:g} days"
                continue
            slots.append(Slot(outcome.name, days, outcome.gap_days, outcome.incident_only, tokens))
    if not slots:
        told = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise ValueError(f"no outcome is left to ask ({told}); raise longest_days, or name other outcomes")
    return slots, left


def window_of(slots: Sequence[Slot]) -> float:
    """Return the days that futures and evidence cover."""
    return max(slot.gap_days + slot.horizon_days for slot in slots)


def asked_of(cohort: Cohort, split: str, slots: Sequence[Slot]) -> Asked:
    """Return the prediction times of a split that have a label, known or not, in some window.

    Raises:
        ValueError: there is no such split, or it has none.
    """
    rows = known(labels(cohort, split), slots)
    if rows.is_empty():
        raise ValueError(f"{cohort.path}: split {split} is asked nothing; prepare the cohort with --outcomes")
    return table(rows, slots)


def known(frame: pl.DataFrame, slots: Sequence[Slot]) -> pl.DataFrame:
    """Return the labels of some windows, with their number."""
    numbered = pl.DataFrame(
        [(slot.outcome, slot.horizon_days, at) for at, slot in enumerate(slots)],
        schema={"outcome": pl.String, "horizon_days": pl.Int32, "slot": pl.Int64},
        orient="row",
    )
    return frame.join(numbered, on=["outcome", "horizon_days"], maintain_order="left")


def table(rows: pl.DataFrame, slots: Sequence[Slot]) -> Asked:
    """Turn numbered labels into arrays."""
    keys = rows.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")
    placed = rows.join(keys.with_row_index("at"), on=["subject_id", "prediction_time"], maintain_order="left")
    label = np.full((len(keys), len(slots)), np.nan)
    value = placed["boolean_value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    label[placed["at"].to_numpy(), placed["slot"].to_numpy()] = value
    return Asked(keys["subject_id"].to_numpy(), keys["prediction_time"].to_physical().to_numpy(), label)


def pool_of(cohort: Cohort, slots: Sequence[Slot], source: Timelines) -> Asked:
    """Return the training patients that may be neighbours, each at her latest time that was followed to its end.

    A window that follow-up does not cover is null in LABELS; such a time is no evidence.

    Raises:
        ValueError: nobody is left.
    """
    rows = known(labels(cohort, "train"), slots)
    keys = ["subject_id", "prediction_time"]
    open_ = rows.filter(pl.col("boolean_value").is_null()).select(keys).unique()
    rows = rows.join(open_, on=keys, how="anti", maintain_order="left")
    latest = rows.group_by("subject_id", maintain_order=True).agg(pl.col("prediction_time").max())
    rows = rows.join(latest, on=keys, how="semi", maintain_order="left")
    held = table(rows, slots)
    held = held.take(with_history(held, source))
    if not len(held.subject):
        raise ValueError(f"{cohort.path}: no training patient is followed over the windows asked; shorten them")
    return held


def with_history(asked: Asked, source: Timelines) -> Ints:
    """Return the rows whose patients have a token by the time asked."""
    pairs = zip(asked.subject.tolist(), asked.time.tolist(), strict=True)
    return np.flatnonzero([bool((source.record(subject).time <= time).any()) for subject, time in pairs])
