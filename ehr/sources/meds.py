"""MEDS 0.4 and 0.3: parquet shards of one subject each, sorted by time, with nulls first for static facts."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.events import EVENTS, conform, first_line
from ehr.sources.parts import NONE, Part, Source

PART_ROWS = 1_000_000


def matches(path: Path) -> bool:
    """Tell whether a path looks like MEDS: parquet with its columns, alone or in a dataset's folders."""
    files = data_files(path)
    if not files:
        return False
    try:
        names = set(pq.read_schema(files[0]).names)
    except (pa.ArrowInvalid, OSError):
        # A damaged file in a dataset's folder is a damaged dataset, and reading it says so.
        return (path / "metadata" / "dataset.json").is_file() or (path / "data").is_dir()
    return {"subject_id", "time", "code"} <= names or {"patient_id", "time", "code"} <= names


def data_files(path: Path) -> list[Path]:
    """Return the parquet files of events below a path, in a fixed order; metadata and labels are none."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    root = path / "data" if (path / "data").is_dir() else path
    files = [file for file in root.rglob("*.parquet") if not {"metadata", "labels", "truth"} & set(file.parts)]
    return sorted(file for file in files if not file.name.startswith("."))


def open(path: Path, *, repair: bool = False, part_rows: int = PART_ROWS) -> Source:
    """Open a MEDS dataset, a folder of its shards, or one shard.

    Args:
        path: dataset root (data/, metadata/), a folder with train/, tuning/, held_out/, or a parquet file.
        repair: take shards that are unsorted or share subjects, by sorting them anew.
        part_rows: parts are cut at the first change of subject after so many rows.

    Raises:
        ValueError: no file, a damaged file, a missing or mistyped column, a subject in two shards.
    """
    files = data_files(path)
    if not files:
        raise ValueError(f"{path}: no parquet files of events; expected a MEDS dataset (data/**/*.parquet)")
    root = path / "data" if (path / "data").is_dir() else path
    parts: list[Part] = []
    seen: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        split = file.relative_to(root).parts[0] if path.is_dir() and file.parent != root else None
        subjects = runs(file, name)
        whole = tuple(parts_of(file, name, split, subjects, part_rows, ordered=not repair))
        parts += whole
        if not repair:
            refuse_shared(seen, name, subjects[0], path)
            seen[name] = subjects[0]
    version = version_of(path, pq.read_schema(files[0]))
    return Source("meds", version, tuple(parts), parents=parents(path))


def scan(path: Path, *, repair: bool = False) -> pl.LazyFrame:
    """Return all events of a MEDS dataset, lazy (see `open`)."""
    return pl.concat([part.events.select(EVENTS.names()) for part in open(path, repair=repair).parts])


Runs = tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]], int]


def runs(file: Path, name: str) -> Runs:
    """Return the subject and first row of each run of rows of one subject, and the number of rows.

    Only the subject column is read, one row group at a time.
    """
    column = "subject_id"
    subjects: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    starts: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    row = 0
    try:
        with pq.ParquetFile(file) as parquet:
            if column not in parquet.schema_arrow.names:
                found = ", ".join(parquet.schema_arrow.names)
                raise ValueError(f"{name}: no column {column}; found {found}; rename it or map it with --columns")
            for group in range(parquet.num_row_groups):
                values = parquet.read_row_group(group, columns=[column])[column].combine_chunks()
                if not pa.types.is_integer(values.type):
                    raise ValueError(f"{name}: column {column} is {values.type}; expected int64; convert it first")
                held = values.fill_null(-1).cast(pa.int64()).to_numpy()
                first = np.flatnonzero(np.diff(held, prepend=held[:1] - 1)) if len(held) else np.zeros(0, np.int64)
                subjects.append(held[first])
                starts.append(first + row)
                row += len(held)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{name}: not a whole parquet file ({first_line(error)}); copy or write it again") from None
    subject = np.concatenate(subjects) if subjects else np.zeros(0, np.int64)
    start = np.concatenate(starts) if starts else np.zeros(0, np.int64)
    changes = np.diff(subject, prepend=subject[:1] - 1) != 0
    return subject[changes], start[changes], row


def parts_of(file: Path, name: str, split: str | None, found: Runs, part_rows: int, *, ordered: bool) -> Iterator[Part]:
    """Yield one file as parts of about `part_rows` rows that share no subject."""
    _, starts, rows = found
    frame = conform(pl.scan_parquet(file, glob=False), name=name)
    begin = 0
    while begin < rows:
        after = starts[starts >= begin + part_rows]
        end = int(after[0]) if len(after) else rows
        events = frame if end - begin == rows else frame.slice(begin, end - begin)
        yield Part(name, events, ordered=ordered, rows=end - begin, split=split, first_row=begin + 1)
        begin = end


def refuse_shared(
    seen: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]],
    name: str,
    subjects: np.ndarray[tuple[int], np.dtype[np.int64]],
    path: Path,
) -> None:
    """Refuse subjects that are not in one run of rows of one shard (MEDS 0.4, data schema)."""
    if (np.diff(subjects) < 0).any():
        row = int(np.flatnonzero(np.diff(subjects) < 0)[0]) + 1
        raise ValueError(f"{name}: not sorted by subject_id (at subject run {row}); sort it, or pass --repair")
    for other, held in seen.items():
        if len(np.intersect1d(held, subjects[subjects >= 0])):
            raise ValueError(f"{path}: {other} and {name} share a subject; expected one shard each; pass --repair")


def version_of(path: Path, schema: pa.Schema) -> str:
    """Return the MEDS version that dataset.json states, else the one that the schema fits."""
    stated = path / "metadata" / "dataset.json"
    if path.is_dir() and stated.is_file():
        try:
            version = json.loads(stated.read_text(encoding="utf-8")).get("meds_version")
        except (ValueError, AttributeError):
            raise ValueError(f"{stated}: not JSON; mend it or take it away") from None
        if version:
            return str(version)
    # 0.3 had float32 values too, but no text_value; 0.4 has both, each optional.
    return "0.4" if "text_value" in schema.names else "0.3"


def parents(path: Path) -> dict[str, tuple[str, ...]]:
    """Return parent codes by code from metadata/codes.parquet, where the dataset has them."""
    file = path / "metadata" / "codes.parquet"
    if not (path.is_dir() and file.is_file()):
        return dict(NONE)
    try:
        table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError):
        raise ValueError(f"{file}: not a whole parquet file; copy it again") from None
    if "parent_codes" not in table.columns or "code" not in table.columns:
        return dict(NONE)
    kept = table.filter(pl.col("parent_codes").list.len() > 0).sort("code")
    return {code: tuple(chain) for code, chain in zip(kept["code"], kept["parent_codes"].to_list(), strict=True)}
