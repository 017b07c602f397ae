"""The tables of a cohort that people read: attrition and prevalence, on disk and on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from ehr.events import write
from ehr.outcomes.labels import ATTRITION
from ehr.outcomes.registry import Registry
from ehr.splits import SPLITS


def write_attrition(
    folder: Path, registry: Registry, rules: Sequence[pl.DataFrame], rejected: pl.DataFrame | None = None
) -> None:
    """Add up what each rule removed and write attrition.parquet.

    Args:
        folder: the cohort.
        registry: outcomes, for their order.
        rules: ATTRITION of each shard.
        rejected: rows taken out by the gates, by reason.
    """
    removed = (
        [("row rejected: " + reason, None, None, number) for reason, number in count_by(rejected, "reason")]
        if rejected is not None
        else []
    )
    place = places(registry)
    added = (
        pl.concat([pl.DataFrame(schema=ATTRITION), *rules])
        .with_row_index("at")
        .group_by("rule", "outcome")
        .agg(pl.col("patients", "samples").sum(), pl.col("at").min())
        .join(place, on="outcome")
        .sort("place", "at")
        .select(ATTRITION.names())
    )
    whole = pl.concat([pl.DataFrame(removed, schema=ATTRITION, orient="row"), added])
    write(whole, folder / "attrition.parquet")


def write_prevalence(folder: Path, registry: Registry, counts: Sequence[pl.DataFrame]) -> None:
    """Add up label counts of shards and write prevalence.parquet."""
    order = {name: i for i, name in enumerate(SPLITS)}
    split = pl.col("split").replace_strict(order, default=len(order), return_dtype=pl.Int32)
    added = (
        pl.concat(list(counts))
        .group_by("outcome", "horizon_days", "split")
        .agg(pl.col("count", "positives", "censored").sum())
        .with_columns((pl.col("positives") / (pl.col("count") - pl.col("censored"))).alias("prevalence"))
        .join(places(registry), on="outcome")
        .sort("place", "horizon_days", split, "split")
        .drop("place")
    )
    write(added, folder / "prevalence.parquet")


def places(registry: Registry) -> pl.DataFrame:
    """Return outcome and its place in the registry."""
    return pl.DataFrame({"outcome": list(registry.names)}, schema={"outcome": pl.String}).with_row_index("place")


def count_by(frame: pl.DataFrame, column: str) -> list[tuple[str, int]]:
    """Return values of a column with their number of rows, by value."""
    return [(str(value), int(number)) for value, number in frame.group_by(column).len().sort(column).iter_rows()]


def show(folder: Path) -> None:
    """Print attrition and prevalence of a cohort."""
    # A log file has no width of its own; names are worth more than a narrow table.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    table = Table(title="Attrition: what each rule removed", title_justify="left")
    for column in ("outcome", "rule", "patients", "samples"):
        table.add_column(column, justify="left" if column in {"outcome", "rule"} else "right")
    for rule, outcome, patients, samples in pl.read_parquet(folder / "attrition.parquet").iter_rows():
        table.add_row(outcome or "", rule, "" if patients is None else f"{patients:,}", f"{samples:,}")
    console.print(table)
    prevalence = pl.read_parquet(folder / "prevalence.parquet")
    if not len(prevalence):
        return
    splits = prevalence["split"].unique(maintain_order=True).to_list()
    table = Table(title="Positives of uncensored samples, by outcome and split", title_justify="left")
    table.add_column("outcome")
    for column in ("days", *splits):
        table.add_column(column, justify="right")
    for (name, days), rows in prevalence.group_by(["outcome", "horizon_days"], maintain_order=True):
        held = {row["split"]: row for row in rows.iter_rows(named=True)}
        table.add_row(str(name), str(days), *(shown(held.get(split)) for split in splits))
    console.print(table)


def shown(row: dict[str, Any] | None) -> str:
    """Return positives, samples and prevalence of one cell."""
    if row is None or row["count"] == row["censored"]:
        return "-"
    return f"{row['positives']:,} of {row['count'] - row['censored']:,} ({row['prevalence']:.2%})"
