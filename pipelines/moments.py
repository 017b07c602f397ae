"""When patients are scored: each at the last event, all at one time, or as a table says."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ehr.events import first_line
from ehr.sources.parts import Source

LATEST = "latest"
TIMES = pl.Schema({"subject_id": pl.Int64(), "prediction_time": pl.Datetime("us")})


class Moments(NamedTuple):
    """When patients are scored: one of the three is set.

    Attributes:
        stated: the setting as it was given, for the manifest; a table is named by its digest.
        time: of all patients, microseconds since 1970; None for another way.
        table: parquet file of subject_id and prediction_time, sorted; None for another way.
    """

    stated: str
    time: int | None = None
    table: Path | None = None


def parse(text: str) -> int | None:
    """Return a date or a date and time as microseconds since 1970 (UTC where no zone is stated), or None."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(moment.timestamp() * 1_000_000)


def read(path: Path, source: Source) -> pl.DataFrame:
    """Read a table of prediction times: parquet or CSV, with prediction_time, and subject_id or patient.

    Args:
        path: the table; MEDS labels are one.
        source: resolves the source's own patient ids.

    Returns:
        TIMES, sorted; patients that the source does not name keep a null subject, and are told by their number.

    Raises:
        ValueError: it cannot be read, lacks a column, has a time that is none, or a row twice.
    """
    table = load(path)
    if "prediction_time" not in table.columns or not {"subject_id", "patient"} & set(table.columns):
        found = ", ".join(table.columns)
        raise ValueError(f"{path}: columns {found}; expected prediction_time, and subject_id or patient")
    table = table.with_columns(times(table["prediction_time"], path))
    if "subject_id" not in table.columns:
        table = table.with_columns(resolved(table["patient"], source))
    if not table["subject_id"].dtype.is_integer():
        raise ValueError(f"{path}: column subject_id is {table['subject_id'].dtype}; expected whole numbers")
    kept = table.select(pl.col(name).cast(kind) for name, kind in TIMES.items())
    for name in TIMES.names():
        if kept[name].null_count():
            row = int(kept[name].is_null().arg_max() or 0) + 1
            raise ValueError(f"{path}: row {row} has no {name} that can be used; mend it or leave the row out")
    if kept.is_duplicated().any():
        row = int(kept.is_duplicated().arg_max() or 0) + 1
        raise ValueError(f"{path}: row {row} stands there twice; expected each patient and time once")
    return kept.sort("subject_id", "prediction_time")


def load(path: Path) -> pl.DataFrame:
    """Read parquet or CSV as it is."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected a table of prediction times, parquet or CSV")
    try:
        return pl.read_csv(path) if path.suffix.lower() == ".csv" else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {first_line(error)}; expected a table of prediction times, parquet or CSV") from None


def times(column: pl.Series, path: Path) -> pl.Series:
    """Return prediction times, from times, dates or text."""
    kind = column.dtype
    if isinstance(kind, pl.Datetime):
        plain = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if kind.time_zone else column
        return plain.cast(pl.Datetime("us"))
    if kind == pl.Date:
        return column.cast(pl.Datetime("us"))
    if kind == pl.String:
        parsed = [None if text is None else parse(text) for text in column.to_list()]
        return pl.Series(column.name, parsed, dtype=pl.Int64).cast(pl.Datetime("us"))
    raise ValueError(f"{path}: column prediction_time is {kind}; expected times, dates or ISO 8601 text")


def resolved(patient: pl.Series, source: Source) -> pl.Series:
    """Return the subject of each of the source's own patient ids."""
    own = patient.cast(pl.String)
    if source.patients is None:
        return own.cast(pl.Int64, strict=False).alias("subject_id")
    known = source.patients.select(pl.col("patient").cast(pl.String), "subject_id").unique("patient").collect()
    return pl.DataFrame({"patient": own}).join(known, on="patient", how="left", maintain_order="left")["subject_id"]
