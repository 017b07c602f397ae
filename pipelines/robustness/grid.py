"""Passes of EHR-C: records corrupted, read and answered, one corruption at a time; only what changed is asked again."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ehr.events import EVENTS
from ehr.shifts.catalogue import SEVERITIES, corrupt
from ehr.shifts.codebook import Codebook
from ehr.shifts.frame import KEYS
from ehr.timelines import Sample, Shard, Timelines, assemble, build, cut
from ehr.vocabulary import Vocabulary
from pipelines.answering import Model, open_model
from pipelines.robustness.reference import Reference

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
CHUNK = 4096


class Grid(NamedTuple):
    """What every pass shares.

    Attributes:
        model: a run or release.
        frame: file of FRAME, the clean records.
        questions: subject_id and prediction_time of the N samples, sorted.
        book: codes of the training split.
        reference: plain model that answers beside, None where there is none.
        severities: asked for.
        seed: of the benchmark.
    """

    model: Path
    frame: Path
    questions: pl.DataFrame
    book: Codebook
    reference: Reference | None
    severities: tuple[int, ...] = SEVERITIES
    seed: int = 0


class Pass(NamedTuple):
    """Answers to corrupted records.

    Attributes:
        logit: of the model, f32 [N, K, H].
        reference: of the reference in the cohort's axes, f32 [N, K, H]; empty where there is none.
        asked: samples that the model was asked about; the others were as in an earlier pass.
    """

    logit: Floats
    reference: Floats
    asked: int


class Task(NamedTuple):
    """One corruption at all severities; "" is the clean records."""

    grid: Grid
    name: str


@lru_cache(maxsize=1)
def opened(path: Path) -> Model:
    """Open a model once a process."""
    return open_model(path)


def run(task: Task) -> list[Pass]:
    """Return a pass for each severity of one corruption; of the clean records one."""
    import torch

    torch.set_num_threads(1)
    grid = task.grid
    model = opened(grid.model)
    frame = pl.scan_parquet(grid.frame)
    known: dict[bytes, Floats] = {}
    found: list[Pass] = []
    clean = answered(grid, model, corrupt(frame, "code_dropout", 0, seed=0, book=grid.book).collect(), known)
    if not task.name:
        return [clean]
    for severity in grid.severities:
        made = corrupt(frame, task.name, severity, seed=grid.seed, book=grid.book).collect()
        found.append(answered(grid, model, made, known))
    return found


def answered(grid: Grid, model: Model, frame: pl.DataFrame, known: dict[bytes, Floats]) -> Pass:
    """Read records and answer them; what was read before is not asked again."""
    time = grid.questions["prediction_time"].to_physical().to_numpy()
    numbered = by_number(frame, grid.questions)
    source = timelines(numbered, model.vocabulary, len(time))
    samples = samples_of(source, time, model.max_length)
    logit, asked = logits(model, samples, known)
    number = np.arange(len(time), dtype=np.int64)
    if grid.reference is None:
        return Pass(logit, np.zeros((0, 0, 0), np.float32), asked)
    return Pass(logit, grid.reference.logit(source, numbered.lazy(), number, time), asked)


def by_number(frame: pl.DataFrame, index: pl.DataFrame) -> pl.DataFrame:
    """Return EVENTS of which the number of the sample is the subject: a patient asked twice has two records."""
    number = index.select(*KEYS).with_row_index("number")
    joined = frame.join(number, on=KEYS, how="inner", maintain_order="left")
    named = joined.with_columns(
        pl.col("number").cast(pl.Int64).alias("subject_id"), pl.col("code").cast(pl.Categorical)
    )
    return named.select(EVENTS.names())


def timelines(frame: pl.DataFrame, vocabulary: Vocabulary, count: int) -> Timelines:
    """Return timelines of the samples 0 to count - 1; of those that lost all their events, empty ones."""
    there = frame["subject_id"].unique().to_numpy()
    gone = np.setdiff1d(np.arange(count, dtype=np.int64), there)
    nothing = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    empty = assemble(gone, pa.nulls(len(gone), pa.int64()), np.zeros(0, np.int64), nothing)
    return Timelines([Shard(build(frame, vocabulary)), Shard(empty)])


def samples_of(source: Timelines, time: Ints, max_length: int) -> list[Sample]:
    """Return the samples in the order of their numbers."""
    return [cut(source.record(number), at, max_length=max_length) for number, at in enumerate(time.tolist())]


def logits(model: Model, samples: Sequence[Sample], known: dict[bytes, Floats]) -> tuple[Floats, int]:
    """Return logits f32 [N, K, H] and how many samples were asked about; `known` takes what is learnt."""
    names = [digest(sample) for sample in samples]
    fresh = {name: at for at, name in enumerate(names) if name not in known}
    order = sorted(fresh.values(), key=lambda at: len(samples[at].token))
    for begin in range(0, len(order), CHUNK):
        part = order[begin : begin + CHUNK]
        for at, row in zip(part, model.logits([samples[at] for at in part]), strict=True):
            known[names[at]] = row
    return np.stack([known[name] for name in names]), len(order)


def digest(sample: Sample) -> bytes:
    """Return what tells a sample from others that a model would answer otherwise."""
    parts = (sample.token, sample.visit, sample.age_days, np.float64(sample.query_age_days))
    return hashlib.blake2b(b"|".join(part.tobytes() for part in parts), digest_size=16).digest()
