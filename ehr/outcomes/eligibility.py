"""Who is predicted when: the prediction times that an index rule names, and what each rule leaves of them."""

from typing import NamedTuple

import numpy as np

from ehr.outcomes.arrays import DAY, NEVER, STATIC, YEAR, Bools, Ints, Shard
from ehr.outcomes.registry import Index, Outcome, is_date, microseconds


class Samples(NamedTuple):
    """Prediction times: the patient's place in the shard, and microseconds since 1970; ascending."""

    run: Ints
    time: Ints

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(np.count_nonzero(np.diff(self.run))) + bool(len(self.run))

    def take(self, keep: Bools) -> "Samples":
        """Return the samples marked."""
        return Samples(self.run[keep], self.time[keep])


class Removed(NamedTuple):
    """One row of attrition: a rule, and how many patients (with all their samples) and samples it removed."""

    rule: str
    patients: int
    samples: int


class Counted(NamedTuple):
    """Samples left, and what the rules so far removed."""

    samples: Samples
    removed: tuple[Removed, ...]

    def keep(self, rule: str, keep: Bools) -> "Counted":
        """Apply one rule."""
        left = self.samples.take(keep)
        lost = Removed(rule, self.samples.patients - left.patients, int(np.count_nonzero(~keep)))
        return Counted(left, (*self.removed, lost))


def eligible(shard: Shard, outcome: Outcome, indexed: dict[Index, Counted]) -> Counted:
    """Return the prediction times that every rule of an outcome leaves, with the attrition.

    Args:
        shard: events.
        outcome: its index rule, exclusions and prior cases.
        indexed: what index rules gave so far; outcomes that share one do not repeat it.
    """
    if outcome.index not in indexed:
        indexed[outcome.index] = by_index(shard, outcome.index)
    counted = indexed[outcome.index]
    if outcome.exclude:
        run, time = counted.samples
        counted = counted.keep("exclude", shard.marked(outcome.exclude).first[run] > time)
    if outcome.incident_only:
        run, time = counted.samples
        begin = time + round(outcome.gap_days * DAY)
        counted = counted.keep("prior_case", shard.marked(outcome.any_of).first[run] > begin)
    return counted


def by_index(shard: Shard, index: Index) -> Counted:
    """Apply an index rule: candidates, then who is alive, known long enough, of the age, then `every`."""
    total = candidates(shard, index)
    counted = Counted(total, (Removed("candidates", total.patients, len(total.run)),))
    if index.alive:
        run, time = counted.samples
        counted = counted.keep("alive", shard.death[run] > time)
    run, time = counted.samples
    # A patient without any event before the prediction time has nothing to be predicted from.
    known = shard.first[run] <= time
    counted = counted.keep("min_history_days", known & (time - shard.first[run] >= index.min_history_days * DAY))
    if index.min_age is not None or index.max_age is not None:
        run, time = counted.samples
        years = np.where(shard.birth[run] == NEVER, -1.0, (time - shard.birth[run]) / YEAR)
        low, high = index.min_age or 0.0, np.inf if index.max_age is None else index.max_age
        counted = counted.keep("age", (years >= low) & (years < high))
    return counted if index.every == "all" else counted.keep("every", every(counted.samples, index.every))


def candidates(shard: Shard, index: Index) -> Samples:
    """Return every time that the index rule names, one a patient and moment."""
    patients = np.arange(len(shard.subject))
    if is_date(index.at):
        samples = Samples(patients, np.full(len(patients), microseconds(index.at, "index.at")))
    elif index.at == "last_event":
        last = np.full(len(patients), STATIC)
        last[shard.run[shard.clinical]] = shard.time[shard.clinical]
        samples = Samples(patients, last).take(last != STATIC)
    elif index.at == "day_end":
        run, time = shard.run[shard.clinical], shard.time[shard.clinical]
        ends = np.ones(len(run), dtype=bool)
        ends[:-1] = (np.diff(time // DAY) != 0) | (np.diff(run) != 0)
        samples = Samples(run, time).take(ends)
    else:
        point = {"visit_start": "START", "visit_end": "END"}.get(index.at)
        marked = shard.marked((f"VISIT//{index.visit_type}//{point}" if point else index.at,))
        samples = Samples(marked.run, marked.time)
    keep = np.ones(len(samples.run), dtype=bool)
    keep[1:] = (np.diff(samples.run) != 0) | (np.diff(samples.time) != 0)
    if index.since:
        keep &= samples.time >= microseconds(index.since, "index.since")
    if index.until:
        keep &= samples.time < microseconds(index.until, "index.until")
    return samples.take(keep)


def every(samples: Samples, rule: str) -> Bools:
    """Mark the first, the latest, or the first of each calendar year of a patient's samples."""
    run = samples.run
    keep = np.ones(len(run), dtype=bool)
    if rule == "latest":
        keep[:-1] = run[1:] != run[:-1]
        return keep
    keep[1:] = run[1:] != run[:-1]
    if rule == "first_per_year":
        year = samples.time.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)
        keep[1:] |= year[1:] != year[:-1]
    return keep
