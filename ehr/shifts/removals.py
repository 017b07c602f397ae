"""Corruptions by which something is missing from a record."""

import polars as pl

from ehr.shifts.codebook import DRUGS, LABS, Codebook
from ehr.shifts.draws import uniform
from ehr.shifts.frame import KEYS, days, last_visit, system


def code_dropout(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Leave out a share of the codes."""
    return frame.filter(~pl.col("coded") | (uniform(seed, "code_dropout", "subject_id", "ordinal") >= level))


def visit_dropout(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Leave out a share of the visits, never the last one."""
    drawn = uniform(seed, "visit_dropout", "subject_id", "visit")
    return frame.filter((pl.col("visit") == 0) | (pl.col("visit") == last_visit()) | (drawn >= level))


def history_truncation(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Keep the last share of a record's days, as of a patient who is new here."""
    first = pl.col("time").filter(pl.col("visit") > 0).min().over(KEYS)
    span = (pl.col("prediction_time") - first).dt.total_microseconds() * level
    kept = (pl.col("prediction_time") - pl.col("time")).dt.total_microseconds() <= span
    return frame.filter((pl.col("visit") == 0) | kept)


def recency_gap(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Leave out the last days before the prediction time, as where claims come late."""
    return frame.filter((pl.col("visit") == 0) | (pl.col("time") <= pl.col("prediction_time") - days(level)))


def modality_outage(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:
    """Leave out all drugs, or all laboratory results, of a share of the patients."""
    held = book.systems()
    there = [names for names in (DRUGS, LABS) if held & set(names)]
    lost = uniform(seed, "modality_outage", "subject_id") < level
    which = (uniform(seed, "modality_outage which", "subject_id") * len(there)).cast(pl.Int64)
    own = pl.any_horizontal([(which == number) & system().is_in(names) for number, names in enumerate(there)])
    return frame.filter(~(pl.col("coded") & lost & own))


def sex_missing(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Leave out the sex of a share of the patients."""
    stated = pl.col("time").is_null() & pl.col("code").str.starts_with("SEX//")
    return frame.filter(~stated | (uniform(seed, "sex_missing", "subject_id") >= level))


def rare_code_loss(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Leave out codes that fewer than a share of the training patients have."""
    kept = book.codes.filter(pl.col("patients") >= level * book.patients)["code"]
    return frame.filter(~pl.col("coded") | pl.col("code").is_in(kept.to_list()))
