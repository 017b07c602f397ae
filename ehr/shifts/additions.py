"""Corruptions by which a record holds what did not happen, or holds it again."""

import polars as pl
from scipy import stats

from ehr.shifts.codebook import DIAGNOSES, EVERYONE, Codebook, people
from ehr.shifts.draws import uniform
from ehr.shifts.frame import FRAME, KEYS, ordered, system


def spurious_codes(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:
    """Add codes of training patients of the same sex and age: Poisson(level n) to a record of n codes.

    Each stands beside one of the record's own codes, at its time.
    """
    own = frame.filter(pl.col("coded")).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(KEYS).alias("place"))
    known = book.marginals["group"].unique().to_list()
    group = pl.when(pl.col("group").is_in(known)).then("group").otherwise(pl.lit(EVERYONE)).alias("group")
    who = people(frame, KEYS, pl.col("prediction_time").max()).with_columns(group)
    added = (
        own.group_by(KEYS)
        .len("n")
        .with_columns(poisson(level, seed).alias("added"))
        .filter(pl.col("added") > 0)
        .with_columns(pl.int_ranges("added").alias("item"))
        .explode("item")
        .with_columns(
            (uniform(seed, "spurious_codes place", "subject_id", "item") * pl.col("n")).cast(pl.Int64).alias("place"),
            uniform(seed, "spurious_codes code", "subject_id", "item").alias("at"),
        )
        .join(who, on=KEYS, how="left")
        .sort("at")
        .join_asof(book.marginals.lazy().sort("at"), on="at", by="group", check_sortedness=False)
        .join(own.select(*KEYS, "place", "time", "ordinal", "visit"), on=(*KEYS, "place"), how="left")
        .with_columns(
            pl.lit(None, pl.Float32).alias("numeric_value"),
            pl.lit(None, pl.String).alias("text_value"),
            pl.lit(value=True).alias("coded"),
            # Behind the code that it stands beside, in the order of the draws.
            pl.lit(1, pl.Int8).alias("after"),
        )
        .select(*FRAME.names(), "after", "item")
    )
    return among(frame, added)


def poisson(level: float, seed: int) -> pl.Expr:
    """Return how many codes are added to a record of n, by inverting the distribution at one number a record."""
    drawn = uniform(seed, "spurious_codes", "subject_id").alias("drawn")

    def quantile(part: pl.Series) -> pl.Series:
        given = part.struct.unnest()
        number = stats.poisson.ppf(given["drawn"].to_numpy(), level * given["n"].to_numpy())
        return pl.Series(number.clip(0)).cast(pl.Int64)

    return pl.struct(drawn, pl.col("n")).map_batches(quantile, return_dtype=pl.Int64)


def copy_forward(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Copy a share of each visit's diagnoses into the next visit, at its first moment, as problem lists do."""
    diagnosis = pl.col("coded") & system().is_in(DIAGNOSES)
    copied = frame.filter(diagnosis & (uniform(seed, "copy_forward", "subject_id", "ordinal") < level))
    begins = (
        frame.filter(pl.col("coded"))
        .group_by(*KEYS, "visit")
        .agg(pl.col("time").first().alias("begin"), pl.col("ordinal").first().alias("before"))
        .with_columns(pl.col("visit").alias("next"))
        .sort(*KEYS, "next")
        .with_columns(pl.col("visit").shift(1).over(KEYS).alias("visit"))
        .filter(pl.col("visit").is_not_null())
    )
    added = (
        copied.with_columns(pl.col("ordinal").alias("item"))
        .join(begins, on=(*KEYS, "visit"), how="inner")
        .with_columns(
            pl.col("begin").alias("time"),
            pl.col("next").alias("visit"),
            pl.col("before").alias("ordinal"),
            pl.lit(-1, pl.Int8).alias("after"),
        )
        .select(*FRAME.names(), "after", "item")
    )
    return among(frame, added)


def duplicate_visit(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Repeat a share of the visits a day later, or at the prediction time where that is earlier."""
    again = (pl.col("visit") > 0) & (uniform(seed, "duplicate_visit", "subject_id", "visit") < level)
    later = pl.min_horizontal(pl.col("time") + pl.duration(days=1), "prediction_time")
    added = frame.filter(again).with_columns(
        later.alias("time"), pl.lit(2, pl.Int8).alias("after"), pl.col("ordinal").alias("item")
    )
    return ordered(among(frame, added.select(*FRAME.names(), "after", "item")))


def among(frame: pl.LazyFrame, added: pl.LazyFrame) -> pl.LazyFrame:
    """Put rows among those of a record: before or after the one whose number they bear."""
    own = frame.with_columns(pl.lit(0, pl.Int8).alias("after"), pl.lit(0, pl.Int64).alias("item"))
    both = pl.concat([own.select(*FRAME.names(), "after", "item"), added])
    return both.sort(*KEYS, "ordinal", "after", "item").drop("after", "item")
