"""Weights of a patient's futures by evidence, and the estimates they give.

A future is told by which steps its window holds. p_model of a step is the share of the patient's own futures that hold
it, p_evidence the share of windows, of neighbours and of her own past, smoothed towards p_model. A step that a future
lacks counts by what is left of both. So evidence and model are asked the same thing, and where they agree every ratio
is 1 and the weighted estimate is the Monte-Carlo one.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.rethink.patients.evidence import Evidence
from pipelines.rethink.patients.settings import Rethinking
from pipelines.rethink.ratios import Weights, estimate, log_ratio, smoothed, weigh

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Held(NamedTuple):
    """One patient's futures as steps.

    Attributes:
        step: token ids of the steps that some future holds, ascending, i64 [E].
        held: which future holds which, bool [N, E].
        allowed: futures that nothing rules out, bool [N].
    """

    step: Ints
    held: Bools
    allowed: Bools

    @property
    def model(self) -> Floats:
        """Share of the futures that hold each step, f64 [E]."""
        return self.held.mean(axis=0)


def held_of(future: Ints, step: Ints, number: int, allowed: Bools) -> Held:
    """Return the steps of N futures.

    Args:
        future: of each step, i64 [M].
        step: token ids, -1 where none, i64 [M].
        number: N.
        allowed: bool [N].
    """
    there = step >= 0
    names, column = np.unique(step[there], return_inverse=True)
    held = np.zeros((number, len(names)), dtype=bool)
    held[future[there], column] = True
    return Held(names, held, allowed)


def backed(futures: Held, evidence: Evidence, settings: Rethinking) -> Floats:
    """Return p_evidence of each step, f64 [E]."""
    total = np.full(len(futures.step), evidence.total)
    return smoothed(evidence.holding[futures.step], total, futures.model, prior=settings.prior)


def log_weights(futures: Held, evidence: Evidence, settings: Rethinking) -> Floats:
    """Return the sum of the logarithmic ratios of each future's steps, held and lacked, f64 [N]."""
    model = futures.model
    told = np.flatnonzero((model > 0) & (model < 1))
    if not len(told):
        return np.zeros(len(futures.held))
    model, held = model[told], futures.held[:, told]
    found = backed(futures, evidence, settings)[told]
    there = log_ratio(found, model, mix=settings.mix, clip=settings.clip)
    lacked = log_ratio(1 - found, 1 - model, mix=settings.mix, clip=settings.clip)
    return np.where(held, there, lacked).sum(axis=1)


def support(futures: Held, evidence: Evidence, settings: Rethinking) -> Floats:
    """Return the sum of p_evidence over each future's steps, f64 [N]: what the paper's sum is on futures."""
    return futures.held @ backed(futures, evidence, settings)


def weights(log_weight: Floats, temper: float, allowed: Bools, settings: Rethinking) -> Weights:
    """Return the weights at a temper, lowered where the effective sample size would fall below its floor."""
    return weigh(log_weight, temper, allowed=allowed, floor=settings.floor)


def estimated(log_weight: Floats, held: Weights, value: Floats, at_risk: Bools, allowed: Bools) -> float:
    """Return the estimate of one window.

    Args:
        log_weight: f64 [N].
        held: the weights that were made of it.
        value: what each future counts, f64 [N].
        at_risk: futures that count at all, bool [N]; where none is, all do.
        allowed: futures that nothing rules out, bool [N]; where none is, all count.
    """
    free = allowed if allowed.any() else np.ones(len(allowed), dtype=bool)
    both = free & at_risk if (free & at_risk).any() else free
    return estimate(log_weight, value, held.temper, allowed=both)


def interval(weight: Floats, value: Floats, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a weighted mean, futures resampled.

    Args:
        weight: f64 [N], 0 where a future does not count.
        value: f64 [N].
        resamples: of the futures.
        seed: equal seeds give equal draws.
    """
    number = len(weight)
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=resamples)
    mass = drawn @ weight
    there = mass > 0
    if not there.any():
        return float("nan"), float("nan")
    lower, upper = np.percentile((drawn[there] @ (weight * value)) / mass[there], [2.5, 97.5]).tolist()
    return lower, upper
