"""Rows to events: what each row of a table gives, row by row, so that a table streams through."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from ehr.events import EVENTS
from ehr.sources.sheets import ROW

WHOLE = r"^\d{1,18}$"
NEGATIVE = r"^-\d+(\.0+)?$"
ITEM = "#item"
FOUND = pl.Schema({**EVENTS, "row": pl.Int64(), "reject": pl.String()})


class Time(NamedTuple):
    """When: the time, null where it is not known, and why it is not (null where it is, or may be absent)."""

    value: pl.Expr
    reject: pl.Expr


class Item(NamedTuple):
    """One event that each row of a table gives.

    Attributes:
        code: str; null where a row gives no such event.
        time: null for a static fact.
        value: number, f64.
        text: str.
        reject: why the event cannot be used, null where it can.
    """

    code: pl.Expr
    time: Time | None
    value: pl.Expr | None = None
    text: pl.Expr | None = None
    reject: pl.Expr | None = None

    def fields(self, row_reject: pl.Expr, *, report: bool) -> list[pl.Expr]:
        """Return the columns of EVENTS without the subject, and `reject`.

        Args:
            row_reject: why the whole row cannot be used.
            report: say so here; otherwise such a row gives nothing here.
        """
        own = [*([self.time.reject] if self.time else []), *([] if self.reject is None else [self.reject])]
        given = row_reject.is_null() & self.code.is_not_null()
        # A row that gives no such event cannot give a bad one either.
        why = pl.when(given).then(pl.coalesce(*own, NO_REASON))
        time = self.time.value if self.time else pl.lit(None)
        # Without its time an event would pass for a static fact.
        known = (time.is_not_null() | why.is_not_null()) if self.time else pl.lit(value=True)
        fields = {
            "time": time.cast(EVENTS["time"]),
            "code": pl.when(given & known).then(self.code).cast(pl.String),
            "numeric_value": (pl.lit(None) if self.value is None else self.value).cast(pl.Float32),
            "text_value": (pl.lit(None) if self.text is None else self.text).cast(pl.String),
            "reject": pl.coalesce(row_reject, why) if report else why,
        }
        return [field.alias(name) for name, field in fields.items()]


NO_REASON = pl.lit(None, dtype=pl.String)


def events(
    frame: pl.LazyFrame, subject: pl.Expr, items: Sequence[Item], *, reject: pl.Expr = NO_REASON, report: bool = True
) -> pl.LazyFrame:
    """Return the events of each row, one row after the other, in the order of items.

    Args:
        frame: a sheet's frame, with `#row`.
        subject: i64, null where it cannot be told.
        items: what a row gives.
        reject: why a whole row cannot be used.
        report: list such rows, once each; otherwise they are only left out.

    Returns:
        EVENTS, row and reject.
    """
    outputs = [
        [*ids(subject), *item.fields(reject, report=report and i == 0), pl.lit(i, dtype=pl.Int16).alias(ITEM)]
        for i, item in enumerate(items)
    ]
    some = pl.col("code").is_not_null() | pl.col("reject").is_not_null()
    if len(items) == 1:
        return frame.select(outputs[0]).filter(some).select(FOUND.names())

    def give(batch: pl.DataFrame) -> pl.DataFrame:
        # One narrow frame an item, put together and sorted: ten times as fast as exploding lists of structs.
        given = pl.concat([batch.lazy().select(output).filter(some) for output in outputs])
        found = given.sort("row", ITEM).select(FOUND.names()).collect(engine="in-memory")
        if found["reject"].null_count() == len(found):
            return found
        # Several events may fail for one cell of their row: it is listed once.
        return found.filter(pl.col("reject").is_null() | pl.struct("row", "reject").is_first_distinct())

    roots = {name for output in outputs for expression in output for name in expression.meta.root_names()}
    return frame.select(sorted(roots)).map_batches(give, schema=FOUND, streamable=True)


def ids(subject: pl.Expr) -> list[pl.Expr]:
    """Return the columns row and subject_id."""
    return [pl.col(ROW).cast(pl.Int64).alias("row"), subject.cast(pl.Int64).alias("subject_id")]


def bad_subject(cell: pl.Expr, column: str) -> pl.Expr:
    """Return why a whole-number subject cannot be used, null where it can.

    Args:
        cell: text.
        column: its name, for the reason.
    """
    return (
        pl.when(cell.is_null())
        .then(pl.lit(f"{column}: empty; expected a subject"))
        .when(~cell.str.contains(WHOLE))
        .then(pl.lit(f"{column}: not a whole number of 0 or more"))
    )


def dated(cell: pl.Expr, parsed: pl.Expr, column: str, *, optional: bool = False) -> Time:
    """Return a time with the reason where it cannot be read, or is absent and should not be.

    Args:
        cell: text.
        parsed: the time it was read as.
        column: its name, for the reason.
        optional: an empty cell is none's fault.
    """
    wrong = pl.when(cell.is_not_null() & parsed.is_null()).then(pl.lit(f"{column}: not a date or time"))
    if optional:
        return Time(parsed, wrong)
    return Time(parsed, pl.when(cell.is_null()).then(pl.lit(f"{column}: empty; expected a time")).otherwise(wrong))


def bad_number(cell: pl.Expr, parsed: pl.Expr, column: str) -> pl.Expr:
    """Return why a number cannot be used, null where it can or there is none."""
    return pl.when(cell.is_not_null() & parsed.is_null()).then(pl.lit(f"{column}: not a finite number"))
