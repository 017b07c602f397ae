"""Denoising noise: which visits are asked for, which codes are hidden.  NumPy only.

All noise of a sample hangs on (seed, epoch, subject, cut) alone, so any number of workers draws the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.batches import Array, Arrays, Batch, collate, generator, packed, row_width
from ehr.codes import match
from ehr.timelines import Sample
from ehr.vocabulary import MASK, Vocabulary

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """What pretraining asks for and hides."""

    targets: int = 4
    """Visits asked for in a sample, at most."""
    last: float = 0.5
    """Probability that the last visit is among them; else they are a span or scattered, evenly."""
    code_rate: float = 0.15
    """Share of the other codes replaced by [MASK]."""
    repeat_weight: float = 0.2
    """Weight of a target whose code or category the history already holds; new ones weigh 1."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.targets < 1:
            raise ValueError(f"corruption.targets is {self.targets}; expected 1 or more")
        for name in ("last", "code_rate", "repeat_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"corruption.{name} is {getattr(self, name)}; expected 0 to 1")


class Facts(NamedTuple):
    """What the noise needs to know of each token id.

    Attributes:
        family: id of the category that a token belongs to, itself where it has none, i64 [V].
        visit_type: whether the token opens an encounter, bool [V].
    """

    family: Ints
    visit_type: Bools


class Later(NamedTuple, Generic[Array]):
    """Q moments a row at which it is asked when each code comes next, if it does before the record ends.

    Attributes:
        age_days: f32 [R, Q], age at the moment, between the last token that is read and the next visit.
        segment: i32 [R, Q], 0 = padding.
        before: i32 [R, Q]; visits before this one are read.
        censor_days: f32 [R, Q], from there to the end of the record.
        query: i64 [M], positions in the flattened R x Q, ascending.
        event: i64 [M], token ids.
        days: f32 [M], from the moment to the event.
    """

    age_days: Array
    segment: Array
    before: Array
    censor_days: Array
    query: Array
    event: Array
    days: Array


class Denoising(NamedTuple, Generic[Array]):
    """A packed batch with Q queries a row, each for the set of codes of one visit.

    Attributes:
        source: the record with its codes and visits hidden.
        query_age_days: f32 [R, Q], age at the visit asked for.
        query_segment: i32 [R, Q], 0 = padding.
        query_visit: i32 [R, Q]; the query reads visits before this one.
        query_type: i64 [R, Q], token of the visit's type, 0 = not known.
        target_query: i64 [N], positions in the flattened R x Q, ascending.
        target: i64 [N], token ids.
        weight: f32 [N].
        later: what comes when, where that is asked.
    """

    source: Batch[Array]
    query_age_days: Array
    query_segment: Array
    query_visit: Array
    query_type: Array
    target_query: Array
    target: Array
    weight: Array
    later: Later[Array] | None = None


class Awaited(NamedTuple):
    """The moments of one sample, and what comes after each as triples (see Later)."""

    before: npt.NDArray[np.int32]
    age_days: npt.NDArray[np.float32]
    censor_days: npt.NDArray[np.float32]
    query: Ints
    event: Ints
    days: npt.NDArray[np.float32]


class Asked(NamedTuple):
    """The queries of one sample and their target sets as triples; and what is awaited, where that is asked."""

    visit: npt.NDArray[np.int32]
    age_days: npt.NDArray[np.float32]
    type: Ints
    query: Ints
    target: Ints
    weight: npt.NDArray[np.float32]
    awaited: Awaited | None = None


def facts(vocabulary: Vocabulary) -> Facts:
    """Derive families and visit types from a vocabulary.

    A value token's family is its bare code, an ICD code's its three-character category (not the chapter), any
    other code's its nearest ancestor.
    """
    family = np.arange(vocabulary.size, dtype=np.int64)
    for at, (code, chain) in enumerate(zip(vocabulary.codes, vocabulary.ancestors, strict=True)):
        if len(chain) > 1 or not code.startswith("ICD"):
            family[at] = next(iter(chain), at)
    visit_type = np.array(match(vocabulary.codes, ("VISIT//*//START",)), dtype=bool)
    return Facts(family, visit_type)


def corrupt(
    sample: Sample,
    settings: Corruption,
    known: Facts,
    *,
    seed: int,
    epoch: int,
    one_way: bool,
    ahead: bool = False,
) -> tuple[Sample, Asked]:
    """Hide codes of a sample and choose the visits to ask for.

    Where tokens see only their own and earlier visits (`one_way`), no query can reach the visit it asks for, and
    the visit stays for the queries of later ones; what no query reads, from the latest visit asked for on, is left
    out. Else each visit asked for becomes a single [MASK], so that the number of masks tells nothing of its size.

    Args:
        sample: statics (visit 0) first, then visits in order.
        settings: how much.
        known: facts of the vocabulary.
        seed: of the run.
        epoch: number of the pass.
        one_way: whether attention is visit-causal.
        ahead: ask when each code comes too; only where attention is visit-causal is what comes hidden.

    Returns:
        The sample as the model reads it, and what is asked.
    """
    draw = generator(seed, epoch, sample.subject, sample.prediction_time)
    starts = np.flatnonzero(np.diff(sample.visit, prepend=0) != 0)
    ends = np.append(starts[1:], len(sample.visit))
    chosen = choose(len(starts), settings, draw)
    chances = draw.random(len(sample.token))
    asked = ask(sample, starts[chosen], ends[chosen], settings, known)
    if ahead:
        asked = asked._replace(awaited=await_events(sample, starts[chosen], draw.random(len(chosen))))

    token = sample.token.copy()
    keep = np.ones(len(token), dtype=bool)
    free = sample.visit > 0
    if not one_way:
        for begin, end in zip(starts[chosen], ends[chosen], strict=True):
            token[begin], free[begin:end] = MASK, False
            keep[begin + 1 : end] = False
    elif len(chosen):
        # One token stays, so that the sample keeps its place among the segments of its row.
        keep[max(1, starts[chosen[-1]]) :] = False
    token[free & (chances < settings.code_rate)] = MASK
    noised = sample._replace(
        token=token[keep],
        visit=sample.visit[keep],
        age_days=sample.age_days[keep],
    )
    return noised, asked


def choose(visits: int, settings: Corruption, draw: np.random.Generator) -> Ints:
    """Choose visits to ask for, ascending positions: the last and others, scattered ones, or a span."""
    count = min(settings.targets, visits)
    if not count:
        return np.zeros(0, dtype=np.int64)
    mode = draw.random()
    if mode < settings.last:
        others = draw.choice(visits - 1, count - 1, replace=False) if count > 1 else np.zeros(0, dtype=np.int64)
        return np.sort(np.append(others, visits - 1)).astype(np.int64)
    if mode < settings.last + (1 - settings.last) / 2:
        return np.sort(draw.choice(visits, count, replace=False)).astype(np.int64)
    return np.arange(count, dtype=np.int64) + draw.integers(visits - count + 1)


def ask(sample: Sample, starts: Ints, ends: Ints, settings: Corruption, known: Facts) -> Asked:
    """Collect the set of codes of each chosen visit; visits without a code to ask for are left out."""
    family = known.family[sample.token]
    _, first, inverse = np.unique(family, return_index=True, return_inverse=True)
    first_seen = first[inverse]
    visits: list[int] = []
    ages: list[float] = []
    types: list[int] = []
    query: list[Ints] = []
    target: list[Ints] = []
    repeated: list[Bools] = []
    for begin, end in zip(starts, ends, strict=True):
        token = sample.token[begin:end].astype(np.int64)
        opens = known.visit_type[token]
        codes, at = np.unique(token, return_index=True)
        wanted = (codes > MASK) & ~opens[at]
        if not wanted.any():
            continue
        query.append(np.full(int(wanted.sum()), len(visits), dtype=np.int64))
        target.append(codes[wanted])
        repeated.append(first_seen[begin:end][at[wanted]] < begin)
        visits.append(int(sample.visit[begin]))
        ages.append(float(sample.age_days[begin]))
        types.append(int(token[opens][0]) if opens.any() else 0)
    empty = np.zeros(0, dtype=np.int64)
    weight = np.where(np.concatenate([*repeated, empty.astype(bool)]), settings.repeat_weight, 1.0)
    return Asked(
        np.array(visits, dtype=np.int32),
        np.array(ages, dtype=np.float32),
        np.array(types, dtype=np.int64),
        np.concatenate([*query, empty]),
        np.concatenate([*target, empty]),
        weight.astype(np.float32),
    )


def await_events(sample: Sample, starts: Ints, part: npt.NDArray[np.float64]) -> Awaited:
    """Collect, for a moment before each chosen visit, the days to the next time of each code to come.

    Args:
        sample: the whole of it.
        starts: where the chosen visits begin, i64 [N].
        part: of the time since the visit before that has passed at the moment, 0 to 1, f64 [N]: outcomes are asked
            between visits too, and that nothing has come for long tells something.
    """
    dated = [at for at, begin in enumerate(starts.tolist()) if begin and sample.visit[begin - 1] > 0]
    begins = starts[dated]
    since, until = (sample.age_days[at].astype(np.float64) for at in (begins - 1, begins))
    age = (since + part[dated] * (until - since)).astype(np.float32)
    found: list[tuple[Ints, npt.NDArray[np.float32]]] = []
    for begin, now in zip(begins.tolist(), age, strict=True):
        # Ages ascend: the first of equal codes is the next.
        event, first = np.unique(sample.token[begin:].astype(np.int64), return_index=True)
        days = np.maximum(sample.age_days[begin:][first] - now, 0)
        found.append((event[event > MASK], days[event > MASK]))
    return Awaited(
        sample.visit[begins].astype(np.int32),
        age,
        (sample.age_days[-1] - age).astype(np.float32) if len(age) else age,
        np.repeat(np.arange(len(age)), [len(event) for event, _ in found]).astype(np.int64),
        np.concatenate([*(event for event, _ in found), np.zeros(0, np.int64)]),
        np.concatenate([*(days for _, days in found), np.zeros(0, np.float32)]).astype(np.float32),
    )


def collate_later(rows: Sequence[Sequence[tuple[Sample, Asked]]]) -> Later[npt.NDArray[Any]] | None:
    """Put what rows of samples await into one batch; None where nothing is asked."""
    held = [[asked.awaited for _, asked in row] for row in rows]
    if not any(awaited is not None for row in held for awaited in row):
        return None
    found = [[awaited for awaited in row if awaited is not None] for row in held]
    width = max(1, *(sum(len(awaited.before) for awaited in row) for row in found))
    age, censor = (np.zeros((len(rows), width), dtype=np.float32) for _ in range(2))
    segment, before = (np.zeros((len(rows), width), dtype=np.int32) for _ in range(2))
    queries = [np.zeros(0, dtype=np.int64)]
    for at, row in enumerate(found):
        begin = 0
        for number, awaited in enumerate(row, start=1):
            place = slice(begin, begin + len(awaited.before))
            age[at, place], censor[at, place] = awaited.age_days, awaited.censor_days
            segment[at, place], before[at, place] = number, awaited.before
            queries.append(awaited.query + (at * width + begin))
            begin += len(awaited.before)
    every = [awaited for row in found for awaited in row]
    event, days = (np.concatenate([getattr(one, name) for one in every]) for name in ("event", "days"))
    return Later(age, segment, before, censor, np.concatenate(queries), event, days)


def tightened(
    rows: Sequence[Sequence[tuple[Sample, Asked]]],
) -> tuple[list[list[tuple[Sample, Asked]]], int]:
    """Pack samples that were cut shorter into fewer rows, and return rows and their width.

    Args:
        rows: what `corrupt` returned, by row.
    """
    parts = [part for row in rows for part in row]
    lengths = np.array([len(sample.token) for sample, _ in parts], dtype=np.int64)
    width = row_width(int(lengths.max(initial=1)))
    return [[parts[at] for at in row] for _, row in packed(np.arange(len(parts)), lengths, width)], width


def denoising(rows: Sequence[Sequence[tuple[Sample, Asked]]], width: int) -> Denoising[npt.NDArray[Any]]:
    """Put rows of corrupted samples and their queries into one batch.

    Args:
        rows: by row, what `corrupt` returned; a row's tokens are at most `width`.
        width: T.
    """
    source: Arrays = collate([[sample for sample, _ in row] for row in rows], width)
    counts = [sum(len(asked.visit) for _, asked in row) for row in rows]
    shape = (len(source.token), max([*counts, 1]))
    age, kind = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.int64)
    segment, visit = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    queries = [np.zeros(0, dtype=np.int64)]
    for at, row in enumerate(rows):
        begin = 0
        for number, (_, asked) in enumerate(row, start=1):
            place = slice(begin, begin + len(asked.visit))
            age[at, place], visit[at, place] = asked.age_days, asked.visit
            segment[at, place], kind[at, place] = number, asked.type
            queries.append(asked.query + (at * shape[1] + begin))
            begin += len(asked.visit)
    every = [asked for row in rows for _, asked in row]
    target = np.concatenate([asked.target for asked in every] or [queries[0]])
    weight = np.concatenate([asked.weight for asked in every] or [np.zeros(0, np.float32)])
    asked = np.concatenate(queries)
    return Denoising(source, age, segment, visit, kind, asked, target, weight, collate_later(rows))
