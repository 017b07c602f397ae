"""Weights of sampled paths by how much likelier evidence holds their steps than the model did, tempered."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Weights(NamedTuple):
    """Self-normalised weights of N paths.

    Attributes:
        weight: f64 [N], at least 0, their sum is 1.
        temper: beta that was used, after any lowering.
        size: effective sample size, 1 to N.
        lowered: whether beta was lowered to keep the floor.
        refused: whether every path was contradicted, so that all weigh alike.
    """

    weight: Floats
    temper: float
    size: float
    lowered: bool
    refused: bool


def smoothed(count: Floats, total: Floats, model: Floats, *, prior: float = 10.0) -> Floats:
    """Return p = (count + prior * p_model) / (total + prior): the model's own where there is no evidence.

    Args:
        count: of neighbours with the step, 0 or more.
        total: of neighbours, at least count.
        model: the model's probability, 0 to 1.
        prior: neighbours that the model is worth.
    """
    return (count + prior * model) / (total + prior)


def log_ratio(evidence: Floats, model: Floats, *, mix: float = 0.5, clip: float = 2.0) -> Floats:
    """Return log((1 - mix) + mix * p_evidence / p_model) between -clip and clip, of each step.

    Args:
        evidence: probability of a step by the evidence, 0 to 1.
        model: by the model, above 0.
        mix: lambda, 0 to 1.
        clip: c, nats.
    """
    # A mix of 0 gives exactly 0; an impossible step by the evidence with a mix of 1 is cut at -clip.
    with np.errstate(divide="ignore"):
        return np.clip(np.log((1 - mix) + mix * (evidence / model)), -clip, clip)


def effective_size(weight: Floats) -> float:
    """Return (sum w)^2 / sum w^2, 1 to N (Kish); 0 where every weight is 0."""
    square = float(np.square(weight).sum())
    return min(float(weight.sum()) ** 2 / square, float(len(weight))) if square else 0.0


def raw(log_weight: Floats, temper: float, allowed: Bools) -> Floats:
    """Return exp(temper * log weight) over its greatest, 0 where not allowed; exactly 1 everywhere for temper 0."""
    scaled = temper * log_weight
    return np.where(allowed, np.exp(scaled - scaled[allowed].max()), 0.0)


def weigh(log_weight: Floats, temper: float, *, allowed: Bools | None = None, floor: float = 0.0) -> Weights:
    """Return the weights of N paths, the temper lowered until the effective sample size holds the floor.

    Args:
        log_weight: sum of the log ratios of each path's steps, f64 [N].
        temper: beta, 0 (all weigh alike) to 1 (the full ratio).
        allowed: paths that no hard contradiction rules out; all where None.
        floor: least effective sample size; what the allowed paths cannot reach even at beta 0 is not asked.
    """
    free = np.ones(len(log_weight), dtype=bool) if allowed is None else allowed
    refused = not free.any()
    if refused:
        free = np.ones(len(log_weight), dtype=bool)
    used = 0.0 if refused else temper
    least = min(floor, float(free.sum()))
    held = raw(log_weight, used, free)
    lowered = effective_size(held) < least
    if lowered:
        used = _highest(log_weight, used, free, least)
        held = raw(log_weight, used, free)
    return Weights(held / held.sum(), used, effective_size(held), lowered, refused)


def _highest(log_weight: Floats, above: float, free: Bools, least: float) -> float:
    """Return the highest temper below `above` that holds the floor, by halving; it falls as the temper rises."""
    below = 0.0
    for _ in range(50):
        middle = (below + above) / 2
        below, above = (middle, above) if effective_size(raw(log_weight, middle, free)) >= least else (below, middle)
    return below


def estimate(log_weight: Floats, value: Floats, temper: float, *, allowed: Bools | None = None) -> float:
    """Return sum w_i y_i / sum w_i; with temper 0 and all allowed that is numpy's mean, bit for bit.

    Args:
        log_weight: f64 [N].
        value: y, whether (or how probably) each path reaches the outcome, f64 [N].
        temper: beta.
        allowed: see `weigh`; where none is, all count.
    """
    free = np.ones(len(log_weight), dtype=bool) if allowed is None or not allowed.any() else allowed
    held = raw(log_weight, temper, free)
    return float((held * value).sum() / held.sum())
