"""The two passes of preparation over one shard each: check and write, then tokenise and label."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.codes import match
from ehr.events import write
from ehr.outcomes import exchange
from ehr.outcomes.labels import ATTRITION, label
from ehr.outcomes.registry import Registry
from ehr.quality import profile as quality
from ehr.quality.thresholds import Thresholds
from ehr.splits import FRACTIONS, as_given, by_hash
from ehr.timelines import Shard as TimelineShard
from ehr.timelines import build
from ehr.timelines import write as write_timelines
from ehr.vocabulary import UNK, Settings, Vocabulary, count
from pipelines import shards


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one preparation."""

    fractions: tuple[float, ...] = FRACTIONS
    """Of train, tuning, calibration and held_out, where the source gives no splits."""
    seed: int = 0
    """Of the split."""
    tokens: Settings = field(default_factory=Settings)
    """How events become tokens."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """What the gates bear."""
    gates: bool = True
    """Whether gates are held; rows that cannot be used are taken out either way."""


class CheckTask(NamedTuple):
    """One shard to be checked and written."""

    shard: shards.Shard
    folder: Path
    plan: Plan
    now: int


class Checked(NamedTuple):
    """What is known of a shard after the first pass."""

    profile: pl.DataFrame
    rejected: pl.DataFrame
    subjects: npt.NDArray[np.int64]
    split: npt.NDArray[np.str_]
    train: pl.DataFrame
    others: pl.DataFrame


class TokeniseTask(NamedTuple):
    """One checked shard to be tokenised and labelled."""

    index: int
    folder: Path
    vocabulary: Vocabulary
    registry: Registry
    labels: Path | None


class Tokenised(NamedTuple):
    """What is known of a shard after the second pass."""

    attrition: pl.DataFrame
    prevalence: pl.DataFrame
    events: int
    unknown: int
    empty: int
    tokens: int
    labelled: int
    early: int


def check(task: CheckTask) -> Checked:
    """First pass: order, reject, count, write one shard of events."""
    shard, plan = task.shard, task.plan
    sifted = quality.sift(shards.load(shard), name=shard.name, now=task.now, first_row=shard.first_row)
    events = sifted.events
    write(events, task.folder / "events" / f"{shard.index:05d}.parquet")
    subjects = events["subject_id"].unique(maintain_order=True).to_numpy()
    if shard.split is None:
        split = by_hash(subjects, fractions=plan.fractions, seed=plan.seed)
    else:
        split = as_given(subjects, shard.split, seed=plan.seed)
    training = subjects[split == "train"]
    if len(training) == len(subjects):
        train, others = events, events.clear()
    else:
        rows = np.isin(events["subject_id"].to_numpy(), training, kind="sort")
        train, others = events.filter(pl.Series(rows)), events.filter(pl.Series(~rows))
    return Checked(sifted.profile, sifted.rejected, subjects, split, count(train), count(others))


def tokenise(task: TokeniseTask) -> Tokenised:
    """Second pass: tokens and labels of one shard."""
    name = f"{task.index:05d}"
    events = pl.read_parquet(task.folder / "events" / f"{name}.parquet")
    table = build(events, task.vocabulary)
    write_timelines(table, task.folder / "timelines" / f"{name}.arrow")
    if task.labels is None:
        labels, attrition = label(events, task.registry)
    else:
        labels = exchange.of_subjects(task.labels, task.registry, events["subject_id"].unique())
        attrition = pl.DataFrame(schema=ATTRITION)
    labels.write_parquet(task.folder / "labels" / f"{name}.parquet", compression="zstd", compression_level=1)
    timelines = TimelineShard(table)
    seen, unknown = unknown_codes(events, task.vocabulary)
    lengths = np.diff(timelines.offsets)
    splits = pl.scan_parquet(task.folder / "splits.parquet")
    first = events.lazy().filter(pl.col("time").is_not_null()).group_by("subject_id").agg(pl.col("time").min())
    samples = labels.lazy().select("subject_id", "prediction_time").unique().join(first, on="subject_id", how="left")
    early = samples.filter(pl.col("time").is_null() | (pl.col("time") > pl.col("prediction_time"))).collect()
    return Tokenised(
        attrition,
        prevalence(labels.lazy(), splits),
        seen,
        unknown,
        int((lengths == 0).sum()),
        int(lengths.sum()),
        labels.select("subject_id", "prediction_time").n_unique() if len(labels) else 0,
        len(early),
    )


def unknown_codes(events: pl.DataFrame, vocabulary: Vocabulary) -> tuple[int, int]:
    """Return events that may become input, and those of them whose code has no token nor known ancestor."""
    counts = events.group_by("code").len()
    names = counts["code"].to_list()
    input_codes = ~np.array(match(names, vocabulary.settings.exclude), dtype=bool)
    unknown = np.array([vocabulary.nearest(name) == UNK for name in names], dtype=bool)
    rows = counts["len"].to_numpy()
    return int(rows[input_codes].sum()), int(rows[input_codes & unknown].sum())


def prevalence(labels: pl.LazyFrame, splits: pl.LazyFrame) -> pl.DataFrame:
    """Count labels by outcome, horizon and split."""
    value = pl.col("boolean_value")
    return (
        labels.join(splits, on="subject_id")
        .group_by("outcome", "horizon_days", "split")
        .agg(
            pl.len().cast(pl.Int64).alias("count"),
            value.sum().cast(pl.Int64).alias("positives"),
            value.null_count().cast(pl.Int64).alias("censored"),
        )
        .collect()
    )


class RelabelTask(NamedTuple):
    """One shard of a prepared cohort to be labelled anew."""

    index: int
    folder: Path
    registry: Registry


def relabel(task: RelabelTask) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Label one shard of a prepared cohort; return its attrition and prevalence."""
    name = f"{task.index:05d}"
    labels, attrition = label(pl.read_parquet(task.folder / "events" / f"{name}.parquet"), task.registry)
    labels.write_parquet(task.folder / "labels" / f"{name}.parquet", compression="zstd", compression_level=1)
    return attrition, prevalence(labels.lazy(), pl.scan_parquet(task.folder / "splits.parquet"))
