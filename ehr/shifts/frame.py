"""Records up to their prediction times as one table, with what corruptions ask of each row."""

import numpy as np
import polars as pl

from ehr.codes import distinct
from ehr.events import BIRTH, DEATH, EVENTS
from ehr.timelines import DAY, STATIC, run_starts, visits

KEYS = ("subject_id", "prediction_time")
FRAME = pl.Schema(
    {
        **EVENTS,
        "prediction_time": pl.Datetime("us"),
        "ordinal": pl.Int64(),
        "visit": pl.Int64(),
        "coded": pl.Boolean(),
    }
)
"""EVENTS, and: when the record is asked about; the event's number in its subject's whole record; its visit, 0 for
statics and births; whether it is a dated code other than birth, death and the marks of encounters."""


def gather(events: pl.LazyFrame, index: pl.DataFrame, *, gap_days: float) -> pl.DataFrame:
    """Return records up to each of their prediction times.

    Args:
        events: EVENTS in canonical order; all rows of a subject stand in it.
        index: subject_id and prediction_time, distinct; subjects without events are left out.
        gap_days: a longer silence starts a new visit even while an encounter is open.

    Returns:
        FRAME, sorted by subject, prediction time and time; equal times keep their order.
    """
    asked = index.select(KEYS).lazy()
    found = (
        events.select(EVENTS.names())
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over("subject_id").alias("ordinal"))
        .join(asked, on="subject_id", how="inner")
        .filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time")))
        .sort("subject_id", "prediction_time", "ordinal")
        .collect()
    )
    return found.with_columns(visit_of(found, gap_days), coded()).select(FRAME.names())


def visit_of(found: pl.DataFrame, gap_days: float) -> pl.Series:
    """Return the visit of each row, numbered from 1 in each record; statics and births stand in 0."""
    time = found["time"].to_physical().fill_null(STATIC).to_numpy()
    names, position = distinct(found["code"])
    starts = run_starts(found["subject_id"].to_numpy())
    starts |= run_starts(found["prediction_time"].to_physical().to_numpy())
    return pl.Series("visit", visits(time, position, names, np.cumsum(starts) - 1, gap_days), dtype=pl.Int64)


def coded() -> pl.Expr:
    """Return whether a row is a dated code other than birth, death and the marks of encounters."""
    code = pl.col("code")
    told = ~code.is_in([BIRTH, DEATH]) & ~code.str.starts_with("VISIT//")
    return (pl.col("time").is_not_null() & told).alias("coded")


def system() -> pl.Expr:
    """Return the code system of each row's code."""
    return pl.col("code").str.split("//").list.first().alias("system")


def last_visit() -> pl.Expr:
    """Return the number of the last visit of each row's record."""
    return pl.col("visit").max().over(KEYS)


def days(level: float) -> pl.Expr:
    """Return a span of days."""
    return pl.lit(round(level * DAY), pl.Int64).cast(pl.Duration("us"))


def held_inside(time: pl.Expr) -> pl.Expr:
    """Return times brought back behind the birth, where one is known, and before the prediction time; null stays."""
    birth = pl.col("time").filter(pl.col("code") == BIRTH).min().over(KEYS)
    return pl.min_horizontal(pl.max_horizontal(time, birth), "prediction_time")


def ordered(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Sort records by time, statics first; equal times keep their order."""
    return frame.sort("subject_id", "prediction_time", "time", nulls_last=False, maintain_order=True)
