"""Unit drift: codes whose values moved as units do, against the training patients."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ehr.quality.thresholds import Measure

SPREAD = pl.Schema(
    {"code": pl.String(), "valued": pl.Int64(), "low": pl.Float64(), "middle": pl.Float64(), "high": pl.Float64()}
)
LOW, HIGH = 0.1, 0.9


def spread_of_counts(counts: pl.DataFrame) -> pl.DataFrame:
    """Return SPREAD (first decile, median, last decile by code) of merged counts.

    Args:
        counts: code, valued, and the lists value (sorted) and weight; null lists where a code has no values.
    """
    rows = [
        (code, valued, *weighted_quantiles(value, weight))
        for code, valued, value, weight in counts.select("code", "valued", "value", "weight").iter_rows()
        if value
    ]
    return pl.DataFrame(rows, schema=SPREAD, orient="row")


def weighted_quantiles(value: Sequence[float], weight: Sequence[float]) -> tuple[float, float, float]:
    """Return the first decile, the median and the last decile of sorted, weighted values."""
    mass = np.cumsum(weight)
    at = np.minimum(np.searchsorted(mass, mass[-1] * np.array([LOW, 0.5, HIGH])), len(value) - 1)
    low, middle, high = (float(value[int(i)]) for i in at)
    return low, middle, high


def spread_of_cuts(cuts: Mapping[str, Sequence[float]]) -> pl.DataFrame:
    """Return SPREAD from the value bins of a vocabulary, for scoring, where no training record is at hand.

    Args:
        cuts: inner cuts of equal-mass bins by code; with the usual ten bins they are the deciles.
    """
    rows = [(code, None, inner[0], inner[len(inner) // 2], inner[-1]) for code, inner in cuts.items() if inner]
    return pl.DataFrame(rows, schema=SPREAD, orient="row")


def spread_of_events(events: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """Return SPREAD of events, by code.

    Args:
        events: with code and numeric_value.
    """
    value = pl.col("numeric_value").cast(pl.Float64)
    return (
        events.lazy()
        .filter(pl.col("numeric_value").is_finite())
        .group_by("code")
        .agg(
            pl.len().cast(pl.Int64).alias("valued"),
            value.quantile(LOW, "nearest").alias("low"),
            value.median().alias("middle"),
            value.quantile(HIGH, "nearest").alias("high"),
        )
        .sort("code")
        .collect()
    )


def drifted(reference: pl.DataFrame, seen: pl.DataFrame, *, least: int, factor: float) -> Measure:
    """Count codes whose values moved as units do.

    A code drifts where its median lies outside the reference's middle 80 % and is `factor` times larger or
    smaller than the reference's median. A unit does both; another population as a rule does neither.

    Args:
        reference: SPREAD of the training patients.
        seen: SPREAD of others.
        least: codes with fewer values on either side are not compared; a null count of the reference passes.
        factor: at least 1.
    """
    both = reference.join(seen, on="code", suffix="_seen").filter(
        (pl.col("valued").fill_null(least) >= least) & (pl.col("valued_seen") >= least)
    )
    middle, moved = pl.col("middle"), pl.col("middle_seen")
    outside = (moved < pl.col("low")) | (moved > pl.col("high"))
    # From zero, or across it, there is no ratio: leaving the middle 80 % is enough.
    ratio = pl.when(middle * moved > 0).then(moved / middle).otherwise(factor)
    found = both.filter(outside & ((ratio >= factor) | (ratio <= 1 / factor))).sort("code")
    return Measure(len(found), len(both), ", ".join(found["code"].head(3)))
