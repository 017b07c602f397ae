"""Events and a registry to LABELS: who is predicted when, what came after, and the attrition of each rule."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.codes import match
from ehr.outcomes.arrays import DAY, NEVER, Bools, Ints, Shard
from ehr.outcomes.eligibility import Counted, eligible
from ehr.outcomes.registry import Index, Outcome, Registry, is_date, microseconds

LABELS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "boolean_value": pl.Boolean(),
        "time_to_event_days": pl.Float32(),
        "event": pl.Boolean(),
    }
)
ATTRITION = pl.Schema({"rule": pl.String(), "outcome": pl.String(), "patients": pl.Int64(), "samples": pl.Int64()})


class Ahead(NamedTuple):
    """What came after N prediction times, over one outcome's H horizons.

    Attributes:
        happened: the event within the window, bool [N, H].
        decided: whether that is known: follow-up covers the window, or event or competing event ended it.
        days: from the prediction time to event, competing event, end of follow-up or of the window, f32 [N, H].
    """

    happened: Bools
    decided: Bools
    days: npt.NDArray[np.float32]


def label(
    events: pl.DataFrame, registry: Registry, parents: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label one shard for every outcome.

    Args:
        events: EVENTS in canonical order, all rows of a subject together.
        registry: outcomes; labels come in its order.
        parents: parent codes by code; a pattern also takes the descendants of what it names.

    Returns:
        LABELS sorted by subject, time, outcome and horizon, null where follow-up ends before the window without
        event; and ATTRITION: how many patients and samples each rule removed, and how many are left.
    """
    shard = Shard(events, parents)
    indexed: dict[Index, Counted] = {}
    found: list[tuple[Counted, Ahead]] = []
    attrition: list[tuple[str, str, int, int]] = []
    for outcome in registry.outcomes:
        counted = eligible(shard, outcome, indexed)
        found.append((counted, ahead(shard, outcome, counted.samples.run, counted.samples.time)))
        attrition += [(removed.rule, outcome.name, *removed[1:]) for removed in counted.removed]
        attrition.append(("kept", outcome.name, counted.samples.patients, len(counted.samples.run)))
    return table(shard.subject, registry, found), pl.DataFrame(attrition, schema=ATTRITION, orient="row")


def ahead(shard: Shard, outcome: Outcome, run: Ints, time: Ints) -> Ahead:
    """Look ahead of each prediction time: the windows are (time + gap, time + gap + horizon]."""
    begin = time + round(outcome.gap_days * DAY)
    end = begin[:, None] + np.array(outcome.horizons_days, dtype=np.int64) * DAY
    until = follow_up_end(shard, outcome, run, time)[:, None]
    event = shard.marked(outcome.any_of).next_after(run, begin)[:, None]
    event = np.where(event <= until, event, NEVER)
    competing = competing_times(shard, outcome, run, time)[:, None]
    happened = (event <= end) & (event <= competing)
    decided = happened | (competing <= np.minimum(end, until)) | (until >= end)
    stop = np.minimum(np.minimum(end, until), np.minimum(event, competing))
    return Ahead(happened, decided, (np.maximum(stop - time[:, None], 0) / DAY).astype(np.float32))


def competing_times(shard: Shard, outcome: Outcome, run: Ints, time: Ints) -> Ints:
    """Return when a competing event ends the patient's risk, NEVER where none does."""
    if outcome.competing is None or match([outcome.competing], outcome.any_of)[0]:
        return np.full(len(run), NEVER)
    return shard.marked((outcome.competing,)).next_after(run, time)


def follow_up_end(shard: Shard, outcome: Outcome, run: Ints, time: Ints) -> Ints:
    """Return the end of follow-up of each sample."""
    if outcome.censor == "never":
        return np.full(len(run), NEVER)
    if outcome.censor == "last_event":
        return shard.last[run]
    if is_date(outcome.censor):
        return np.full(len(run), microseconds(outcome.censor, "censor"))
    return np.minimum(shard.marked((outcome.censor,)).next_after(run, time), shard.last[run])


def table(subject: Ints, registry: Registry, found: list[tuple[Counted, Ahead]]) -> pl.DataFrame:
    """Put the samples of all outcomes into one table, in the order of LABELS."""
    pieces: dict[str, list[npt.NDArray[Any]]] = {
        name: [] for name in ("run", "time", "outcome", "days", "happened", "decided", "until")
    }
    for place, (outcome, (counted, seen)) in enumerate(zip(registry.outcomes, found, strict=True)):
        (run, time), width = counted.samples, len(outcome.horizons_days)
        pieces["run"].append(np.repeat(run, width))
        pieces["time"].append(np.repeat(time, width))
        pieces["outcome"].append(np.full(len(run) * width, place, dtype=np.int64))
        pieces["days"].append(np.tile(np.array(outcome.horizons_days, dtype=np.int32), len(run)))
        for name, values in (("happened", seen.happened), ("decided", seen.decided), ("until", seen.days)):
            pieces[name].append(values.ravel())
    if not sum(map(len, pieces["run"])):
        return pl.DataFrame(schema=LABELS)
    held = {name: np.concatenate(values) for name, values in pieces.items()}
    moments, moment = np.unique(held["time"], return_inverse=True)
    # Patient, time and outcome as one number; each outcome comes in order, so a stable sort only merges.
    key = (held["run"] * len(moments) + moment) * len(registry.outcomes) + held["outcome"]
    order = np.argsort(key, kind="stable")
    held = {name: values[order] for name, values in held.items()}
    names = pl.Series(registry.names, dtype=pl.String)
    columns = {
        "subject_id": subject[held["run"]],
        "prediction_time": pl.Series(held["time"]).cast(pl.Datetime("us")),
        "outcome": names.gather(held["outcome"]),
        "horizon_days": held["days"],
        "boolean_value": held["happened"],
        "time_to_event_days": held["until"],
        "event": held["happened"],
    }
    decided = pl.lit(pl.Series(held["decided"]))
    return pl.DataFrame(columns, schema=LABELS).with_columns(
        boolean_value=pl.when(decided).then(pl.col("boolean_value"))
    )
