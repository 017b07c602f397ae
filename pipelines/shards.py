"""Sources to shards: about a million events each, which share no subject with any other shard."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.events import EVENTS, first_inversion, first_line, order
from ehr.sources.parts import Part, Source

SHARD_EVENTS = 1_000_000
BATCH_ROWS = 250_000
BUCKETS = 64


class Piece(NamedTuple):
    """Rows of one file: its name for messages, and the number in it of the first row."""

    name: str
    events: pl.LazyFrame
    first_row: int


class Shard(NamedTuple):
    """Events of some subjects, all of theirs, to be worked on as one.

    Attributes:
        number: its place in the cohort.
        pieces: where its rows come from.
        ordered: whether each piece is in canonical order already.
        split: the split that the source gives all of its subjects.
        rows: their number, 0 where it is not known.
    """

    number: int
    pieces: tuple[Piece, ...]
    ordered: bool
    split: str | None
    rows: int

    @property
    def name(self) -> str:
        """What to call the shard in messages."""
        return self.pieces[0].name

    @property
    def first_row(self) -> int:
        """Number in its file of the shard's first row."""
        return self.pieces[0].first_row


def divide(source: Source, folder: Path, *, shard_events: int = SHARD_EVENTS) -> list[Shard]:
    """Return subject-disjoint shards of a source.

    Parts that come ordered are used as they are, small ones together. Others are spread over files by subject,
    batch by batch, so that memory is bounded by a batch and no subject stands in two files.

    Args:
        source: an opened source.
        folder: where spread events may be kept meanwhile.
        shard_events: size aimed at.
    """
    if all(part.ordered for part in source.parts):
        return gather(source.parts, shard_events)
    shards: list[Shard] = []
    for split in dict.fromkeys(part.split for part in source.parts):
        parts = [part for part in source.parts if part.split == split]
        for files in spread(parts, folder / f"{len(shards):05d}", shard_events):
            pieces = tuple(Piece(file.stem, pl.scan_parquet(file), 1) for file in files)
            shards.append(Shard(len(shards), pieces, ordered=False, split=split, rows=0))
    return shards


def gather(parts: Sequence[Part], shard_events: int) -> list[Shard]:
    """Put neighbouring small parts of one split together, up to about `shard_events`."""
    groups: list[list[Part]] = []
    for _, same in groupby(parts, key=lambda part: part.split):
        held = shard_events
        for part in same:
            rows = shard_events if part.rows is None else part.rows
            if held + rows > shard_events:
                groups.append([])
                held = 0
            groups[-1].append(part)
            held += rows
    return [
        Shard(
            number,
            tuple(Piece(part.name, part.events, part.first_row) for part in group),
            ordered=True,
            split=group[0].split,
            rows=sum(part.rows or 0 for part in group),
        )
        for number, group in enumerate(groups)
    ]


def spread(parts: Sequence[Part], folder: Path, shard_events: int) -> list[list[Path]]:
    """Write events to files by subject, keeping the order in which they come; return the files of each shard.

    Where rows are not known beforehand, there are 64 files, and small neighbours make one shard.
    """
    folder.mkdir(parents=True)
    known = [part.rows for part in parts if part.rows is not None]
    buckets = max(1, -(-sum(known) // shard_events)) if len(known) == len(parts) else BUCKETS
    files = [folder / f"{bucket:05d}.parquet" for bucket in range(buckets)]
    rows = [0] * buckets
    writers: dict[int, pq.ParquetWriter] = {}
    schema = pl.Schema({**EVENTS, "row": pl.Int64(), "reject": pl.String(), "file": pl.String()})
    arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    # Multiplied by an odd constant, so that neighbouring ids spread over all files.
    bucket = ((pl.col("subject_id").fill_null(0) * 0x9E3779B1 // 65_536).abs() % buckets).alias("bucket")
    try:
        for part in parts:
            for batch in batches(part, schema):
                pieces = batch.with_columns(bucket).partition_by(
                    "bucket", maintain_order=True, as_dict=True, include_key=False
                )
                for (at,), piece in pieces.items():
                    if at not in writers:
                        writers[at] = pq.ParquetWriter(files[at], arrow, compression="lz4")
                    writers[at].write_table(piece.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow))
                    rows[at] += len(piece)
    finally:
        for writer in writers.values():
            writer.close()
    shards: list[list[Path]] = []
    held = shard_events
    for file, number in zip(files, rows, strict=True):
        if number and held + number > shard_events:
            shards.append([])
            held = 0
        if number:
            shards[-1].append(file)
            held += number
    return shards


def batches(part: Part, schema: pl.Schema) -> Iterator[pl.DataFrame]:
    """Yield a part's events in batches, in order, with the columns row, reject and file."""
    names = part.events.collect_schema().names()
    frame = part.events if "row" in names else part.events.with_row_index("row", offset=part.first_row)
    if "reject" not in names:
        frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("reject"))
    frame = frame.with_columns(pl.lit(part.name).alias("file"))
    casts = [pl.col(name).cast(kind) for name, kind in schema.items()]
    try:
        yield from frame.select(casts).collect_batches(maintain_order=True, chunk_size=BATCH_ROWS)
    except (pl.exceptions.PolarsError, pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{part.name}: cannot be read ({first_line(error)}); mend or leave out the file") from None


def read(frame: pl.LazyFrame, name: str) -> pl.DataFrame:
    """Collect a frame.

    Raises:
        ValueError: the file cannot be read as it was described.
    """
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{name}: cannot be read ({first_line(error)}); mend or leave out the file") from None


def load(shard: Shard) -> pl.DataFrame:
    """Return a shard's events in canonical order, with the columns row, reject and file where it has them.

    Raises:
        ValueError: the shard cannot be read, or should have come in order and did not.
    """
    if not shard.ordered:
        frames = [read(piece.events, piece.name) for piece in shard.pieces]
        return read(order(pl.concat(frames).lazy()), shard.name)
    frames = [in_order(piece, read(piece.events, piece.name)) for piece in shard.pieces]
    if len(frames) == 1:
        return frames[0]
    whole = pl.concat([named(piece, frame) for piece, frame in zip(shard.pieces, frames, strict=True)], how="diagonal")
    # Files of one split may hold subjects in any order of files.
    return whole if first_inversion(whole) is None else read(order(whole.lazy()), shard.name)


def in_order(piece: Piece, events: pl.DataFrame) -> pl.DataFrame:
    """Return the events, refusing them where they are out of order."""
    at = first_inversion(events)
    if at is not None:
        row = at + piece.first_row
        raise ValueError(f"{piece.name}: row {row} is not in order of subject and time; sort the file or pass --repair")
    return events


def named(piece: Piece, events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with the columns file and row, so that they can be told apart among others."""
    file = pl.lit(piece.name, dtype=pl.String).alias("file")
    if "row" in events.columns:
        return events.with_columns(file, pl.col("row").cast(pl.Int64))
    return events.with_columns(file, pl.int_range(pl.len()).add(piece.first_row).cast(pl.Int64).alias("row"))
