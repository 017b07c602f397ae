"""What every evaluation is held against: others' evidence, support by source, and where a gain comes from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.rethink.polling import Poll

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    lower: float
    upper: float


def another(number: int, seed: int) -> Ints:
    """Return for each question another one, each once, drawn by seed, i64 [Q]: for swapped evidence.

    Raises:
        ValueError: there is one question alone.
    """
    if number < 2:
        raise ValueError("one question alone has no other whose evidence could be swapped in; give two or more")
    order = np.random.default_rng(seed).permutation(number)
    made = np.empty(number, dtype=np.int64)
    made[order] = np.roll(order, -1)
    return made


def right(held: Poll, truth: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return whether each path's answer is the right one, bool [P]."""
    return np.array([answer == truth[at] for answer, at in zip(held.answers, held.question.tolist(), strict=True)])


def auroc_by_source(held: Poll, truth: Sequence[str], support: Floats) -> dict[str, float]:
    """Return for each source the AUROC of support for `this path is right`, over its answered paths.

    Pooled over sources it would measure how good the sources are. A source that is always or never right has none.
    """
    hit = right(held, truth)
    answered = np.array([answer is not None for answer in held.answers])
    made: dict[str, float] = {}
    for at, name in enumerate(held.sources):
        own = answered & (held.source == at)
        if own.any() and 0 < hit[own].sum() < own.sum():
            made[name] = auroc(hit[own], support[own])
    return made


def auroc(hit: npt.NDArray[np.bool_], value: Floats) -> float:
    """Return the chance that a hit has a greater value than a miss, equal values counting half (Mann and Whitney).

    Args:
        hit: with both kinds in it, bool [N].
        value: f64 [N].
    """
    _, place, number = np.unique(value, return_inverse=True, return_counts=True)
    rank = (np.cumsum(number) - (number - 1) / 2)[place]
    hits, misses = int(hit.sum()), int((~hit).sum())
    return float((rank[hit].sum() - hits * (hits + 1) / 2) / (hits * misses))


def by_source(held: Poll, truth: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return of each source its paths, those without an answer, those without a step, and its accuracy.

    A path without an answer counts as wrong.
    """
    silent = np.array([answer is None for answer in held.answers])
    hit = right(held, truth) if truth is not None else None
    made: list[dict[str, Any]] = []
    for at, name in enumerate(held.sources):
        own = held.source == at
        made.append(
            {
                "source": name,
                "paths": int(own.sum()),
                "unparsed": int(silent[own].sum()),
                "without_steps": int((held.steps[own] == 0).sum()),
                "accuracy": None if hit is None or not own.any() else float(hit[own].mean()),
            }
        )
    return made


class Resampler:
    """Draws of questions, the same for all that is compared."""

    def __init__(self, number: int, resamples: int, seed: int) -> None:
        """Draw how often each question is in each resample."""
        draw = np.random.default_rng(seed)
        self.weight = draw.multinomial(number, np.full(number, 1 / number), size=resamples).astype(np.float32)
        self.number = number

    def mean(self, value: Floats) -> Interval:
        """Return the mean over questions and its percentile interval.

        Args:
            value: of each question, f64 [Q].
        """
        drawn = self.weight @ value.astype(np.float32) / self.number
        lower, upper = np.percentile(drawn, [2.5, 97.5]).tolist()
        return Interval(float(value.mean()), lower, upper)


def split_gain(gain: Floats, tied: npt.NDArray[np.bool_]) -> Mapping[str, float]:
    """Return how much of a mean gain over the majority comes from its ties, and how much from the rest; they add up."""
    return {"ties": float((gain * tied).mean()), "rest": float((gain * ~tied).mean())}
