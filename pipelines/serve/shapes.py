"""Rows of one call: the fixed shape of scoring, and smaller ones that give the same bits on this machine."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ehr.batches import BUCKETS, bucket
from ehr.vocabulary import MASK
from pipelines.release import POSITIONS, Release

MIXING = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""Operators whose result for a row hangs on the other rows of the call."""
SEED = 7
CALL_POSITIONS = 1024
"""Positions of one call, at most, where rows can be divided. What a layer hands to the next then stays in a core's own
cache, and a large request is shared by all workers; fewer would cost more calls. `python -m
tests.benchmarks.scale.positions` measures it."""


def full(length: int) -> int:
    """Return the rows of one call of `anamnesis score` at this length."""
    return max(1, POSITIONS // length)


def mixes(release: Release) -> bool:
    """Tell whether a sample's score hangs on its company: then no two requests share a call."""
    return bool(MIXING & set(release.manifest.get("operators", ())))


def proven(release: Release, longest: int) -> dict[int, tuple[int, ...]]:
    """Return the rows that calls may have, by length, ascending; the last is that of scoring.

    A call of few rows is cheaper than a full one, but kernels choose their path by shape. So each power of two is
    tried on random samples, and kept where every row comes out as it does in the full call, to the last bit.

    Args:
        release: opened.
        longest: tokens of a sample, at most.
    """
    widths = [length for length in BUCKETS if length < bucket(longest)] + [bucket(longest)]
    return {length: proven_rows(release, length) for length in widths}


def proven_rows(release: Release, length: int) -> tuple[int, ...]:
    """Return the rows that calls of one length may have."""
    rows = full(length)
    smaller = [2**power for power in range(rows.bit_length()) if 2**power < rows]
    if mixes(release):
        return (*smaller, rows)
    call = random_call(release, rows, length)
    expected = release.session.run(*call)

    def same(count: int) -> bool:
        found = release.session.run(*(part[:count] for part in call))
        return all(np.array_equal(a, b[:count]) for a, b in zip(found, expected, strict=True))

    return (*(count for count in smaller if same(count)), rows)


def most(allowed: Sequence[int], length: int, *, together: bool) -> int:
    """Return the rows of one call, at most.

    Args:
        allowed: rows that calls of this length may have, ascending.
        length: tokens of a row.
        together: rows do not hang on each other, so that those of one request can be divided too.
    """
    if not together:
        return allowed[-1]
    return next((rows for rows in reversed(allowed) if rows * length <= CALL_POSITIONS), allowed[0])


def random_call(release: Release, rows: int, length: int) -> tuple[npt.NDArray[Any], ...]:
    """Return token, visit, age_days [rows, length] and query_age_days [rows] of samples of every length."""
    draw = np.random.Generator(np.random.Philox(key=SEED))
    token = draw.integers(MASK + 1, len(release.vocabulary.codes), (rows, length), dtype=np.int64)
    lengths = draw.integers(1, length + 1, rows)
    lengths[:: max(1, rows // 4)] = length
    absent = np.arange(length) >= lengths[:, None]
    visit = np.sort(draw.integers(1, 40, (rows, length), dtype=np.int32), axis=1)
    age_days = np.sort(draw.uniform(0, 30_000, (rows, length)).astype(np.float32), axis=1)
    for part in (token, visit, age_days):
        part[absent] = 0
    return token, visit, age_days, (age_days.max(axis=1) + 1).astype(np.float32)


def rows_for(allowed: Mapping[int, tuple[int, ...]], length: int, rows: int) -> int:
    """Return the least rows of a call that hold these."""
    return next(count for count in allowed[length] if count >= rows)
