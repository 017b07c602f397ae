"""Sources to shards: pieces of about a million events that share no subject, and a pool that works on them."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.events import EVENTS, first_inversion, first_line, order
from ehr.sources.parts import Part, Source

SHARD_EVENTS = 1_000_000
BATCH_ROWS = 250_000
PR_SET_PDEATHSIG = 1
Task = TypeVar("Task")
Result = TypeVar("Result")


class Shard(NamedTuple):
    """Events of some subjects, all of theirs, to be worked on as one piece."""

    index: int
    name: str
    events: pl.LazyFrame
    ordered: bool
    split: str | None
    first_row: int


def divide(source: Source, folder: Path, *, shard_events: int = SHARD_EVENTS) -> list[Shard]:
    """Return subject-disjoint shards of a source.

    Parts that come ordered are shards as they are. Others are spread over files by subject, batch by batch,
    so that memory is bounded by a batch and no subject stands in two files.

    Args:
        source: an opened source.
        folder: where spread events may be kept meanwhile.
        shard_events: size aimed at.
    """
    if all(part.ordered for part in source.parts):
        return [
            Shard(i, part.name, part.events, ordered=True, split=part.split, first_row=part.first_row)
            for i, part in enumerate(source.parts)
        ]
    files = spread(source.parts, folder, number_of_shards(source.parts, shard_events))
    splits = {part.split for part in source.parts}
    if len(splits) == 1:
        split = splits.pop()
        return [Shard(i, file.stem, pl.scan_parquet(file), False, split, 1) for i, file in enumerate(files)]
    return [Shard(i, file.stem, pl.scan_parquet(file), False, None, 1) for i, file in enumerate(files)]


def number_of_shards(parts: Sequence[Part], shard_events: int) -> int:
    """Return how many shards to make: rows, counted where they are not known, over the size aimed at."""
    total = 0
    for part in parts:
        rows = part.rows if part.rows is not None else read(part.events.select(pl.len()), part.name).item()
        total += int(rows)
    return max(1, -(-total // shard_events))


def spread(parts: Sequence[Part], folder: Path, shards: int) -> list[Path]:
    """Write events to one file a shard by subject, keeping the order in which they come."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i:05d}.parquet" for i in range(shards)]
    schema = pl.Schema({**EVENTS, "row": pl.Int64(), "reject": pl.String(), "file": pl.String()})
    writers: dict[int, pq.ParquetWriter] = {}
    arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    try:
        for part in parts:
            for batch in batches(part, schema):
                # Multiplied by an odd constant, so that neighbouring ids spread over all shards.
                key = (pl.col("subject_id").fill_null(0) * 0x9E3779B1 // 65_536).abs() % shards
                for (at,), rows in (
                    batch.with_columns(key.alias("shard"))
                    .partition_by("shard", maintain_order=True, as_dict=True, include_key=False)
                    .items()
                ):
                    number = int(str(at))
                    if number not in writers:
                        writers[number] = pq.ParquetWriter(files[number], arrow, compression="lz4")
                    writers[number].write_table(rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow))
    finally:
        for writer in writers.values():
            writer.close()
    return [file for i, file in enumerate(files) if i in writers]


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
        return read(order(shard.events), shard.name)
    events = read(shard.events, shard.name)
    at = first_inversion(events)
    if at is not None:
        row = at + shard.first_row
        raise ValueError(f"{shard.name}: row {row} is not in order of subject and time; sort the file or pass --repair")
    return events


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def die_with_parent() -> None:
    """Ask the kernel to end this worker when its parent ends, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def work(function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int | None = None) -> Iterator[Result]:
    """Yield function(task) in the order of tasks: in a pool of spawned processes, or here where one is enough.

    Each process uses one thread, so that `workers` is what the machine is asked for.

    Raises:
        ValueError: what a task raised; or a worker died, for lack of memory as a rule.
    """
    workers = min(workers or cores(), len(tasks))
    if workers <= 1:
        yield from map(function, tasks)
        return
    held = {name: os.environ.get(name) for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")}
    os.environ.update(dict.fromkeys(held, "1"))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=die_with_parent)
    try:
        # At most two tasks a worker are out at a time, so that results do not pile up.
        futures = [pool.submit(function, task) for task in tasks[: 2 * workers]]
        for i in range(len(tasks)):
            if i + 2 * workers < len(tasks):
                futures.append(pool.submit(function, tasks[i + 2 * workers]))
            yield futures[i].result()
            futures[i] = futures[0]
    except BrokenProcessPool:
        raise ValueError("a worker process died, for lack of memory as a rule; use fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in held.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
