"""Events and a registry to LABELS: who is predicted when, what came after, and the attrition of each rule."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.codes import match
from ehr.events import BIRTH, DEATH
from ehr.outcomes.registry import Index, Outcome, Registry, microseconds

DAY = 86_400_000_000
YEAR = 365.25 * DAY
NEVER = 2**62
STATIC = -(2**63)
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
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Shard(NamedTuple):
    """Events of a shard as arrays over rows, and facts by patient (run of rows)."""

    subject: Ints
    run: Ints
    time: Ints
    code: npt.NDArray[np.int32]
    names: list[str]
    moments: Ints
    birth: Ints
    first: Ints
    last: Ints
    death: Ints

    def marked(self, patterns: tuple[str, ...]) -> Ints:
        """Return the dated rows whose code matches, ascending."""
        flags = np.array(match(self.names, patterns), dtype=bool)
        return np.flatnonzero(flags[self.code] & (self.time != STATIC)) if flags.any() else np.zeros(0, np.int64)

    def rank(self, time: Ints) -> Ints:
        """Return how many of the shard's distinct times are at or before each time."""
        return np.searchsorted(self.moments, time, side="right")

    def keys(self, rows: Ints) -> Ints:
        """Return (patient, time) of rows as one ascending number, so that one search finds both."""
        return self.run[rows] * (len(self.moments) + 1) + self.rank(self.time[rows])

    def next_after(self, rows: Ints, run: Ints, time: Ints) -> Ints:
        """Return the time of each patient's first marked row after a time, NEVER where there is none."""
        if not len(rows):
            return np.full(len(run), NEVER)
        keys = self.keys(rows)
        at = np.searchsorted(keys, run * (len(self.moments) + 1) + self.rank(time), side="right")
        found = rows[np.minimum(at, len(rows) - 1)]
        return np.where((at < len(rows)) & (self.run[found] == run), self.time[found], NEVER)

    def any_until(self, rows: Ints, run: Ints, time: Ints) -> Bools:
        """Tell whether a patient has a marked row at or before a time."""
        return self.next_after(rows, run, np.full(len(run), STATIC + 1)) <= time


class Samples(NamedTuple):
    """Prediction times: the patient's run and microseconds since 1970, ascending."""

    run: Ints
    time: Ints

    def take(self, keep: Bools) -> "Samples":
        """Return the samples marked."""
        return Samples(self.run[keep], self.time[keep])


class Counted(NamedTuple):
    """Samples left, and a row of attrition for each rule so far."""

    samples: Samples
    rows: list[dict[str, object]]

    def keep(self, rule: str, outcome: str, keep: Bools) -> "Counted":
        """Apply one rule and count the patients and samples that it removed."""
        left = self.samples.take(keep)
        lost = len(np.unique(self.samples.run)) - len(np.unique(left.run))
        row = {"rule": rule, "outcome": outcome, "patients": lost, "samples": int((~keep).sum())}
        return Counted(left, [*self.rows, row])


def arrange(events: pl.DataFrame) -> Shard:
    """Bring events in canonical order into arrays."""
    subject = events["subject_id"].to_numpy()
    time = events["time"].to_physical().fill_null(STATIC).to_numpy()
    unique = events["code"].unique().sort()
    number = np.arange(len(unique), dtype=np.int32)
    code = events["code"].replace_strict(unique, number, return_dtype=pl.Int32).to_numpy()
    names = unique.to_list()
    starts = np.ones(len(subject), dtype=bool)
    starts[1:] = subject[1:] != subject[:-1]
    run = np.cumsum(starts) - 1
    dated = time != STATIC
    is_birth = np.array([name == BIRTH for name in names], dtype=bool)[code]
    is_death = np.array([name == DEATH for name in names], dtype=bool)[code]
    patients = int(starts.sum())

    def earliest(rows: Bools) -> Ints:
        times = np.full(patients, NEVER)
        at = np.flatnonzero(rows)[::-1]
        times[run[at]] = time[at]
        return times

    last = np.full(patients, STATIC)
    last[run[np.flatnonzero(dated)]] = time[np.flatnonzero(dated)]
    clinical = dated & ~is_birth & ~is_death
    moments = np.unique(time)
    return Shard(
        subject[starts], run, time, code, names, moments, earliest(is_birth & dated), earliest(clinical), last,
        earliest(is_death & dated),
    )  # fmt: skip


def label(events: pl.DataFrame, registry: Registry) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label one shard for every outcome.

    Args:
        events: EVENTS in canonical order, all rows of a subject together.
        registry: outcomes; labels come in its order.

    Returns:
        LABELS sorted by subject, time and outcome, null where follow-up ends before the window without event;
        and ATTRITION: how many patients and samples each rule removed, and how many are left.
    """
    shard = arrange(events)
    frames: list[pl.DataFrame] = []
    attrition: list[dict[str, object]] = []
    for outcome in registry.outcomes:
        frame, rows = label_one(shard, outcome)
        frames.append(frame)
        attrition += rows
    labels = pl.concat(frames) if frames else pl.DataFrame(schema=LABELS)
    position = {name: i for i, name in enumerate(registry.names)}
    place = pl.col("outcome").replace_strict(position, return_dtype=pl.Int32)
    labels = labels.sort("subject_id", "prediction_time", place, "horizon_days")
    return labels, pl.DataFrame(attrition, schema=ATTRITION)


def label_one(shard: Shard, outcome: Outcome) -> tuple[pl.DataFrame, list[dict[str, object]]]:
    """Label one outcome: choose samples, apply the rules, look ahead."""
    counted = eligible(shard, outcome)
    run, time = counted.samples
    begin = time + round(outcome.gap_days * DAY)
    event = shard.next_after(shard.marked(outcome.any_of), run, begin)
    competing = competing_times(shard, outcome, run, time)
    follow_up = follow_up_end(shard, outcome, run, time)
    event = np.where(event <= follow_up, event, NEVER)
    frames: list[pl.DataFrame] = []
    for horizon in outcome.horizons_days:
        end = begin + horizon * DAY
        happened = (event <= end) & (event <= competing)
        decided = happened | (competing <= np.minimum(end, follow_up)) | (follow_up >= end)
        until = np.minimum(np.minimum(end, follow_up), np.minimum(event, competing))
        frames.append(
            pl.DataFrame(
                {
                    "subject_id": shard.subject[run],
                    "prediction_time": pl.Series(time).cast(pl.Datetime("us")),
                    "outcome": pl.Series([outcome.name], dtype=pl.String).new_from_index(0, len(run)),
                    "horizon_days": np.full(len(run), horizon, dtype=np.int32),
                    "boolean_value": pl.select(
                        pl.when(pl.Series(decided)).then(pl.Series(happened)).otherwise(None)
                    ).to_series(),
                    "time_to_event_days": (np.maximum(until - time, 0) / DAY).astype(np.float32),
                    "event": happened,
                },
                schema=LABELS,
            )
        )
    left = {
        "rule": "kept",
        "outcome": outcome.name,
        "patients": len(np.unique(run)),
        "samples": len(run),
    }
    return pl.concat(frames), [*counted.rows, left]


def eligible(shard: Shard, outcome: Outcome) -> Counted:
    """Return the prediction times that every rule leaves, with the attrition."""
    index, name = outcome.index, outcome.name
    counted = Counted(candidates(shard, index), [])
    total = counted.samples
    patients = len(np.unique(total.run))
    rows: list[dict[str, object]] = [
        {"rule": "candidates", "outcome": name, "patients": patients, "samples": len(total.run)}
    ]
    counted = Counted(total, rows)
    run, time = counted.samples
    counted = counted.keep("alive", name, shard.death[run] > time)
    run, time = counted.samples
    history = (time - shard.first[run]) / DAY
    counted = counted.keep("min_history_days", name, (shard.first[run] <= time) & (history >= index.min_history_days))
    if index.min_age is not None or index.max_age is not None:
        run, time = counted.samples
        years = np.where(shard.birth[run] == NEVER, -1.0, (time - shard.birth[run]) / YEAR)
        low, high = index.min_age or 0.0, index.max_age or np.inf
        counted = counted.keep("age", name, (years >= low) & (years < high))
    counted = Counted(every(counted.samples, index.every), counted.rows)
    run, time = counted.samples
    if outcome.exclude:
        counted = counted.keep("exclude", name, ~shard.any_until(shard.marked(outcome.exclude), run, time))
        run, time = counted.samples
    if outcome.incident_only:
        begin = time + round(outcome.gap_days * DAY)
        counted = counted.keep("prior_case", name, ~shard.any_until(shard.marked(outcome.any_of), run, begin))
    return counted


def candidates(shard: Shard, index: Index) -> Samples:
    """Return every time that the index rule names, one a patient and moment."""
    patients = np.arange(len(shard.subject))
    if index.at[:4].isdigit():
        samples = Samples(patients, np.full(len(patients), microseconds(index.at, "index.at")))
    elif index.at == "last_event":
        samples = Samples(patients, shard.last).take(shard.last != STATIC)
    else:
        points = {"visit_start": "START", "visit_end": "END"}
        point = points.get(index.at)
        pattern = f"VISIT//{index.visit_type}//{point}" if point else index.at
        rows = shard.marked((pattern,))
        samples = Samples(shard.run[rows], shard.time[rows])
    keep = np.ones(len(samples.run), dtype=bool)
    keep[1:] = (samples.run[1:] != samples.run[:-1]) | (samples.time[1:] != samples.time[:-1])
    if index.since:
        keep &= samples.time >= microseconds(index.since, "index.since")
    if index.until:
        keep &= samples.time < microseconds(index.until, "index.until")
    return samples.take(keep)


def every(samples: Samples, rule: str) -> Samples:
    """Return all samples, or the first, the latest or the first of each calendar year of a patient."""
    run = samples.run
    if rule == "all" or not len(run):
        return samples
    keep = np.ones(len(run), dtype=bool)
    if rule == "latest":
        keep[:-1] = run[1:] != run[:-1]
        return samples.take(keep)
    keep[1:] = run[1:] != run[:-1]
    if rule == "first_per_year":
        year = samples.time.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)
        keep[1:] |= year[1:] != year[:-1]
    return samples.take(keep)


def competing_times(shard: Shard, outcome: Outcome, run: Ints, time: Ints) -> Ints:
    """Return when a competing event ends the patient's risk, NEVER where none does."""
    if outcome.competing is None or match([outcome.competing], outcome.any_of)[0]:
        return np.full(len(run), NEVER)
    return shard.next_after(shard.marked((outcome.competing,)), run, time)


def follow_up_end(shard: Shard, outcome: Outcome, run: Ints, time: Ints) -> Ints:
    """Return the end of follow-up of each sample."""
    if outcome.censor == "last_event":
        return shard.last[run]
    if outcome.censor[:4].isdigit():
        return np.full(len(run), microseconds(outcome.censor, "censor"))
    stop = shard.next_after(shard.marked((outcome.censor,)), run, time)
    return np.minimum(stop, shard.last[run])
