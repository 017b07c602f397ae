"""Artificial patients: raw events that nobody lived, made from a vocabulary, whose scores a release must give again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from ehr.events import BIRTH, EVENTS, order
from ehr.timelines import DAY, Sample, Shard, Timelines, build, cut
from ehr.vocabulary import MASK, Vocabulary

FIRST_SUBJECT = 1_000_000_000_000
"""Far from ids of patients."""
BIRTHS = (-20_000, 10_000)
"""Days since 1970 between which they are born."""
EVENTS_OF = (1, 3, 10, 40, 120, 400, 800, 5)
"""Events of the first patients, from nearly nothing to more than a model reads; then over again."""


class Query(NamedTuple):
    """Who is asked about, and when (microseconds since 1970)."""

    subject: int
    time: int


def codes_of(vocabulary: Vocabulary) -> tuple[list[str], dict[str, tuple[float, ...]]]:
    """Return codes that a record may hold, and cuts by code where values make tokens."""
    plain = [code for code in vocabulary.codes[MASK + 1 :] if "#q" not in code and "//" in code]
    return plain or ["UNKNOWN//1"], dict(vocabulary.cuts)


def patients(vocabulary: Vocabulary, number: int = len(EVENTS_OF), *, seed: int = 0) -> pl.DataFrame:
    """Return EVENTS of artificial patients in canonical order; the last of them has no birth.

    Args:
        vocabulary: gives codes and the ranges of values.
        number: of patients.
        seed: another seed, other patients.
    """
    draw = np.random.Generator(np.random.Philox(key=seed))
    codes, cuts = codes_of(vocabulary)
    rows: list[tuple[int, int | None, str, float | None]] = []
    for at in range(number):
        subject = FIRST_SUBJECT + at
        born = int(draw.integers(*BIRTHS))
        rows.append((subject, None, "SEX//F" if draw.random() < 0.5 else "SEX//M", None))
        if at < number - 1:
            rows.append((subject, born * DAY, BIRTH, None))
        # Whole minutes, visits of a few events, months apart.
        time = (born + int(draw.integers(0, 30_000))) * DAY
        for _ in range(EVENTS_OF[at % len(EVENTS_OF)]):
            time += int(draw.choice([0, 0, 0, 60_000_000, int(draw.integers(1, 200)) * DAY]))
            code = codes[int(draw.integers(len(codes)))]
            value = None
            if code in cuts and len(cuts[code]):
                low, high = cuts[code][0], cuts[code][-1]
                value = float(np.float32(low + (high - low) * draw.uniform(-0.2, 1.2)))
            rows.append((subject, time, code, value))
    # Types are told: where values are few, none stands in the rows that polars would infer them from.
    kinds = {"subject_id": pl.Int64, "time": pl.Int64, "code": pl.String, "numeric_value": pl.Float64}
    frame = pl.DataFrame(rows, schema=kinds, orient="row")
    frame = frame.with_columns(pl.col("time").cast(pl.Datetime("us")), text_value=pl.lit(None, dtype=pl.String))
    return order(frame.select(pl.col(name).cast(kind) for name, kind in EVENTS.items()).lazy()).collect()


def latest(events: pl.DataFrame) -> list[Query]:
    """Return each patient's last event as a query."""
    last = events.group_by("subject_id").agg(pl.col("time").max()).sort("subject_id")
    last = last.with_columns(pl.col("time").to_physical())
    return [Query(int(subject), int(time)) for subject, time in last.iter_rows()]


def samples(events: pl.DataFrame, vocabulary: Vocabulary, queries: Sequence[Query], max_tokens: int) -> list[Sample]:
    """Return what a model reads of raw events at each query."""
    held = Timelines([Shard(build(events, vocabulary))])
    return [cut(held.record(query.subject), query.time, max_length=max_tokens) for query in queries]
