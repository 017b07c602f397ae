"""A shard of events as arrays, and the quick look-up of what a patient has when."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.codes import distinct, match
from ehr.events import BIRTH, DEATH

DAY = 86_400_000_000
YEAR = 365.25 * DAY
NEVER = 2**62
STATIC = -(2**63)
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Marked(NamedTuple):
    """Dated rows that some patterns match, M of them, ascending by patient and time.

    Attributes:
        run: the patient's place in the shard, i64 [M].
        time: microseconds since 1970, i64 [M].
        moments: distinct times, ascending.
        keys: patient and time as one ascending number, i64 [M].
        first: time of each patient's first such row, NEVER where there is none, i64 [P].
    """

    run: Ints
    time: Ints
    moments: Ints
    keys: Ints
    first: Ints

    def next_after(self, run: Ints, time: Ints) -> Ints:
        """Return the time of each patient's first row after a time, NEVER where there is none."""
        if not len(self.run):
            return np.full(len(run), NEVER)
        rank = np.searchsorted(self.moments, time, side="right")
        at = np.searchsorted(self.keys, run * (len(self.moments) + 1) + rank, side="right")
        found = np.minimum(at, len(self.run) - 1)
        return np.where((at < len(self.run)) & (self.run[found] == run), self.time[found], NEVER)


class Shard:
    """Events in canonical order as arrays over N rows and P patients.

    Attributes:
        subject: subject ids, i64 [P].
        run: the patient of each row, ascending, i64 [N].
        time: microseconds since 1970, STATIC where there is none, i64 [N].
        birth, death: by patient, NEVER where not known, i64 [P].
        first: first clinical event, births and deaths left out, NEVER where there is none, i64 [P].
        last: last event of any kind, STATIC where there is none, i64 [P].
    """

    def __init__(self, events: pl.DataFrame, parents: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Bring events into arrays.

        Args:
            events: EVENTS in canonical order, all rows of a subject together.
            parents: parent codes by code: a pattern also takes the descendants of what it names.
        """
        subject = events["subject_id"].to_numpy()
        self.time: Ints = events["time"].to_physical().fill_null(STATIC).to_numpy()
        self.names, code = distinct(events["code"])
        self.parents = parents
        starts = np.ones(len(subject), dtype=bool)
        starts[1:] = subject[1:] != subject[:-1]
        self.subject: Ints = subject[starts]
        self.run: Ints = np.cumsum(starts) - 1
        # Rows by code: what an outcome is made of is found without a look at the other rows.
        narrow = code.astype(np.uint16) if len(self.names) <= np.iinfo(np.uint16).max else code
        self._rows = np.argsort(narrow, kind="stable")
        self._ends = np.cumsum(np.bincount(code, minlength=len(self.names)))
        self._marked: dict[tuple[str, ...], Marked] = {}
        self.birth = self.marked((BIRTH,)).first
        self.death = self.marked((DEATH,)).first
        self.clinical: Bools = self._clinical(code)
        self.first = earliest(self.run[self.clinical], self.time[self.clinical], len(self.subject))
        self.last = self._last()

    def _clinical(self, code: npt.NDArray[np.int32]) -> Bools:
        apart = np.array([name in {BIRTH, DEATH} for name in self.names], dtype=bool)
        return (self.time != STATIC) & ~apart[code]

    def _last(self) -> Ints:
        # Rows of a patient ascend by time, so the last row is the latest; statics alone leave STATIC.
        ends = np.flatnonzero(np.diff(self.run, append=len(self.subject)))
        return self.time[ends]

    def marked(self, patterns: tuple[str, ...]) -> Marked:
        """Return the dated rows whose code matches any of the patterns."""
        if patterns not in self._marked:
            self._marked[patterns] = self._mark(patterns)
        return self._marked[patterns]

    def _mark(self, patterns: tuple[str, ...]) -> Marked:
        numbers = np.flatnonzero(match(self.names, patterns, self.parents))
        pieces = [self._rows[self._ends[i - 1] if i else 0 : self._ends[i]] for i in numbers]
        rows = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
        if len(pieces) > 1:
            rows.sort()
        rows = rows[self.time[rows] != STATIC]
        run, time = self.run[rows], self.time[rows]
        moments = np.unique(time)
        keys = run * (len(moments) + 1) + np.searchsorted(moments, time, side="right")
        return Marked(run, time, moments, keys, earliest(run, time, len(self.subject)))


def earliest(run: Ints, time: Ints, patients: int) -> Ints:
    """Return the first time of each patient, NEVER where there is none; rows ascend by patient and time."""
    times = np.full(patients, NEVER)
    first = np.ones(len(run), dtype=bool)
    first[1:] = run[1:] != run[:-1]
    times[run[first]] = time[first]
    return times
