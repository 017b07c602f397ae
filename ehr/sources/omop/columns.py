"""Columns of an OMOP table as typed expressions, and for each the rows where it cannot be read."""

import polars as pl

from ehr.sources.omop.files import Table

MOMENTS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y%m%d")
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
    zoned = plain.str.replace(r"\s*(Z|UTC)$", "+00:00").str.to_datetime(ZONED, time_unit="us", strict=False)
    read = [plain.str.to_datetime(form, time_unit="us", strict=False) for form in MOMENTS]
    return pl.coalesce(*read, zoned.dt.replace_time_zone(None))


def either(table: Table, columns: tuple[str, str]) -> pl.Expr:
    """Return the time of an event: its datetime column, or the midnight of its date column."""
    return pl.coalesce(moment(table, columns[0]), moment(table, columns[1]))


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


def undated(table: Table, columns: tuple[str, str]) -> pl.Expr:
    """Return why the row of an event cannot be used where its time is missing or cannot be read."""
    missing = pl.when(either(table, columns).is_null()).then(pl.lit(f"no {columns[1]}"))
    wrong = [unreadable(table, column, moment(table, column)) for column in columns]
    return pl.coalesce(*wrong, missing)
