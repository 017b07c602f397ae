"""What a record holds up to a prediction time, as counts, times since last, and last values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from ehr.codes import FUSED, distinct
from ehr.timelines import DAY, STATIC, Timelines, cut
from ehr.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Matrix = Any
"""A sparse matrix of scipy, f32 [N, V] in rows."""
RECENT_DAYS = 365.25
CHUNK_TOKENS = 2_000_000
PLAIN = ("age_years", "history_years", "tokens", "tokens_recent", "visits", "days_since_last")


class Features(NamedTuple):
    """N records, each up to its prediction time.

    Attributes:
        counts: how often each token, or a descendant of it, stands there, f32 [N, V]; value bins are counted as
            their bare codes.
        recent: the same of the last year, f32 [N, V].
        since: 2^(-years since the last time), 0 where it never stood there, f32 [N, V].
        plain: PLAIN, f32 [N, 6].
        values: last value and mean of each code with values, NaN where there is none, f32 [N, 2 L].
    """

    counts: Matrix
    recent: Matrix
    since: Matrix
    plain: Floats
    values: Floats


class Tokens(NamedTuple):
    """Tokens of some records: the record's number, token, microseconds before the prediction time, i64 each."""

    row: Ints
    token: Ints
    before: Ints


def features(
    source: Timelines,
    events: Iterable[pl.LazyFrame],
    subject: Ints,
    time: Ints,
    vocabulary: Vocabulary,
) -> Features:
    """Read records up to their prediction times; nothing after them is seen.

    Args:
        source: timelines.
        events: EVENTS of the cohort, shard by shard.
        subject: i64 [N].
        time: prediction times, microseconds since 1970, i64 [N].
        vocabulary: of the timelines.
    """
    links = vocabulary.ancestor_lists()
    binned = np.array([FUSED.fullmatch(code) is not None for code in vocabulary.codes])
    plain = np.zeros((len(subject), len(PLAIN)), np.float32)
    parts: list[tuple[Matrix, ...]] = []
    begin = 0
    while begin < len(subject):
        end, lists = read(source, subject, time, begin, plain)
        lists = with_ancestors(lists, *links)
        # The bare code is an ancestor of its bins; the value itself stands among the values.
        lists = Tokens(*(part[~binned[lists.token]] for part in lists))
        parts.append(counted(lists, end - begin, vocabulary.size))
        begin = end
    empty = sparse.csr_matrix((0, vocabulary.size), dtype=np.float32)
    counts, recent, since = (sparse.vstack([empty, *matrices], format="csr") for matrices in zip(*parts, strict=True))
    return Features(counts, recent, since, plain, values(events, subject, time, sorted(vocabulary.cuts)))


def read(source: Timelines, subject: Ints, time: Ints, begin: int, plain: Floats) -> tuple[int, Tokens]:
    """Read records from `begin` on until there are many tokens; fill their rows of `plain`.

    Returns:
        The number of the first record not read, and the tokens; a static token is as old as the patient.
    """
    rows: list[int] = []
    tokens: list[npt.NDArray[Any]] = []
    before: list[Ints] = []
    end, total = begin, 0
    while end < len(subject) and total < CHUNK_TOKENS:
        record = source.record(int(subject[end]))
        sample = cut(record, int(time[end]), max_length=len(record.token))
        at = record.time[: len(sample.token)]
        dated = at[at != STATIC]
        age = np.where(at == STATIC, sample.query_age_days * DAY, time[end] - at).astype(np.int64)
        rows.append(len(at))
        tokens.append(sample.token)
        before.append(age)
        if len(dated):
            recent = int((time[end] - dated <= RECENT_DAYS * DAY).sum())
            first, last = time[end] - dated[0], time[end] - dated[-1]
            plain[end, 1:] = (first / DAY / 365.25, len(dated), recent, sample.visit.max(), last / DAY)
        plain[end, 0] = sample.query_age_days / 365.25
        total += len(at)
        end += 1
    row = np.repeat(np.arange(len(rows)), rows)
    return end, Tokens(row, np.concatenate(tokens).astype(np.int64), np.concatenate(before))


def with_ancestors(lists: Tokens, offsets: Ints, ids: Ints) -> Tokens:
    """Add every ancestor of every token, at the token's time."""
    lengths = (offsets[1:] - offsets[:-1])[lists.token]
    source = np.repeat(np.arange(len(lists.token)), lengths)
    within = np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    above = ids[offsets[lists.token[source]] + within]
    return Tokens(
        np.concatenate([lists.row, lists.row[source]]),
        np.concatenate([lists.token, above]),
        np.concatenate([lists.before, lists.before[source]]),
    )


def counted(lists: Tokens, rows: int, size: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return counts, recent counts and 2^(-years since the last time), f32 [rows, size] each."""
    key = lists.row * size + lists.token
    order = np.argsort(key, kind="stable")
    key, before = key[order], lists.before[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    place = key[starts] // size, key[starts] % size
    found = np.zeros((3, len(starts)), np.float32)
    if len(starts):
        found[0] = np.diff(np.append(starts, len(key)))
        found[1] = np.add.reduceat((before <= RECENT_DAYS * DAY).astype(np.float32), starts)
        found[2] = 2.0 ** (-np.minimum.reduceat(before, starts) / (DAY * 365.25))
    counts, recent, since = (sparse.csr_matrix((data, place), shape=(rows, size)) for data in found)
    recent.eliminate_zeros()
    return counts, recent, since


def values(events: Iterable[pl.LazyFrame], subject: Ints, time: Ints, codes: Sequence[str]) -> Floats:
    """Return the last value and the mean of each code at or before the prediction times.

    Args:
        events: EVENTS, shard by shard.
        subject: i64 [N].
        time: prediction times, microseconds since 1970, i64 [N].
        codes: L codes with values.

    Returns:
        f32 [N, 2 L], NaN where there is none.
    """
    found = np.full((len(subject), 2 * len(codes)), np.nan, np.float32)
    asked = pl.Series(np.unique(subject))
    columns = {code: at for at, code in enumerate(codes)}
    for shard in events:
        held = shard.filter(
            pl.col("code").is_in(list(codes))
            & pl.col("numeric_value").is_finite()
            & pl.col("time").is_not_null()
            & pl.col("subject_id").is_in(asked.to_list())
        ).collect()
        if len(held):
            fill(found, held, subject, time, columns)
    return found


def fill(found: Floats, held: pl.DataFrame, subject: Ints, time: Ints, columns: Mapping[str, int]) -> None:
    """Fill in the last value and the mean of one shard's subjects."""
    subjects, moments = held["subject_id"].unique().sort().to_numpy(), held["time"].unique().sort().to_physical()
    stamps, width = moments.to_numpy(), len(moments) + 1
    # Patient and time as one ascending number; a question comes after the events of its own time.
    key = np.searchsorted(subjects, held["subject_id"].to_numpy()) * width + np.searchsorted(
        stamps, held["time"].to_physical().to_numpy()
    )
    rows = np.flatnonzero(np.isin(subject, subjects))
    floor = np.searchsorted(subjects, subject[rows]) * width
    asked = floor + np.searchsorted(stamps, time[rows], side="right")
    names, position = distinct(held["code"])
    value = held["numeric_value"].to_numpy().astype(np.float64)
    for number, name in enumerate(names):
        own = np.flatnonzero(position == number)
        own = own[np.argsort(key[own], kind="stable")]
        first, end = np.searchsorted(key[own], floor), np.searchsorted(key[own], asked)
        total = np.concatenate([[0.0], np.cumsum(value[own])])
        there = end > first
        at, low, high = rows[there], first[there], end[there]
        found[at, 2 * columns[name]] = value[own][high - 1]
        found[at, 2 * columns[name] + 1] = (total[high] - total[low]) / (high - low)
