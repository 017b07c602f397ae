"""Which passages and questions make a batch, and what each row weighs.  No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.documents.passages import Ints, Passages

Floats = npt.NDArray[np.float32]
BUFFER = 64
"""Batches that are cut from passages sorted by length, so that a batch holds windows of one shape."""
PASSAGES, TASKS = 1, 2


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How training batches are drawn."""

    by: Literal["passages", "tasks"] = "passages"
    """Whole passages with all their questions, classes balanced by weights; or so many questions a step and rows of
    each, classes balanced by drawing, as MAUD was trained."""
    positions: int = 16_384
    """Positions of a batch at most: passages times windows times length."""
    passages: int = 64
    """Passages of a batch at most."""
    balance: float = 1.0
    """Power of the class weights: 1 counts all options of a question alike, 0 leaves them as they are."""
    task_power: float = 0.5
    """A question weighs its rows to this power: 1 counts rows alike, 0 questions alike."""
    tasks: int = 4
    """Questions of a step, where questions are drawn."""
    rows: int = 16
    """Rows of each of them."""
    rounds: int = 100
    """Times that an epoch goes through all questions, where questions are drawn."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        for name in ("positions", "passages", "tasks", "rows", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.sampling.{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("balance", "task_power"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.sampling.{name} is {getattr(self, name)}; expected 0 to 1")


class Layout(NamedTuple):
    """The rows of one batch.

    Attributes:
        rows: numbers of rows, each once.
        weight: of each.
        tasks: columns in this order; those of the rows where None.
    """

    rows: Ints
    weight: Floats
    tasks: tuple[int, ...] | None = None


def generator(*key: int) -> np.random.Generator:
    """Return a generator that depends on its key alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))


def class_weights(task: Ints, label: Ints, *, balance: float = 1.0, task_power: float = 0.5) -> Floats:
    """Return what each row weighs, f32 [R]; the mean over labelled rows is 1, a row without a label weighs 0.

    Within a question a class weighs max_c n_c / n_c (to the power of `balance`), which in expectation is what
    drawing every class as often as the largest gives; a question weighs n^task_power in all.

    Args:
        task: i64 [R].
        label: -1 where there is none, i64 [R].
        balance: 0 to 1.
        task_power: 0 to 1.
    """
    weight = np.zeros(len(task), dtype=np.float64)
    for number in np.unique(task).tolist():
        at = np.flatnonzero((task == number) & (label >= 0))
        if not len(at):
            continue
        _, place, count = np.unique(label[at], return_inverse=True, return_counts=True)
        weight[at] = (count.max() / count[place]) ** balance
        weight[at] *= len(at) ** task_power / weight[at].sum()
    there = weight > 0
    if there.any():
        weight[there] /= weight[there].mean()
    return weight.astype(np.float32)


def oversampled(label: Ints, rows: Ints) -> Ints:
    """Return rows of one question with every class repeated to the size of the largest; none is left out.

    Args:
        label: of the rows, i64 [n].
        rows: their numbers, i64 [n].
    """
    found: list[Ints] = []
    most = int(np.unique(label, return_counts=True)[1].max())
    for value in np.unique(label).tolist():
        own = rows[label == value]
        found.append(np.resize(own, most))
    return np.concatenate(found)


def by_passages(
    passages: Passages, shape: Sequence[tuple[int, int]], settings: Sampling, *, seed: int, epoch: int
) -> Iterator[Layout]:
    """Yield the batches of an epoch: each passage once, those of one shape together.

    Args:
        passages: of the training split.
        shape: windows and positions of each passage.
        settings: limits and weights.
        seed: of the order.
        epoch: number; another one, another order.
    """
    weight = class_weights(passages.task, passages.label, balance=settings.balance, task_power=settings.task_power)
    draw = generator(seed, PASSAGES, epoch)
    rows_of = rows_by_passage(passages)
    for members in bucketed(shape, settings, draw):
        rows = np.concatenate([rows_of[at] for at in members])
        yield Layout(rows, weight[rows])


def bucketed(shape: Sequence[tuple[int, int]], settings: Sampling, draw: np.random.Generator | None) -> list[list[int]]:
    """Return the passages of each batch within its limits; in the order of length where nothing is drawn."""
    size = np.array(shape, dtype=np.int64).reshape(-1, 2)
    order = draw.permutation(len(size)) if draw else np.arange(len(size))
    pool = settings.passages * BUFFER if draw else max(1, len(size))
    batches: list[list[int]] = []
    for begin in range(0, len(order), pool):
        part = order[begin : begin + pool]
        members: list[int] = []
        windows = length = 0
        for at in part[np.lexsort((size[part, 1], size[part, 0]))].tolist():
            windows, length = max(windows, int(size[at, 0])), max(length, int(size[at, 1]))
            full = (len(members) + 1) * windows * length > settings.positions or len(members) == settings.passages
            if members and full:
                batches.append(members)
                members, windows, length = [], *(int(part) for part in size[at])
            members.append(at)
        if members:
            batches.append(members)
    return [batches[at] for at in draw.permutation(len(batches))] if draw else batches


def rows_by_passage(passages: Passages) -> list[Ints]:
    """Return the rows of each passage."""
    order = np.argsort(passages.passage, kind="stable")
    bounds = np.searchsorted(passages.passage[order], np.arange(len(passages.texts) + 1))
    return [order[bounds[at] : bounds[at + 1]] for at in range(len(passages.texts))]


def by_tasks(passages: Passages, settings: Sampling, *, seed: int, epoch: int) -> Iterator[Layout]:
    """Yield the steps of an epoch as MAUD was trained: so many questions a step, so many rows of each.

    Rows come from the question's oversampled rows, shuffled anew each time they are used up; how often a row was
    drawn is its weight.
    """
    held = {
        number: np.flatnonzero((passages.task == number) & (passages.label >= 0))
        for number in np.unique(passages.task[passages.label >= 0]).tolist()
    }
    pools = {number: oversampled(passages.label[rows], rows) for number, rows in held.items()}
    for turn in range(settings.rounds):
        order = generator(seed, TASKS, epoch, turn).permutation(sorted(pools)).tolist()
        for begin in range(0, len(order), settings.tasks):
            chosen = tuple(order[begin : begin + settings.tasks])
            place = (epoch * settings.rounds + turn) * settings.rows
            drawn = [take(pools[task], place, settings.rows, (seed, TASKS, task)) for task in chosen]
            rows, times = np.unique(np.concatenate(drawn), return_counts=True)
            yield Layout(rows, times.astype(np.float32), chosen)


def take(pool: Ints, place: int, number: int, key: tuple[int, ...]) -> Ints:
    """Return so many of a pool from a place on; each time round it is shuffled anew."""
    found: list[Ints] = []
    while number:
        turn, at = divmod(place, len(pool))
        part = generator(*key, turn).permutation(pool)[at : at + number]
        found.append(part)
        place, number = place + len(part), number - len(part)
    return np.concatenate(found)
