"""Where the tables of an OMOP database lie, and each as a lazy frame with lower-case columns."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.events import first_line
from ehr.sources.sheets import refuse_zones

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
CLINICAL = (
    "visit_occurrence",
    "visit_detail",
    "condition_occurrence",
    "drug_exposure",
    "procedure_occurrence",
    "device_exposure",
    "measurement",
    "observation",
)
VOCABULARY = ("concept", "concept_ancestor", "concept_relationship")
KNOWN = ("person", "death", *CLINICAL, *VOCABULARY, "cdm_source")


class Table(NamedTuple):
    """One table: what to call it in messages, its rows (with `row`, from 1), and its columns' types.

    Attributes:
        name: the file, relative to the database's folder.
        frame: with lower-case columns; text throughout where it comes from CSV.
        types: by column.
    """

    name: str
    frame: pl.LazyFrame
    types: dict[str, pl.DataType]

    def require(self, *columns: str) -> None:
        """Refuse the table where it has none of some columns that stand for the same thing.

        Raises:
            ValueError: with the columns found.
        """
        if not any(column in self.types for column in columns):
            found = ", ".join(column for column in self.types if column != "row")
            raise ValueError(
                f"{self.name}: no column {' or '.join(columns)}; found {found}; name it as OMOP CDM 5.3 or 5.4 does"
            )


def listing(path: Path) -> dict[str, list[Path]]:
    """Return the places of each known table, in the folder itself and in its folders (vocabularies often lie apart)."""
    found: dict[str, list[Path]] = {}
    if not path.is_dir():
        return found
    below = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    inner = [file for entry in below if entry.is_dir() and table_of(entry) is None for file in sorted(entry.iterdir())]
    for entry in below + inner:
        name = table_of(entry)
        if name in KNOWN:
            found.setdefault(name, []).append(entry)
    return found


def table_of(path: Path) -> str | None:
    """Return the known table that a file's or folder's name stands for."""
    name = path.name.lower()
    bare = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), None)
    if bare is None and path.is_dir():
        bare = name
    return bare if bare in KNOWN else None


def tables(path: Path) -> dict[str, Table]:
    """Return the known tables of a database.

    Raises:
        ValueError: no such folder, a table that stands there twice, or one that cannot be read.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: not a folder; expected OMOP tables as CSV or parquet; pass the folder they lie in")
    found: dict[str, Table] = {}
    for name, places in listing(path).items():
        if len(places) > 1:
            both = " and ".join(place.relative_to(path).as_posix() for place in places[:2])
            raise ValueError(f"{path}: {both} are the same table; expected one file of it; move one away")
        found[name] = table(places[0], places[0].relative_to(path).as_posix())
    return found


def table(path: Path, name: str) -> Table:
    """Return one table, reading no more than its header.

    Raises:
        ValueError: it is no CSV or parquet, damaged, empty, or has two columns of one name.
    """
    frame = rows(path, name)
    try:
        schema = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(name, error) from None
    lower = {column: column.strip().strip("\ufeff").lower() for column in schema.names()}
    if len(set(lower.values())) < len(lower):
        raise ValueError(f"{name}: two columns of one name but for its case; expected one; rename or drop one")
    renamed = frame.rename(lower).with_row_index("row", offset=1)
    return Table(name, renamed, {lower[column]: kind for column, kind in schema.items()})


def rows(path: Path, name: str) -> pl.LazyFrame:
    """Return a file's rows as they stand there: a parquet file, a folder of them, or CSV with any of two delimiters."""
    if path.is_dir():
        shards = sorted(path.glob("*.parquet"))
        if not shards:
            raise ValueError(f"{name}: a folder without parquet files; expected a table; put the file in its place")
        return parquet(shards, name)
    if path.suffix.lower() == ".parquet":
        return parquet([path], name)
    tabs = delimiter(path, name) == "\t"
    # Vocabularies are handed out tab-separated, with bare quotes inside names.
    quote = None if tabs else '"'
    return pl.scan_csv(path, separator="\t" if tabs else ",", quote_char=quote, infer_schema=False, glob=False)


def parquet(files: Sequence[Path], name: str) -> pl.LazyFrame:
    """Return the rows of parquet files."""
    try:
        for file in files:
            refuse_zones(pq.read_schema(file), name)
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(name, error) from None
    return pl.scan_parquet(list(files), glob=False)


def delimiter(path: Path, name: str) -> str:
    """Return what stands between the columns of a text file: the tab where its header has one."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.readline(1 << 16)
    except (OSError, EOFError) as error:
        raise damaged(name, error) from None
    if not header.strip():
        raise ValueError(f"{name}: an empty file; expected a header and rows; copy it again or take it away")
    return "\t" if b"\t" in header else ","


def damaged(name: str, error: BaseException) -> ValueError:
    """Return the error for a file that cannot be read."""
    return ValueError(f"{name}: cannot be read ({first_line(error)}); expected a whole CSV or parquet; copy it again")
