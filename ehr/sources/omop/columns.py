"""Columns of an OMOP table as typed expressions, and for each the rows where it cannot be read."""

import polars as pl

from ehr.sources.omop.files import Table

USUAL = "%Y-%m-%d %H:%M:%S%.f"
OTHERS = ("%Y-%m-%d %H:%M", "%Y%m%d")
ZONED = "%Y-%m-%d %H:%M:%S%.f%#z"


def text(table: Table, column: str) -> pl.Expr:
    """Return a column as text without blanks around it; null where it is empty, absent, or a null's name."""
    if column not in table.types:
        return pl.lit(None, dtype=pl.String)
    stripped = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(~stripped.is_in(["", "\\N", "NULL"])).then(stripped)


def integer(table: Table, column: str) -> pl.Expr:
    """Return a column as i64; null where it is no whole number."""
    kind = table.types.get(column)
    if kind is None:
        return pl.lit(None, dtype=pl.Int64)
    if kind.is_integer():
        return pl.col(column).cast(pl.Int64, strict=False)
    if kind.is_float() or kind.is_decimal():
        whole = pl.col(column).cast(pl.Float64)
        return pl.when(whole == whole.floor()).then(whole).cast(pl.Int64, strict=False)
    return text_only(table, column).str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)


def concept(table: Table, column: str) -> pl.Expr:
    """Return a concept id; null where it is 0, which stands for no matching concept."""
    value = integer(table, column)
    return pl.when(value != 0).then(value)


def number(table: Table, column: str) -> pl.Expr:
    """Return a column as f32; null where it is no number."""
    kind = table.types.get(column)
    if kind is None:
        return pl.lit(None, dtype=pl.Float32)
    if kind.is_numeric():
        return pl.col(column).cast(pl.Float32)
    return text_only(table, column).cast(pl.Float64, strict=False).cast(pl.Float32)


def moment(table: Table, column: str) -> pl.Expr:
    """Return a date or a time in microseconds, UTC where a zone is given; null where it cannot be read."""
    kind = table.types.get(column)
    if kind is None:
        return pl.lit(None, dtype=pl.Datetime("us"))
    if isinstance(kind, pl.Datetime):
        zoned = pl.col(column).dt.convert_time_zone("UTC") if kind.time_zone else pl.col(column)
        return zoned.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if kind == pl.Date():
        return pl.col(column).cast(pl.Datetime("us"))
    plain = text_only(table, column).str.replace("T", " ", literal=True)
    midnight = pl.when(plain.str.len_bytes() == 10).then(plain + " 00:00:00").otherwise(plain)
    usual = midnight.str.to_datetime(USUAL, time_unit="us", strict=False)
    # Parsing is what reading costs: the rarer spellings are tried on what is left alone.
    left = pl.when(usual.is_null()).then(plain)
    zoned = left.str.replace(r"\s*(Z|UTC)$", "+00:00").str.to_datetime(ZONED, time_unit="us", strict=False)
    others = [left.str.to_datetime(form, time_unit="us", strict=False) for form in OTHERS]
    return pl.coalesce(usual, *others, zoned.dt.replace_time_zone(None))


def timed(table: Table, frame: pl.LazyFrame, columns: tuple[str, str], to: str) -> pl.LazyFrame:
    """Add the time of an event as column `to`, and as `to_wrong` why it cannot be told.

    The time is that of the datetime column, or the midnight of the date column.
    """
    exact, day = f"_{columns[0]}", f"_{columns[1]}"
    frame = frame.with_columns(moment(table, columns[0]).alias(exact), moment(table, columns[1]).alias(day))
    time = pl.coalesce(exact, day)
    missing = pl.when(time.is_null()).then(pl.lit(f"no {columns[1]}"))
    wrong = [unreadable(table, column, pl.col(f"_{column}")) for column in columns]
    return frame.with_columns(time.alias(to), pl.coalesce(*wrong, missing).alias(f"{to}_wrong"))


def text_only(table: Table, column: str) -> pl.Expr:
    """Return a column of text.

    Raises:
        ValueError: it is of a type that stands for nothing that OMOP has there.
    """
    kind = table.types[column]
    if not isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise ValueError(f"{table.name}: column {column} is {kind}; expected the type of OMOP CDM; convert it first")
    return text(table, column)


def unreadable(table: Table, column: str, value: pl.Expr) -> pl.Expr:
    """Return why a row cannot be used where a column holds something that `value` could not make of it."""
    if column not in table.types:
        return pl.lit(None, dtype=pl.String)
    held = text(table, column) if table.types[column] == pl.String() else pl.col(column)
    return pl.when(held.is_not_null() & value.is_null()).then(pl.lit(f"{column} cannot be read"))
