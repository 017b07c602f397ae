"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 10.0
Item = TypeVar("Item")


def say(message: str) -> None:
    """Write one plain line to standard error, where progress goes; standard output keeps results."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


class Track(AbstractContextManager["Track"]):
    """Counts finished units of one piece of work.

    Args:
        label: what is being done, a few words.
        total: units of work expected.
    """

    def __init__(self, label: str, total: int) -> None:
        """Prepare a bar where standard error is a terminal, else lines at most every ten seconds."""
        self.label, self.total, self.done = label, total, 0
        self.started = self.spoken = time.monotonic()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            console = Console(stderr=True)
            self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
            self.task = self.bar.add_task(label, total=total)

    def __enter__(self) -> Self:
        """Show the bar."""
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar, or write the closing line."""
        if self.bar:
            self.bar.stop()
        elif kind is None:
            say(f"{self.label}: {self.done:,} of {self.total:,} in {time.monotonic() - self.started:.1f} s")

    def advance(self, units: int = 1) -> None:
        """Count finished units."""
        self.done += units
        now = time.monotonic()
        if self.bar:
            self.bar.advance(self.task, units)
        elif now - self.spoken >= LINE_SECONDS:
            self.spoken = now
            say(f"{self.label}: {self.done:,} of {self.total:,} after {now - self.started:.0f} s")


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items, counting each when the next one is asked for."""
    with Track(label, total) as bar:
        for item in items:
            yield item
            bar.advance()
