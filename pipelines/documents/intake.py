"""Documents to be scored: read from text files or a table, each accepted or rejected with a reason.  No torch."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.documents.schema import scan

ACCEPTED = pl.Schema(
    {"document_id": pl.String(), "group_id": pl.String(), "text_type": pl.String(), "text": pl.String()}
)
REJECTED = pl.Schema({"document_id": pl.String(), "text_type": pl.String(), "reason": pl.String()})
EMPTY, NOT_TEXT, NUL, UNKNOWN = "empty", "not UTF-8", "holds NUL", "unknown text_type"
EXPECTED = "a folder of .txt files, or a .parquet, .jsonl or .csv table with document_id and text"


class Taken(NamedTuple):
    """Documents by whether they can be read.

    Attributes:
        accepted: ACCEPTED, in the order given, a passage once.
        rejected: REJECTED.
        digest: SHA-256 over all that was given.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    digest: str


def take(source: Path, text_types: Sequence[str], text_type: str | None) -> Taken:
    """Read documents.

    Args:
        source: see EXPECTED.
        text_types: those that the catalogue asks of.
        text_type: of documents that name none.

    Raises:
        ValueError: there are none, or the table lacks a column, or `text_type` is not known.
    """
    if text_type is not None and text_type not in text_types:
        raise ValueError(f"--text-type {text_type}: expected one of {', '.join(text_types)}")
    held = files(source) if source.is_dir() else table(source)
    if not len(held):
        raise ValueError(f"{source}: holds no documents; expected {EXPECTED}")
    if text_type is not None:
        held = held.with_columns(pl.col("text_type").fill_null(text_type))
    known = pl.col("text_type").is_null() | pl.col("text_type").is_in(list(text_types))
    judged = held.with_columns(
        pl.when(pl.col("reason").is_not_null())
        .then(pl.col("reason"))
        .when(pl.col("text").is_null() | (pl.col("text").str.strip_chars() == ""))
        .then(pl.lit(EMPTY))
        .when(pl.col("text").str.contains("\x00", literal=True))
        .then(pl.lit(NUL))
        .when(~known)
        .then(pl.lit(UNKNOWN))
        .alias("reason")
    )
    fine = pl.col("reason").is_null()
    return Taken(
        judged.filter(fine).select(ACCEPTED.names()),
        judged.filter(~fine).select(REJECTED.names()),
        digest(judged),
    )


def files(folder: Path) -> pl.DataFrame:
    """Return the .txt files below a folder; a document's id is its path without the ending."""
    rows: list[tuple[str, str | None, str | None]] = []
    for path in sorted(folder.rglob("*.txt")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        content = path.read_bytes()
        try:
            rows.append((name, content.decode("utf-8"), None))
        except UnicodeDecodeError:
            rows.append((name, None, NOT_TEXT))
    if not rows:
        raise ValueError(f"{folder}: holds no .txt file; expected {EXPECTED}")
    frame = pl.DataFrame(rows, schema={"document_id": pl.String, "text": pl.String, "reason": pl.String}, orient="row")
    return frame.with_columns(pl.col("document_id").alias("group_id"), pl.lit(None, pl.String).alias("text_type"))


def table(path: Path) -> pl.DataFrame:
    """Return the passages of a table, each once, whatever is asked of it there."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder; expected {EXPECTED}")
    try:
        frame = scan(path)
        names = frame.collect_schema().names()
        missing = [name for name in ("document_id", "text") if name not in names]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; found {', '.join(names)}; add or rename")
        held = frame.with_columns(
            pl.col("document_id").cast(pl.String),
            (pl.col("group_id") if "group_id" in names else pl.col("document_id")).cast(pl.String).alias("group_id"),
            (pl.col("text_type") if "text_type" in names else pl.lit(None)).cast(pl.String).alias("text_type"),
            pl.lit(None, pl.String).alias("reason"),
        )
        return held.select(*ACCEPTED.names(), "reason").unique(maintain_order=True).collect()
    except pl.exceptions.PolarsError as error:
        line = str(error).splitlines()[0][:100]
        raise ValueError(f"{path}: cannot be read ({line}); expected {EXPECTED}") from None


def digest(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of all cells, each with its length before it."""
    found = hashlib.sha256()
    for cell in cells(frame):
        found.update(len(cell).to_bytes(8, "big") + cell)
    return found.hexdigest()


def cells(frame: pl.DataFrame) -> Iterator[bytes]:
    """Yield all cells, row by row."""
    for row in frame.iter_rows():
        for cell in row:
            yield b"" if cell is None else str(cell).encode("utf-8", "surrogatepass")
