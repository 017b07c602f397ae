"""EVENTS: the one table that every source becomes (MEDS 0.4 columns), its casts and its order."""

import errno
import secrets
from pathlib import Path

import polars as pl

EVENTS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "time": pl.Datetime("us"),
        "code": pl.String(),
        "numeric_value": pl.Float32(),
        "text_value": pl.String(),
    }
)
BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
OPTIONAL = ("numeric_value", "text_value")
KINDS: dict[str, tuple[type[pl.DataType], ...]] = {
    "subject_id": (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32),
    "time": (pl.Datetime, pl.Date, pl.Null),
    "code": (pl.String, pl.Categorical, pl.Enum),
    "numeric_value": (
        pl.Float32,
        pl.Float64,
        pl.Int8,
        pl.Int16,
        pl.Int32,
        pl.Int64,
        pl.UInt8,
        pl.UInt16,
        pl.UInt32,
        pl.Null,
    ),
    "text_value": (pl.String, pl.Categorical, pl.Enum, pl.Null),
}


def conform(frame: pl.LazyFrame, *, name: str) -> pl.LazyFrame:
    """Cast a frame to EVENTS, filling optional columns with nulls; other columns are kept after them.

    Args:
        frame: with at least subject_id, time and code, in any of the types that MEDS versions have used.
        name: what to call the frame in errors, a file's name.

    Raises:
        ValueError: a column is missing or of a type that no cast makes right.
    """
    try:
        schema = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{name}: cannot be read ({first_line(error)}); expected a table of events") from None
    columns: list[pl.Expr] = []
    for column, kind in EVENTS.items():
        if column not in schema:
            if column in OPTIONAL:
                columns.append(pl.lit(None, dtype=kind).alias(column))
                continue
            found = ", ".join(schema.names())
            raise ValueError(f"{name}: no column {column}; found {found}; rename it or map it with --columns")
        if not isinstance(schema[column], KINDS[column]):
            raise ValueError(f"{name}: column {column} is {schema[column]}; expected {kind}; convert it first")
        columns.append(cast(column, schema[column], kind))
    extra = [pl.col(column) for column in schema if column not in EVENTS]
    return frame.select(*columns, *extra)


def cast(column: str, found: pl.DataType, kind: pl.DataType) -> pl.Expr:
    """Return the expression that brings a column from one type to another; times of a zone become UTC."""
    expression = pl.col(column)
    if isinstance(found, pl.Datetime) and found.time_zone is not None:
        expression = expression.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return expression.cast(kind)


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, for a one-line error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_inversion(events: pl.DataFrame) -> int | None:
    """Return the row number (from 0) of the first row out of canonical order, or None.

    Canonical order is subject_id, then time with nulls first. Each subject stands in one run of rows.
    """
    subject = pl.col("subject_id")
    time = pl.col("time").to_physical().fill_null(-(2**63))
    broken = (subject < subject.shift(1)) | ((subject == subject.shift(1)) & (time < time.shift(1)))
    rows = events.select(broken.arg_true()).to_series()
    return int(rows[0]) if len(rows) else None


def order(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Sort to canonical order, stably: rows of one subject and time keep their order, which is their rank."""
    return frame.sort("subject_id", "time", nulls_last=False, maintain_order=True)


def unfinished(path: Path) -> Path:
    """Return a name beside a file to write it under, another one each time: two machines may write the same file."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write any frame as parquet, whole or not at all; equal frames give equal bytes.

    Raises:
        OSError: the disk does not take it.
    """
    temporary = unfinished(path)
    try:
        frame.write_parquet(temporary, compression="zstd", compression_level=1, statistics=True)
        temporary.rename(path)
    except pl.exceptions.PolarsError as error:
        # What polars makes of a full disk is no OSError.
        temporary.unlink(missing_ok=True)
        raise OSError(errno.EIO, f"cannot be written ({first_line(error)}); is the disk full?", str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
