"""Corruptions by which what happened is written with another code."""

import polars as pl

from ehr.shifts.codebook import NOWHERE, Codebook
from ehr.shifts.draws import uniform


def code_coarsen(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:
    """Cut a share of the ICD codes to their three characters."""
    table = book.codes.filter(pl.col("category") != pl.col("code")).select("code", pl.col("category").alias("new"))
    return renamed(frame, table, uniform(seed, "code_coarsen", "subject_id", "ordinal") < level)


def sibling_swap(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:
    """Write a share of the ICD codes as another code of the same three characters."""
    number = pl.col("siblings").list.len()
    table = book.codes.filter(number > 0).select("code", "siblings")
    which = (uniform(seed, "sibling_swap which", "subject_id", "ordinal") * number).cast(pl.Int64)
    swapped = uniform(seed, "sibling_swap", "subject_id", "ordinal") < level
    other = pl.col("siblings").list.get(which, null_on_oob=True)
    code = pl.when(pl.col("coded") & swapped).then(pl.coalesce(other, "code")).otherwise("code")
    joined = frame.join(table.lazy(), on="code", how="left", maintain_order="left")
    return joined.with_columns(code.alias("code")).drop("siblings")


def system_change(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:
    """Change the system of a share of the ICD codes and change it back; what has no equivalent is nobody's code."""
    code = book.codes.filter(pl.col("category").is_not_null())["code"]
    new = [book.there_and_back.get(name, NOWHERE) for name in code.to_list()]
    table = pl.DataFrame({"code": code, "new": pl.Series(new, dtype=pl.String)})
    return renamed(frame, table, uniform(seed, "system_change", "subject_id", "ordinal") < level)


def local_codes(frame: pl.LazyFrame, level: float, book: Codebook, seed: int) -> pl.LazyFrame:  # noqa: ARG001
    """Write a share of the kinds of codes as a hospital's own, the same in all records."""
    lost = book.codes.filter(pl.col("chance") < level)["code"]
    gone = pl.col("coded") & pl.col("code").is_in(lost.to_list())
    return frame.with_columns(pl.when(gone).then(pl.lit("LOCAL//") + pl.col("code")).otherwise("code").alias("code"))


def renamed(frame: pl.LazyFrame, table: pl.DataFrame, chosen: pl.Expr) -> pl.LazyFrame:
    """Write codes otherwise where chosen.

    Args:
        frame: FRAME.
        table: code and new.
        chosen: which rows, of those with a code.
    """
    joined = frame.join(table.lazy(), on="code", how="left", maintain_order="left")
    code = pl.when(pl.col("coded") & chosen).then(pl.coalesce("new", "code")).otherwise("code")
    return joined.with_columns(code.alias("code")).drop("new")
