"""Labelled samples of a cohort: who is asked when, and what came after, as arrays.  No torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.outcomes.registry import Registry
from ehr.timelines import STATIC, Record, Sample, Timelines, cut
from pipelines.cohort import Cohort, labels, timelines

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Questions(NamedTuple):
    """N prediction times with their labels, sorted by subject and time.

    Attributes:
        subject: i64 [N].
        time: microseconds since 1970, i64 [N].
        label: 0, 1, or NaN where censored, excluded or without such a horizon, f32 [N, K, H].
    """

    subject: Ints
    time: Ints
    label: Floats


class Group(NamedTuple):
    """A patient's record up to a time, read once, and the questions it answers.

    Attributes:
        subject: whose.
        time: of the latest question, microseconds since 1970.
        length: tokens read.
        questions: positions in Questions.
        age_days: age at each question, f32.
        before: the first visit that lies after each question, i32.
    """

    subject: int
    time: int
    length: int
    questions: Ints
    age_days: Floats
    before: npt.NDArray[np.int32]


def questions(frame: pl.DataFrame, registry: Registry) -> Questions:
    """Turn LABELS into arrays.

    Args:
        frame: LABELS.
        registry: gives the axes K and H.
    """
    keys = frame.select("subject_id", "prediction_time").unique().sort("subject_id", "prediction_time")
    placed = keys.with_row_index("at")
    horizons = registry.horizons
    slots = pl.DataFrame(
        [(name, int(days), k, h) for k, name in enumerate(registry.names) for h, days in enumerate(horizons[k])],
        schema={"outcome": pl.String, "horizon_days": pl.Int32, "k": pl.Int64, "h": pl.Int64},
        orient="row",
    ).filter(pl.col("horizon_days") >= 0)
    held = frame.filter(pl.col("boolean_value").is_not_null())
    held = held.join(placed, on=["subject_id", "prediction_time"]).join(slots, on=["outcome", "horizon_days"])
    label = np.full((len(keys), *horizons.shape), np.nan, dtype=np.float32)
    place = tuple(held[name].to_numpy() for name in ("at", "k", "h"))
    label[place] = held["boolean_value"].cast(pl.Float32).to_numpy()
    return Questions(keys["subject_id"].to_numpy(), keys["prediction_time"].to_physical().to_numpy(), label)


def questions_of(cohort: Cohort, split: str) -> Questions:
    """Return the questions of a split.

    Raises:
        ValueError: there is no such split, or it has no labels.
    """
    found = questions(labels(cohort, split), cohort.registry)
    if not len(found.subject):
        raise ValueError(f"{cohort.path}: split {split} has no labels; prepare the cohort with --outcomes")
    return found


def samples_of(source: Timelines, asked: Questions, max_length: int) -> list[Sample]:
    """Return one sample a question, in the order of questions."""
    pairs = zip(asked.subject.tolist(), asked.time.tolist(), strict=True)
    return [cut(source.record(subject), time, max_length=max_length) for subject, time in pairs]


def samples_and_labels(cohort: Cohort, split: str, max_length: int) -> tuple[Questions, list[Sample]]:
    """Return the questions of a split and their samples."""
    asked = questions_of(cohort, split)
    return asked, samples_of(timelines(cohort), asked, max_length)


def groups(source: Timelines, asked: Questions, max_length: int, *, share: bool) -> list[Group]:
    """Gather questions that one reading of a patient answers.

    With visit-causal attention a token never sees a later visit, so questions asked between visits read from one
    pass over the record just what they would read alone. A question joins where its history ends with a visit, and
    where the window of the latest question keeps all of it, or at least half of `max_length`. Questions without any
    token before them are left out: there is nothing to learn from.

    Args:
        source: timelines.
        asked: questions, sorted by subject and time.
        max_length: tokens of a sample, at most.
        share: whether to gather; else each question has a sample of its own.
    """
    found: list[Group] = []
    starts = np.flatnonzero(np.diff(asked.subject, prepend=asked.subject[:1] - 1) != 0)
    for begin, end in zip(starts, [*starts[1:], len(asked.subject)], strict=True):
        record = source.record(int(asked.subject[begin]))
        times = asked.time[begin:end]
        ends = np.searchsorted(record.time, times, side="right")
        there = np.flatnonzero(ends > 0)
        for members in gathered(record, ends, there, max_length) if share else [[at] for at in there]:
            latest = cut(record, int(times[members[-1]]), max_length=max_length)
            ages = latest.query_age_days + (times[members] - times[members[-1]]) / 86_400_000_000
            before = record.visit[ends[members] - 1] + 1
            found.append(
                Group(
                    record.subject,
                    latest.prediction_time,
                    len(latest.token),
                    np.array(members) + begin,
                    ages.astype(np.float32),
                    before.astype(np.int32),
                )
            )
    return found


def gathered(record: Record, ends: Ints, there: Ints, max_length: int) -> list[list[int]]:
    """Divide a patient's questions (with `ends` tokens before each) into those that share a reading."""
    total = len(record.token)
    statics = int(np.searchsorted(record.time, STATIC, side="right"))
    parts: list[list[int]] = []
    first = 0
    for at in there[::-1].tolist():
        after = ends[at]
        between = after == total or record.visit[after] != record.visit[after - 1]
        whole = first <= statics or after - first >= max_length // 2
        if parts and between and whole:
            parts[-1].insert(0, at)
        else:
            parts.append([at])
            # The window of this latest question: statics, then the tokens from here on.
            first = max(statics, int(after) - (max_length - min(statics, max_length)))
    return parts


def counts(asked: Questions) -> tuple[Ints, Ints]:
    """Return labels and positives by outcome and horizon, both i64 [K, H]."""
    return (~np.isnan(asked.label)).sum(0), (asked.label == 1).sum(0)


def without_positives(asked: Questions, names: Sequence[str]) -> list[str]:
    """Return the outcomes that have no positive label."""
    _, positives = counts(asked)
    return [name for name, row in zip(names, positives, strict=True) if not row.any()]
