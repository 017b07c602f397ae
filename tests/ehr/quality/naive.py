"""What the gates count, a second time: row by row in plain Python, as docs/how-to/quality.md tells it."""

import itertools
import math
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

from ehr.quality.plausibility import RANGES


class Row(NamedTuple):
    """One event as a reader hands it on; `reject` is the reader's own reason not to use it."""

    subject: int | None
    time: object
    code: str | None
    value: float | None = None
    text: str | None = None
    reject: str | None = None


def marks(row, now):
    """Return why the row alone cannot be used, every reason of it."""
    found = {
        "null_subject": row.subject is None,
        "negative_subject": row.subject is not None and row.subject < 0,
        "null_code": not row.code,
        "not_finite": row.value is not None and not math.isfinite(row.value),
        "unreadable": row.reject is not None,
        "future": row.time is not None and row.time > now,
    }
    return [reason for reason, holds in found.items() if holds]


def profile(rows, now, ranges=None):
    """Return counts by gate, and the reason of each row (None where it is kept)."""
    simple = [marks(row, now) for row in rows]
    born, died = edges(rows, simple, "MEDS_BIRTH"), edges(rows, simple, "MEDS_DEATH")
    reasons, counts = [], Counter()
    for row, alone in zip(rows, simple, strict=True):
        every = list(alone)
        if row.time is not None and row.subject is not None and row.subject >= 0:
            if row.subject in born and row.time.date() < born[row.subject][0]:
                every.append("before_birth")
            if row.subject in died and row.time.date() > died[row.subject][0] + timedelta(days=1):
                every.append("after_death")
        counts.update(every)
        reasons.append(every[0] if every else None)
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    patients = {row.subject for row in kept}
    counts.update(
        rows=len(rows),
        patients=len(patients),
        valued=sum(row.value is not None for row in kept),
        statics=sum(row.time is None for row in kept),
        no_birth=sum(patient not in born for patient in patients),
        births_twice=sum(len(set(days)) > 1 for days in born.values()),
        deaths_twice=sum(len(set(days)) > 1 for days in died.values()),
        implausible=sum(implausible(row, {**RANGES, **(ranges or {})}) for row in kept),
        duplicates=sum(number for number in Counter(kept).values() if number > 1),
        out_of_order=sum(key(after) < key(before) for before, after in itertools.pairwise(rows)),
    )
    return counts, reasons


def edges(rows, simple, code):
    """Return the days of births or deaths by patient, the first in order first."""
    days = {}
    for row, alone in zip(rows, simple, strict=True):
        if not alone and row.code == code and row.time is not None:
            days.setdefault(row.subject, []).append(row.time.date())
    return days


def implausible(row, ranges):
    """Tell whether a value lies outside its code's range."""
    if row.value is None or row.code not in ranges:
        return False
    low, high = ranges[row.code]
    return not low <= row.value <= high


def key(row):
    """Return a row's place in canonical order."""
    subject = -math.inf if row.subject is None else row.subject
    return subject, -math.inf if row.time is None else row.time.timestamp()
