"""MEDS 0.4 and 0.3: parquet shards of one subject each, sorted by time, with nulls first for static facts."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.events import EVENTS, conform, first_line
from ehr.sources.parts import NONE, Part, Source
from ehr.sources.sheets import refuse_zones

PART_ROWS = 1_000_000
SUBJECT = "subject_id"
NOBODY = -(2**63)
# Folders of a dataset whose parquet files hold no events.
NO_EVENTS = {"metadata", "labels", "truth"}
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
# Subject and first row of each run of rows of one subject, and the number of rows.
Runs = tuple[Ints, Ints, int]


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
    # One of the three may be misnamed, and reading says which.
    return len({"subject_id", "time", "code"} & names) >= 2 or {"patient_id", "time", "code"} <= names


def data_files(path: Path) -> list[Path]:
    """Return the parquet files of events below a path, in a fixed order; metadata and labels are none."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    root = path / "data" if (path / "data").is_dir() else path
    files = [file for file in root.rglob("*.parquet") if not file.name.startswith(".")]
    return sorted(file for file in files if not NO_EVENTS & set(file.relative_to(root).parts))


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
    held: list[tuple[str, Ints]] = []
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        split = file.relative_to(root).parts[0] if path.is_dir() and file.parent != root else None
        found = runs(file, name)
        parts += parts_of(file, name, split, found, part_rows, ordered=not repair)
        if not repair:
            refuse_unsorted(name, found)
            held.append((name, found[0]))
    refuse_shared(held, path)
    version = version_of(path, pq.read_schema(files[0]))
    return Source("meds", version, tuple(parts), parents=parents(path), splits=splits(path, parts))


def scan(path: Path, *, repair: bool = False) -> pl.LazyFrame:
    """Return all events of a MEDS dataset, lazy (see `open`)."""
    return pl.concat([part.events.select(EVENTS.names()) for part in open(path, repair=repair).parts])


def runs(file: Path, name: str) -> Runs:
    """Return the subject and first row of each run of rows of one subject, and the number of rows.

    Only the subject column is read, one row group at a time. Rows without a subject count as those of the least one.
    """
    subjects: list[Ints] = [np.zeros(0, np.int64)]
    starts: list[Ints] = [np.zeros(0, np.int64)]
    row = 0
    try:
        with pq.ParquetFile(file) as parquet:
            check(parquet.schema_arrow, name)
            for group in range(parquet.num_row_groups):
                values = parquet.read_row_group(group, columns=[SUBJECT])[SUBJECT].combine_chunks()
                held = values.cast(pa.int64()).fill_null(NOBODY).to_numpy()
                first = changes(held)
                subjects.append(held[first])
                starts.append(first + row)
                row += len(held)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{name}: not a whole parquet file ({first_line(error)}); copy or write it again") from None
    subject, start = np.concatenate(subjects), np.concatenate(starts)
    # A subject may go on from one row group into the next.
    first = changes(subject)
    return subject[first], start[first], row


def changes(subjects: Ints) -> Ints:
    """Return where runs of one subject begin."""
    return np.flatnonzero(np.concatenate([np.ones(min(len(subjects), 1), bool), subjects[1:] != subjects[:-1]]))


def check(schema: pa.Schema, name: str) -> None:
    """Refuse a shard whose subjects are none, or whose times cannot be read; `conform` looks at the other columns."""
    if SUBJECT not in schema.names:
        found = ", ".join(schema.names)
        raise ValueError(f"{name}: no column {SUBJECT}; found {found}; rename it or map it with --columns")
    kind = schema.field(SUBJECT).type
    if not pa.types.is_integer(kind) or kind == pa.uint64():
        raise ValueError(f"{name}: column {SUBJECT} is {kind}; expected int64; convert it first")
    refuse_zones(schema, name)


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


def refuse_unsorted(name: str, found: Runs) -> None:
    """Refuse a shard whose subjects do not ascend (MEDS 0.4, data schema)."""
    subjects, starts, _ = found
    falls = np.flatnonzero(subjects[1:] < subjects[:-1])
    if len(falls):
        row = int(starts[falls[0] + 1]) + 1
        raise ValueError(f"{name}: row {row} is not in order of subject_id (nulls first); sort it, or pass --repair")


def refuse_shared(held: Sequence[tuple[str, Ints]], path: Path) -> None:
    """Refuse subjects that stand in two shards (MEDS 0.4, data schema).

    Args:
        held: the subjects of each shard, ascending, by its name.
        path: of the dataset.
    """
    known = [subjects[subjects >= 0] for _, subjects in held]
    subject = np.concatenate([*known, np.zeros(0, np.int64)])
    shard = np.repeat(np.arange(len(known)), [len(subjects) for subjects in known])
    by = np.argsort(subject, kind="stable")
    twice = np.flatnonzero(np.diff(subject[by]) == 0)
    if len(twice):
        one, other = (held[int(shard[by[twice[0] + i]])][0] for i in (0, 1))
        raise ValueError(f"{path}: {one} and {other} share a subject; expected one shard each; pass --repair")


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


def splits(path: Path, parts: Sequence[Part]) -> Path | None:
    """Return the table of splits of a dataset, where its folders name none."""
    file = path / "metadata" / "subject_splits.parquet"
    named = any(part.split == "train" for part in parts)
    return file if path.is_dir() and file.is_file() and not named else None


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
    if table.schema["parent_codes"] != pl.List(pl.String):
        found = table.schema["parent_codes"]
        raise ValueError(f"{file}: column parent_codes is {found}; expected lists of codes; convert it or take it away")
    chains = table.select("code", pl.col("parent_codes").list.drop_nulls()).drop_nulls()
    kept = chains.filter(pl.col("parent_codes").list.len() > 0).sort("code")
    return {code: tuple(chain) for code, chain in zip(kept["code"], kept["parent_codes"].to_list(), strict=True)}
