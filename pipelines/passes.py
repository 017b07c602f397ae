"""The two passes of preparation over one shard each: check and write, then tokenise and label."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.events import write
from ehr.outcomes import exchange
from ehr.outcomes.labels import label
from ehr.outcomes.registry import Registry
from ehr.quality import profile as quality
from ehr.quality import sequences
from ehr.quality.thresholds import Thresholds
from ehr.splits import FRACTIONS, by_hash, halved, listed
from ehr.timelines import Shard as TimelineShard
from ehr.timelines import build
from ehr.timelines import write as write_timelines
from ehr.vocabulary import Settings, Vocabulary, count
from pipelines import shards


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one preparation."""

    fractions: tuple[float, ...] = FRACTIONS
    """Of train, tuning, calibration and held_out, where the source gives no splits."""
    seed: int = 0
    """Of the split."""
    splits: Path | None = None
    """A table of subject_id and split, in place of the source's own splits and of the hash."""
    halve: bool = True
    """Whether half of the tuning patients that a source gives become the calibration split, if it gives none."""
    tokens: Settings = field(default_factory=Settings)
    """How events become tokens."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """What the gates bear."""
    gates: bool = True
    """Whether gates are held; rows that cannot be used are taken out either way."""
    row_level: bool = False
    """Count row by row with Great Expectations over pandas, a second and slower way."""
    data_docs: bool = False
    """Add Great Expectations' own pages of the results."""


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


class LabelTask(NamedTuple):
    """One checked shard to be labelled, and tokenised where there is a vocabulary.

    Attributes:
        number: the shard's place.
        folder: the cohort being built.
        registry: outcomes.
        parents: parent codes by code.
        labels: MEDS labels made elsewhere, which take the place of the registry's rules.
        vocabulary: what to tokenise with; None where the timelines stay as they are.
        thresholds: what the gates bear.
    """

    number: int
    folder: Path
    registry: Registry
    parents: Mapping[str, tuple[str, ...]]
    labels: Path | None = None
    vocabulary: Vocabulary | None = None
    thresholds: Thresholds = Thresholds()


class Labelled(NamedTuple):
    """What is known of the labels of a shard: attrition, counts by outcome, horizon and split, and for the gates."""

    attrition: pl.DataFrame
    prevalence: pl.DataFrame
    counts: dict[str, int]


class Tokenised(NamedTuple):
    """What is known of a shard after the second pass."""

    labelled: Labelled
    sequences: sequences.Sequences


def check(task: CheckTask) -> Checked:
    """First pass: order, reject, count, write one shard of events."""
    shard, plan = task.shard, task.plan
    read = shards.load(shard)
    ranges = plan.thresholds.ranges
    sifted = quality.sift(
        read, name=shard.name, now=task.now, first_row=shard.first_row, ranges=ranges, counted=plan.gates
    )
    events, profile = sifted.events, sifted.profile
    if plan.gates and plan.row_level:
        from ehr.quality import suites

        profile = suites.profile_rows(read, name=shard.name, now=task.now, ranges=ranges)
    write(events, task.folder / "events" / f"{shard.number:05d}.parquet")
    subjects = events["subject_id"].unique(maintain_order=True).to_numpy()
    split = splits_of(shard, plan, subjects)
    training = subjects[split == "train"]
    if len(training) == len(subjects):
        train, others = events, events.clear()
    else:
        rows = np.isin(events["subject_id"].to_numpy(), training, kind="sort")
        train, others = events.filter(pl.Series(rows)), events.filter(pl.Series(~rows))
    return Checked(profile, sifted.rejected, subjects, split, count(train), count(others))


def splits_of(shard: shards.Shard, plan: Plan, subjects: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Return the split of each subject of a shard: as a table or the source gives it, else by hash."""
    if plan.splits is not None:
        given = listed(subjects, plan.splits)
    elif shard.split is not None:
        given = np.full(len(subjects), shard.split)
    else:
        return by_hash(subjects, fractions=plan.fractions, seed=plan.seed)
    return halved(subjects, given, seed=plan.seed) if plan.halve else given


def read(folder: Path, number: int) -> pl.DataFrame:
    """Return the checked events of a shard, codes as categories, which are cheap to compare."""
    events = pl.read_parquet(folder / "events" / f"{number:05d}.parquet")
    return events.with_columns(pl.col("code").cast(pl.Categorical))


def tokenise(task: LabelTask) -> Tokenised:
    """Second pass: tokens and labels of one shard."""
    assert task.vocabulary is not None, "tokenising needs a vocabulary"
    events = read(task.folder, task.number)
    table = build(events, task.vocabulary)
    write_timelines(table, task.folder / "timelines" / f"{task.number:05d}.arrow")
    held = TimelineShard(table)
    labelled = write_labels(task, events)
    seen, unknown = task.vocabulary.count_unknown(events["code"])
    counts = sequences.measure_timelines(
        held.offsets, held.visit, held.time, longest_tokens=task.thresholds.longest_tokens
    )
    made = sequences.Sequences(events=seen, unknown_codes=unknown, **counts, **labelled.counts)
    return Tokenised(labelled, made)


def relabel(task: LabelTask) -> Labelled:
    """Label one shard of a prepared cohort."""
    return write_labels(task, read(task.folder, task.number))


def write_labels(task: LabelTask, events: pl.DataFrame) -> Labelled:
    """Label one shard by the registry, or take the labels made elsewhere; write and count them."""
    if task.labels is None:
        labels, attrition = label(events, task.registry, task.parents)
    else:
        labels = exchange.of_subjects(task.labels, task.registry, events["subject_id"].unique())
        attrition = exchange.attrition(labels, task.registry)
    path = task.folder / "labels" / f"{task.number:05d}.parquet"
    write(labels, path)
    counts = prevalence(labels.lazy(), pl.scan_parquet(task.folder / "splits.parquet"))
    return Labelled(attrition, counts, sequences.measure_labels(labels, events))


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
