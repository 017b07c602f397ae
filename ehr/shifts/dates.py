"""Corruptions by which dates are wrong, coarse or lost."""

import polars as pl

from ehr.events import BIRTH
from ehr.shifts.codebook import Codebook
from ehr.shifts.draws import uniform
from ehr.shifts.frame import KEYS, days, held_inside, ordered
from ehr.timelines import DAY

MARKS = ("VISIT//", "//START", "//END")


def date_jitter(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Move visits by whole days, from a Laplace distribution; one draw a visit is scaled by the level."""
    drawn = uniform(seed, "date_jitter", "subject_id", "visit") - 0.5
    moved = -level * drawn.sign() * (1 - 2 * drawn.abs()).log()
    shift = (moved.round() * DAY).cast(pl.Int64).cast(pl.Duration("us"))
    time = pl.when(pl.col("visit") > 0).then(held_inside(pl.col("time") + shift)).otherwise(pl.col("time"))
    return ordered(frame.with_columns(time.alias("time")))


def date_coarsen(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Set dates to the first day of their week, month, quarter, half-year or year (levels 0 to 4)."""
    span = ("1w", "1mo", "1q", "6mo", "1y")[int(level)]
    coarse = held_inside(pl.col("time").dt.truncate(span))
    time = pl.when(pl.col("visit") > 0).then(coarse).otherwise(pl.col("time"))
    return ordered(frame.with_columns(time.alias("time")))


def visit_merge(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Make one of visits that begin within some days of the one before; it has the date of the first."""
    group = (*KEYS, "visit")
    begins = (
        frame.filter(pl.col("visit") > 0)
        .group_by(group)
        .agg(pl.col("time").min().alias("begin"))
        .sort(group)
        .with_columns((pl.col("begin") - pl.col("begin").shift(1).over(KEYS)).alias("gap"))
        .with_columns(pl.col("gap").is_null().or_(pl.col("gap") > days(level)).cum_sum().over(KEYS).alias("chain"))
        .with_columns(
            pl.col("begin").min().over(*KEYS, "chain").alias("first"),
            pl.len().over(*KEYS, "chain").alias("merged"),
            (pl.col("visit") == pl.col("visit").min().over(*KEYS, "chain")).alias("opens"),
            (pl.col("visit") == pl.col("visit").max().over(*KEYS, "chain")).alias("closes"),
        )
        .select(*group, "first", "merged", "opens", "closes")
    )
    one, code = pl.col("merged") > 1, pl.col("code")
    mark = code.str.starts_with(MARKS[0])
    inner = (code.str.ends_with(MARKS[1]) & ~pl.col("opens")) | (code.str.ends_with(MARKS[2]) & ~pl.col("closes"))
    joined = frame.join(begins, on=group, how="left", maintain_order="left")
    kept = joined.filter((one & mark & inner).not_().fill_null(value=True))
    time = pl.when(one).then("first").otherwise("time")
    return ordered(kept.with_columns(time.alias("time")).drop("first", "merged", "opens", "closes"))


def code_order_shuffle(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Put the codes of a share of the visits into another order; the visit's moments stay what they were."""
    group = (*KEYS, "visit", "coded")
    chosen = pl.col("coded") & (uniform(seed, "code_order_shuffle", "subject_id", "visit") < level)
    drawn = uniform(seed, "code_order_shuffle place", "subject_id", "ordinal").alias("drawn")
    content = ("code", "numeric_value", "text_value", "ordinal")
    shuffled = [
        pl.when(chosen).then(pl.col(name).sort_by("drawn").over(group)).otherwise(pl.col(name)).alias(name)
        for name in content
    ]
    return frame.with_columns(drawn).with_columns(shuffled).drop("drawn")


def age_error(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Move births by an error of so many years' standard deviation, never behind the first event."""
    radius = (-2 * (1 - uniform(seed, "age_error", "subject_id")).log()).sqrt()
    drawn = radius * (2 * 3.141592653589793 * uniform(seed, "age_error angle", "subject_id")).cos()
    shift = (drawn * level * 365.25 * DAY).cast(pl.Int64).cast(pl.Duration("us"))
    first = pl.col("time").filter(pl.col("visit") > 0).min().over(KEYS)
    born = pl.min_horizontal(pl.col("time") + shift, first, "prediction_time")
    return ordered(frame.with_columns(pl.when(pl.col("code") == BIRTH).then(born).otherwise("time").alias("time")))
