"""Samples to batches: rows packed to a token budget, as wide as each batch needs.  NumPy only.

Attention costs the square of a row's width, so short samples get narrow rows and long ones wide rows, whose gaps
short ones fill. A plan hangs on lengths, seed and epoch alone: any batch of it can be made by anyone, anywhere.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ehr.timelines import Sample

WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
BUCKETS = (64, 128, 256, 512, 1024, 2048)
Array = TypeVar("Array")
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Batch(NamedTuple, Generic[Array]):
    """R packed rows of T positions that hold B samples; NumPy arrays or tensors.

    Attributes:
        token: i64 [R, T], 0 = padding.
        segment: i32 [R, T], 0 = padding, 1.. = sample in that row.
        visit: i32 [R, T], 0 = statics and padding.
        age_days: f32 [R, T].
        subject: i64 [B], in row-major order of segments.
        prediction_time: i64 [B], microseconds since 1970.
        query_age_days: f32 [B], age at the prediction time.
    """

    token: Array
    segment: Array
    visit: Array
    age_days: Array
    subject: Array
    prediction_time: Array
    query_age_days: Array


Arrays = Batch[npt.NDArray[Any]]


class Layout(NamedTuple):
    """What one batch holds: the width of its rows, and positions of samples by row."""

    width: int
    rows: tuple[tuple[int, ...], ...]

    def part(self, rank: int, world: int) -> "Layout":
        """Return every `world`-th row, from `rank` on: the parts of all ranks make the whole batch."""
        return Layout(self.width, self.rows[rank::world])

    @property
    def order(self) -> tuple[int, ...]:
        """Positions of samples in the order of B."""
        return tuple(at for row in self.rows for at in row)


def generator(seed: int, epoch: int, *words: int) -> np.random.Generator:
    """Return noise that hangs on its arguments alone, whoever draws it (Philox; at most two further words)."""
    counter = [0, epoch, *(word % 2**64 for word in words)]
    counter += [0] * (4 - len(counter))
    return np.random.Generator(np.random.Philox(key=seed, counter=np.array(counter, dtype=np.uint64)))


def bucket(length: int) -> int:
    """Return the width for scoring a sample of this many tokens: 64, 128, 256, ..."""
    return next((width for width in BUCKETS if width >= length), 1 << (int(length) - 1).bit_length())


def row_width(length: int) -> int:
    """Return the width of a row whose longest sample has this many tokens."""
    return next((width for width in WIDTHS if width >= length), -(-length // 512) * 512)


def plan(lengths: Ints, *, tokens: int, buffer: int = 4096, seed: int = 0, epoch: int = 0) -> Iterator[Layout]:
    """Yield the batches of one epoch; each sample stands in exactly one.

    Samples are shuffled, then packed buffer by buffer, first-fit decreasing; the batches of a buffer are shuffled.

    Args:
        lengths: tokens by sample, i64 [N].
        tokens: positions in a batch, at most (at least one row is given).
        buffer: samples packed together; more means less padding, fewer means more chance in a batch.
        seed: of the shuffle.
        epoch: number of the pass over the samples.
    """
    draw = generator(seed, epoch)
    order = draw.permutation(len(lengths))
    open_rows: dict[int, list[tuple[int, ...]]] = {}
    for begin in range(0, len(order), buffer):
        ready: list[Layout] = []
        for width, row in packed(order[begin : begin + buffer], lengths):
            rows = open_rows.setdefault(width, [])
            rows.append(row)
            if len(rows) == max(1, tokens // width):
                ready.append(Layout(width, tuple(open_rows.pop(width))))
        if begin + buffer >= len(order):
            ready += closing(open_rows, tokens)
        for at in draw.permutation(len(ready)):
            yield ready[at]


def closing(open_rows: dict[int, list[tuple[int, ...]]], tokens: int) -> list[Layout]:
    """Return the last, unfilled batches of an epoch: rows of near widths join up to the budget."""
    ready: list[Layout] = []
    rows: list[tuple[int, ...]] = []
    widest = 0
    for width in sorted(open_rows, reverse=True):
        for row in open_rows[width]:
            if rows and ((len(rows) + 1) * widest > tokens or width * 2 <= widest):
                ready.append(Layout(widest, tuple(rows)))
                rows, widest = [], 0
            widest = widest or width
            rows.append(row)
    return [*ready, Layout(widest, tuple(rows))] if rows else ready


def packed(samples: Ints, lengths: Ints, width: int | None = None) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield rows as (width, samples): each opens with the longest sample left and takes the longest that still fit.

    Filling row after row like this is first-fit decreasing; a stack a length makes it linear in the samples.

    Args:
        samples: positions of samples.
        lengths: tokens by sample, i64 [N].
        width: of every row, at least the longest sample; by the longest of each row where None.
    """
    longest = int(lengths[samples].max(initial=0))
    stacks: list[list[int]] = [[] for _ in range(longest + 1)]
    for at in samples[::-1].tolist():
        stacks[max(int(lengths[at]), 1)].append(at)
    # below[n] leads to the longest length <= n that still has samples; paths are shortened as they are walked.
    below = list(range(longest + 1))

    def fitting(space: int) -> int:
        found = min(space, longest)
        while found and not stacks[found]:
            found = below[found] = below[found - 1] if below[found] == found else below[below[found]]
        return found

    while length := fitting(longest):
        own = width or row_width(length)
        row, space = [stacks[length].pop()], own - length
        while length := fitting(space):
            row.append(stacks[length].pop())
            space -= length
        yield own, tuple(row)


def collate(samples: Sequence[Sequence[Sample]], width: int) -> Arrays:
    """Put rows of samples into one batch.

    Args:
        samples: by row; a row's tokens are at most `width`.
        width: T.
    """
    shape = (max(len(samples), 1), width)
    token = np.zeros(shape, dtype=np.int64)
    segment, visit = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    age_days = np.zeros(shape, dtype=np.float32)
    for at, row in enumerate(samples):
        begin = 0
        for number, sample in enumerate(row, start=1):
            place = slice(begin, begin := begin + len(sample.token))
            token[at, place] = sample.token
            segment[at, place] = number
            visit[at, place] = sample.visit
            age_days[at, place] = sample.age_days
    flat = [sample for row in samples for sample in row]
    return Batch(
        token,
        segment,
        visit,
        age_days,
        np.array([sample.subject for sample in flat], dtype=np.int64),
        np.array([sample.prediction_time for sample in flat], dtype=np.int64),
        np.array([sample.query_age_days for sample in flat], dtype=np.float32),
    )


def pack(
    samples: Sequence[Sample], *, tokens: int, buffer: int = 4096, seed: int = 0, epoch: int = 0
) -> Iterator[Arrays]:
    """Yield the packed batches of one epoch (see `plan`)."""
    lengths = np.array([len(sample.token) for sample in samples], dtype=np.int64)
    for layout in plan(lengths, tokens=tokens, buffer=buffer, seed=seed, epoch=epoch):
        yield collate([[samples[at] for at in row] for row in layout.rows], layout.width)


def pad(samples: Sequence[Sample], *, length: int, rows: int) -> tuple[Ints, npt.NDArray[np.int32], Floats, Floats]:
    """Return a fixed shape for scoring, one sample a row.

    Args:
        samples: at most `rows`, each of at most `length` tokens.
        length: T.
        rows: rows; those beyond the samples are padding.

    Returns:
        token i64, visit i32, age_days f32 [rows, length]; query_age_days f32 [rows].
    """
    token = np.zeros((rows, length), dtype=np.int64)
    visit = np.zeros((rows, length), dtype=np.int32)
    age_days = np.zeros((rows, length), dtype=np.float32)
    query_age_days = np.zeros(rows, dtype=np.float32)
    for row, sample in enumerate(samples):
        count = len(sample.token)
        token[row, :count] = sample.token
        visit[row, :count] = sample.visit
        age_days[row, :count] = sample.age_days
        query_age_days[row] = sample.query_age_days
    return token, visit, age_days, query_age_days
