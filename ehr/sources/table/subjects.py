"""Whose a row is: by a column, by the stay that it names, by its own number, or by the file's name."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ehr.sources import sheets
from ehr.sources.parts import subject_of
from ehr.sources.rows import NEGATIVE, NO_REASON
from ehr.sources.sheets import ROW
from ehr.sources.table.mapping import Table
from ehr.sources.table.times import SUBJECT

STAY, WHY = "#stay", "#why"
# Ids that are their own number: a leading zero would be lost, and so makes an id text.
NUMBER = r"^(0|[1-9]\d{0,17})$"


def attach(frame: pl.LazyFrame, table: Table, file: Path, stays: pl.LazyFrame | None) -> pl.LazyFrame:
    """Add the source's own id of each row's subject, null where it has none, and why."""
    if table.by == "stay":
        assert stays is not None, "the map was checked"
        return by_stay(frame, str(table.subject), stays)
    if table.by == "row":
        return frame.with_columns(pl.col(ROW).cast(pl.String).alias(SUBJECT), NO_REASON.alias(WHY))
    if table.by == "file":
        return frame.with_columns(pl.lit(sheets.stem(file)).alias(SUBJECT), NO_REASON.alias(WHY))
    column = str(table.subject)
    cell = pl.col(column)
    why = (
        pl.when(cell.is_null())
        .then(pl.lit(f"{column}: empty; expected a subject"))
        .when(cell.str.contains(NEGATIVE))
        .then(pl.lit(f"{column}: a number below 0; expected a subject"))
    )
    return frame.with_columns(why.alias(WHY)).with_columns(pl.when(pl.col(WHY).is_null()).then(cell).alias(SUBJECT))


def by_stay(frame: pl.LazyFrame, column: str, stays: pl.LazyFrame) -> pl.LazyFrame:
    """Add subject and beginning of the stay that a row names."""
    joined = frame.join(stays, left_on=column, right_on="#key", how="left", maintain_order="left")
    why = (
        pl.when(pl.col(column).is_null())
        .then(pl.lit(f"{column}: empty; expected a stay"))
        .when(pl.col(SUBJECT).is_null())
        .then(pl.lit(f"{column}: a stay that is not among the stays, or has no subject or time there"))
    )
    return joined.with_columns(why.alias(WHY))


def number() -> pl.Expr:
    """Return the subject as i64: a whole number is itself, any other id a hash of it."""
    own = pl.col(SUBJECT)
    plain = own.str.contains(NUMBER)
    hashed = pl.when(~plain).then(own).map_batches(subject_of, return_dtype=pl.Int64, is_elementwise=True)
    return pl.when(plain).then(own.cast(pl.Int64, strict=False)).otherwise(hashed)


def patients(frames: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Return the source's own id by subject."""
    own = pl.concat([frame.select(SUBJECT) for frame in frames]).drop_nulls().unique()
    return own.select(number().alias("subject_id"), pl.col(SUBJECT).alias("patient")).sort("subject_id")
