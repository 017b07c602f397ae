"""What futures, neighbours and records are compared by: whether a window of time holds a code.

A visit's separators and the time tokens tell when things are, and are no steps of their own. A value token is told as
its code, and a code that few training patients have as its nearest ancestor: the little that is known of it is what
is known of its kind.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.grammar import CODE, ENDS, Grammar
from ehr.timelines import DAY, STATIC, Record, Timelines
from ehr.vocabulary import Vocabulary
from pipelines.rethink.patients.asking import Asked

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NONE = -1


class Windows(NamedTuple):
    """Which steps each of P windows holds, ragged.

    Attributes:
        offset: where each window's steps begin, i64 [P + 1].
        step: token ids, distinct within a window, i64.
    """

    offset: Ints
    step: Ints

    def tally(self, rows: Ints, size: int) -> Floats:
        """Return how many of some windows hold each step, f64 [size]."""
        parts = [self.step[self.offset[row] : self.offset[row + 1]] for row in rows.tolist()]
        held = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return np.bincount(held, minlength=size).astype(np.float64)


def steps_of(vocabulary: Vocabulary, rules: Grammar, rare: int) -> Ints:
    """Return the step that each token counts as, -1 where it is none, i64 [V].

    Args:
        vocabulary: with the number of training patients of each code.
        rules: the grammar; what opens or closes a visit, and what no visit holds, is no step.
        rare: codes of fewer patients count as their nearest ancestor.
    """
    bare = vocabulary.bare()
    found = np.where(np.isin(rules.kind, (CODE, ENDS)), bare, NONE)
    patients = np.array(vocabulary.patients)
    for token in np.unique(found[found >= 0]).tolist():
        if patients[token] < rare and vocabulary.ancestors[token]:
            found[found == token] = vocabulary.ancestors[token][0]
    return found


def ahead_of(source: Timelines, pool: Asked, step: Ints, days: float) -> Windows:
    """Return the steps in (time, time + days] of each of P patients."""
    parts: list[Ints] = []
    for subject, time in zip(pool.subject.tolist(), pool.time.tolist(), strict=True):
        record = source.record(subject)
        inside = (record.time > time) & (record.time <= time + round(days * DAY))
        held = np.unique(step[record.token[inside]])
        parts.append(held[held >= 0])
    offset = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Windows(offset, np.concatenate(parts) if parts else np.zeros(0, np.int64))


def own(record: Record, time: int, step: Ints, days: float, most: int) -> tuple[Floats, int]:
    """Return how many windows of a patient's past hold each step, f64 [V], and how many windows there are.

    Windows reach back from just before the prediction time; one that the record does not fill is left out.

    Args:
        record: a timeline.
        time: prediction time, microseconds since 1970.
        step: of each token, i64 [V].
        days: length of a window.
        most: windows, at most.
    """
    before = np.flatnonzero((record.time != STATIC) & (record.time < time))
    if not len(before):
        return np.zeros(len(step)), 0
    back = (time - record.time[before]) / DAY / days
    number = int(min(most, np.floor(back[0])))
    window = np.ceil(back).astype(np.int64) - 1
    held = step[record.token[before]]
    there = (held >= 0) & (window < number)
    pairs = np.unique(np.stack([window[there], held[there]]), axis=1)
    return np.bincount(pairs[1], minlength=len(step)).astype(np.float64), number
