"""Times as expressions over a table's cells: dates, offsets and places in an order."""

import datetime as dt
from collections.abc import Mapping, Sequence

import polars as pl

from ehr.sources.rows import NO_REASON, Time, dated
from ehr.sources.sheets import ROW, moment, number
from ehr.sources.table.mapping import MICROSECONDS, When

FILE, SUBJECT, PLACE, KEY = "#file", "#subject", "#place", "#key"
CLOCK = r"^(-?)(\d{1,6}):(\d{2})(?::(\d{2}))?$"
# Beyond 290,000 years microseconds overflow; nothing clinical lies there.
FARTHEST = 1e17


def time_of(when: When, cells: Mapping[str, pl.Expr], anchors: Mapping[str, Time], *, optional: bool = False) -> Time:
    """Return the time that a map describes.

    Args:
        when: the map.
        cells: text of each column, null where missing.
        anchors: what a time can count from beside columns and dates: stay, time, end.
        optional: an empty cell is no fault, it only gives no event.
    """
    if when.column is not None:
        cell = cells[when.column]
        return dated(cell, moment(cell, when.format), when.column, optional=optional)
    start = origin(when, cells, anchors)
    if when.order:
        gap = pl.duration(microseconds=pl.col(PLACE) * round(when.days_apart * MICROSECONDS["days"]))
        unknown = pl.when(pl.col(PLACE).is_null()).then(pl.lit(f"{', '.join(when.order)}: empty; expected an order"))
        start = Time(start.value + gap, unknown)
    if when.offset is None:
        return start
    shift = offset(when, cells, optional=optional)
    value = start.value - shift.value if when.backwards else start.value + shift.value
    return Time(value, pl.coalesce(start.reject, shift.reject))


def origin(when: When, cells: Mapping[str, pl.Expr], anchors: Mapping[str, Time]) -> Time:
    """Return what a time counts from."""
    if isinstance(when.origin, dt.datetime):
        return Time(pl.lit(when.origin, dtype=pl.Datetime("us")), NO_REASON)
    assert when.origin is not None, "a map without column has an origin"
    if when.origin in anchors:
        return anchors[when.origin]
    cell = cells[when.origin]
    return dated(cell, moment(cell), when.origin)


def offset(when: When, cells: Mapping[str, pl.Expr], *, optional: bool) -> Time:
    """Return how much later, as a duration."""
    if isinstance(when.offset, (int, float)):
        return Time(pl.duration(microseconds=round(when.offset * MICROSECONDS.get(when.unit, 1))), NO_REASON)
    assert when.offset is not None, "asked for an offset where there is none"
    cell = cells[when.offset]
    amount = clock(cell) if when.unit == "hh:mm" else number(cell) * MICROSECONDS[when.unit]
    sound = pl.when(amount.abs() < FARTHEST).then(amount.round().cast(pl.Int64, strict=False))
    wrong = pl.when(cell.is_not_null() & sound.is_null()).then(pl.lit(f"{when.offset}: not a number of {when.unit}"))
    if not optional:
        wrong = pl.when(cell.is_null()).then(pl.lit(f"{when.offset}: empty; expected an offset")).otherwise(wrong)
    return Time(pl.duration(microseconds=sound), wrong)


def clock(cell: pl.Expr) -> pl.Expr:
    """Return hours and minutes such as 07:30 or 47:59 in microseconds, f64."""
    hours, minutes, seconds = (cell.str.extract(CLOCK, i).cast(pl.Float64, strict=False) for i in (2, 3, 4))
    total = ((hours * 60 + minutes) * 60 + seconds.fill_null(0.0)) * 1_000_000
    return pl.when(cell.str.starts_with("-")).then(-total).otherwise(total)


def places(frames: Sequence[pl.LazyFrame], order: Sequence[str]) -> pl.LazyFrame:
    """Return each row's place among its subject's, from 0; equal keys share a place.

    Numbers are ordered as numbers, other keys as text. Only subjects and keys are held in memory.

    Args:
        frames: one a file, with `#file`, `#row`, `#subject` and the keys as text.
        order: the keys.
    """
    keys = [KEY + str(i) for i in range(len(order))]
    whole = pl.concat([frame.select(FILE, ROW, SUBJECT, *map(pl.col, order)) for frame in frames])
    known = whole.filter(pl.all_horizontal(pl.col(SUBJECT, *order).is_not_null()))
    numbers = known.with_columns(number(pl.col(name)).alias(key) for name, key in zip(order, keys, strict=True))
    by = [SUBJECT, *(column for pair in zip(keys, order, strict=True) for column in pair)]
    place = pl.struct(order).rle_id().over(SUBJECT).cast(pl.Int64).alias(PLACE)
    return numbers.sort(by, nulls_last=True, maintain_order=True).select(FILE, ROW, place)
