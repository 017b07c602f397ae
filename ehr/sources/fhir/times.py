"""FHIR dates: whole, partial, with a zone or none, to microseconds since 1970 in UTC."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

# The regular expression of dateTime in FHIR R4, section 2.24.0.1; STU3 differs in nothing that matters here.
FORM = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)(?P<clock>T\d\d:\d\d(:\d\d(\.\d+)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000


class Moment(NamedTuple):
    """A time in microseconds since 1970, UTC, and whether its day and its hour are known; else it is the first."""

    time: int
    day: bool
    hour: bool


@lru_cache(maxsize=1 << 16)
def read(text: str) -> Moment | None:
    """Return the moment that a FHIR date stands for; None where it is no date.

    A year or month alone is its first day, a day alone its midnight; a time without a zone counts as UTC.
    """
    match = FORM.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, clock = match["year"], match["month"] or "01", match["day"] or "01", match["clock"] or ""
    # Leap seconds are valid in FHIR and unknown to Python.
    clock = re.sub(r"^(T\d\d:\d\d):60(\.\d+)?", r"\1:59", clock)
    try:
        found = datetime.fromisoformat(f"{year}-{month}-{day}{clock}")
        placed = found if found.tzinfo else found.replace(tzinfo=UTC)
        time = (placed - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        return None
    return Moment(time, match["day"] is not None, match["clock"] is not None)


def end_of(text: str) -> int | None:
    """Return the last microsecond of a day, month or year; the moment itself where its hour is known."""
    moment = read(text)
    if moment is None or moment.hour:
        return moment.time if moment else None
    first = EPOCH + moment.time * MICROSECOND
    try:
        if moment.day:
            after = first + timedelta(days=1)
        elif len(text.strip()) == 7:
            after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        else:
            after = first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        return None
    return (after - EPOCH) // MICROSECOND - 1
