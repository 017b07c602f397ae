"""Files of rows and columns, CSV or parquet: opened by their header, read as text, lazily."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.events import first_line

ROW = "#row"
DELIMITED = (".csv", ".tsv", ".txt", ".psv")
ENDINGS = (*DELIMITED, *(f"{ending}.gz" for ending in DELIMITED), ".parquet")
# Tried in this order; the first that fits a cell counts. Day-first dates are never guessed.
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


class Sheet(NamedTuple):
    """An opened file.

    Attributes:
        name: what to call it in messages.
        frame: its columns, and `#row`: the number of the row, from 1, a header not counted.
        kinds: the type of each column; text throughout for delimited files.
    """

    name: str
    frame: pl.LazyFrame
    kinds: Mapping[str, pl.DataType]

    def need(self, columns: Iterable[str], remedy: str) -> None:
        """Refuse a sheet without these columns, or whose cells there hold no single value.

        Raises:
            ValueError: the first that is missing, with those found; or the first of lists or bytes.
        """
        for column in columns:
            if column not in self.kinds:
                found = ", ".join(self.kinds)
                raise ValueError(f"{self.name}: no column {column}; found {found}; {remedy}")
            kind = self.kinds[column]
            if kind.is_nested() or isinstance(kind, (pl.Binary, pl.Object)):
                raise ValueError(f"{self.name}: column {column} is {kind}; expected one value a cell; convert it first")

    def lower(self) -> "Sheet":
        """Return the sheet with column names in lower case."""
        names = {column: column.lower() for column in self.kinds}
        if len(set(names.values())) < len(names):
            raise ValueError(f"{self.name}: two columns differ in case only; expected each name once; rename one")
        return Sheet(self.name, self.frame.rename(names), {names[column]: kind for column, kind in self.kinds.items()})


def stem(path: Path) -> str:
    """Return a file's name without .csv, .csv.gz, .parquet and the like."""
    name = path.name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def read(path: Path, name: str, *, separator: str = ",") -> Sheet:
    """Open a file; only its header or footer is read.

    Args:
        path: delimited text in UTF-8, plain or gzip, or parquet.
        name: what to call it in messages.
        separator: one character between cells.

    Raises:
        ValueError: no such file, a folder, an empty or damaged file, a column twice.
    """
    if path.is_dir():
        raise ValueError(f"{name}: a folder; expected a file of that name; move the folder away")
    if not path.is_file():
        raise ValueError(f"{name}: no such file; expected a table; mend the path")
    if path.stat().st_size == 0:
        raise ValueError(f"{name}: an empty file; expected a header and rows; copy it again or take it away")
    return parquet(path, name) if path.suffix.lower() == ".parquet" else delimited(path, name, separator)


def parquet(path: Path, name: str) -> Sheet:
    """Open a parquet file."""
    try:
        refuse_zones(pq.read_schema(path), name)
        kinds = dict(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{name}: not a whole parquet file ({first_line(error)}); copy or write it again") from None
    return Sheet(name, pl.scan_parquet(path, glob=False).with_row_index(ROW, offset=1), kinds)


def refuse_zones(schema: pa.Schema, name: str) -> None:
    """Refuse times in a zone of odd minutes, such as +05:30: polars knows whole hours and names, and ends on others.

    Raises:
        ValueError: with the column.
    """
    for field in schema:
        zone = field.type.tz if pa.types.is_timestamp(field.type) else None
        if zone and zone[0] in "+-" and not zone.endswith(":00"):
            raise ValueError(f"{name}: column {field.name} has the zone {zone}; expected UTC; convert it first")


def delimited(path: Path, name: str, separator: str) -> Sheet:
    """Open a delimited file. Every cell is read as text, so that no value is guessed into another type."""
    names = header(path, name, separator)
    frame = pl.scan_csv(
        path, separator=separator, infer_schema=False, row_index_name=ROW, row_index_offset=1, glob=False
    )
    # Renamed by position: spaces around names are common, and mean nothing.
    wanted = [column.strip() for column in names]
    frame = frame.rename(dict(zip(names, wanted, strict=True)))
    return Sheet(name, frame, dict.fromkeys(wanted, pl.String()))


def header(path: Path, name: str, separator: str) -> list[str]:
    """Return the column names of a delimited file.

    Raises:
        ValueError: they cannot be read, or one stands there twice.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            names = next(csv.reader(text, delimiter=separator), [])
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not UTF-8 text; save it as UTF-8 (iconv -f LATIN1 -t UTF-8)") from None
    except (EOFError, OSError, csv.Error) as error:
        raise ValueError(f"{name}: cannot be read ({first_line(error)}); copy it again") from None
    if not any(column.strip() for column in names):
        raise ValueError(f"{name}: no header; expected column names in the first line; add them")
    stripped = [column.strip() for column in names]
    twice = next((column for column in stripped if stripped.count(column) > 1), None)
    if twice is not None:
        raise ValueError(f"{name}: column {twice} stands there twice; expected each name once; rename one")
    return names


def text(column: str, kind: pl.DataType, missing: Iterable[str] = ()) -> pl.Expr:
    """Return a column as text: spaces around a cell removed, null where it is empty or a sign of missing.

    Whole numbers of a float column are written without their `.0`.
    """
    cell = pl.col(column)
    if kind.is_float():
        whole = cell.is_finite() & (cell == cell.round(0)) & (cell.abs() < 2**53)
        cell = pl.when(whole).then(cell.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(cell.cast(pl.String))
    cell = cell.cast(pl.String).str.strip_chars()
    return pl.when(~cell.is_in(["", *missing])).then(cell)


def number(cell: pl.Expr) -> pl.Expr:
    """Return text as numbers, f64; null where it is none or not finite."""
    value = cell.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def moment(cell: pl.Expr, format: str | None = None) -> pl.Expr:
    """Return text as times without zone, in microseconds; null where it is none. A given offset is taken to UTC.

    Args:
        cell: ISO dates and times, such as 2024-01-31, 2024-01-31 17:05, 2024-01-31T17:05:00+01:00.
        format: of strptime, for other ways of writing.
    """
    if format is not None and "%z" not in format and "%#z" not in format:
        return cell.str.to_datetime(format, strict=False, time_unit="us")
    if format is not None:
        found = cell.str.to_datetime(format, strict=False, time_unit="us", time_zone="UTC")
        return found.dt.replace_time_zone(None)
    plain = [cell.str.to_datetime(one, strict=False, time_unit="us") for one in DATE_FORMATS]
    zoned = [
        cell.str.to_datetime(one, strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None)
        for one in ZONED_FORMATS
    ]
    return pl.coalesce(*plain, *zoned)
