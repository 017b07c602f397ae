"""The column map: what the files are, whose rows they hold, when, and which events a row gives."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MICROSECONDS = {
    "seconds": 1_000_000,
    "minutes": 60_000_000,
    "hours": 3_600_000_000,
    "days": 86_400_000_000,
    "weeks": 604_800_000_000,
    "years": 31_557_600_000_000,
}
UNITS = (*MICROSECONDS, "hh:mm")
FIELD = re.compile(r"{([^{}]*)}")
Words = Mapping[str, tuple[str, ...]]
NO_WORDS: Words = MappingProxyType({})
NO_VALUES: Mapping[str, str | None] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class When:
    """A time: a column of dates, an order with an artificial spacing, an offset from something, or both."""

    column: str | None = None
    format: str | None = None
    order: tuple[str, ...] = ()
    days_apart: float = 0.0
    origin: dt.datetime | str | None = None
    """A fixed time; or stay, time, end; or a column of dates."""
    offset: str | float | None = None
    backwards: bool = False
    unit: str = "days"

    def columns(self) -> set[str]:
        """Return the columns that it reads."""
        own = {self.column, self.offset if isinstance(self.offset, str) else None}
        origin = {self.origin} if isinstance(self.origin, str) and self.origin not in {"stay", "time", "end"} else set()
        return {name for name in own | origin if name is not None} | set(self.order)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows: cells that must be one of some values, cells that must not, and signs of missing."""

    where: Words = field(default_factory=lambda: NO_WORDS)
    unless: Words = field(default_factory=lambda: NO_WORDS)
    missing: tuple[str, ...] = ()

    def columns(self) -> set[str]:
        """Return the columns that it reads."""
        return set(self.where) | set(self.unless)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event a row, or one for each of some columns."""

    path: str
    code: str
    over: tuple[str, ...] = ()
    value: str | None = None
    text: str | None = None
    time: When | None = None
    rows: Rows
    values: Mapping[str, str | None] = field(default_factory=lambda: NO_VALUES)

    def columns(self) -> set[str]:
        """Return the columns that it reads."""
        named = {*FIELD.findall(self.code), self.value, self.text} - {None, "column", "cell"}
        when = self.time.columns() if self.time else set[str]()
        return {str(name) for name in named} | set(self.over) | when | self.rows.columns()


@dataclass(frozen=True, kw_only=True)
class Birth:
    """A date, or an age at the row's time."""

    date: When | None = None
    age: str | None = None
    unit: str = "years"
    rows: Rows
    values: Mapping[str, str | None] = field(default_factory=lambda: NO_VALUES)

    def columns(self) -> set[str]:
        """Return the columns that it reads."""
        date = self.date.columns() if self.date else set[str]()
        return date | self.rows.columns() | ({self.age} if self.age else set())


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The start and the end of an encounter."""

    type: str
    start: When | None = None
    end: When | None = None
    values: Mapping[str, str | None] = field(default_factory=lambda: NO_VALUES)

    def columns(self) -> set[str]:
        """Return the columns that it reads."""
        times = [when.columns() for when in (self.start, self.end) if when]
        return set(FIELD.findall(self.type)).union(*times)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Files of one kind."""

    name: str
    files: tuple[str, ...]
    separator: str
    subject: str | None
    """A column, or row: each row is one subject, or file: each file is one."""
    by: str = "column"
    """column, row, file or stay: what tells the subject."""
    rows: Rows
    time: When | None = None
    visit: Visit | None = None
    birth: Birth | None = None
    static: tuple[Event, ...] = ()
    events: tuple[Event, ...] = ()

    def columns(self) -> tuple[str, ...]:
        """Return the columns that it reads, in a fixed order."""
        parts = [self.rows, self.time, self.visit, self.birth, *self.static, *self.events]
        found = set[str]().union(*(part.columns() for part in parts if part))
        return tuple(sorted(found | ({self.subject} if self.subject else set())))


@dataclass(frozen=True, kw_only=True)
class Stays:
    """One row a stay: whose it is and when it began, for the tables that tell the stay only."""

    table: Table
    key: str


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """A column map."""

    tables: tuple[Table, ...]
    stays: Stays | None = None
