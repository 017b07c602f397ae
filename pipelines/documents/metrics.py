"""Minority AUPR and what stands beside it, for one task at a time and as means over questions. NumPy only."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BINS = 15


class Answers(NamedTuple):
    """The rows of one task.

    Attributes:
        score: a number an option, the higher the likelier: logits, or probabilities, f64 [N, C].
        label: the right option of each row, i64 [N].
    """

    score: Floats
    label: Ints


def margin(score: Floats) -> Floats:
    """Return s_c = 2 L_c - sum_j L_j, f64 [N, C]: how far a class is above all others together.

    Wang et al. (2023), arXiv 2301.00876, as its published code has it. Give the options of the task alone: what is
    padded in beside them would weigh in the sum. With probabilities it is 2 p_c - 1.
    """
    return 2 * score - score.sum(1, keepdims=True)


def minority(score: Floats, positive: npt.NDArray[np.bool_]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return scores and labels of the rarer side of one class; at exactly one half the class itself."""
    return (-score, ~positive) if 2 * positive.sum() > len(positive) else (score, positive)


def average_precision(score: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Return sum_k (R_k - R_(k-1)) P_k over the distinct scores, equal ones at once.

    Equals scikit-learn's average_precision_score.

    Args:
        score: f64 [N].
        positive: bool [N].

    Returns:
        A number in (0, 1], or NaN without a positive.
    """
    return float(weighted_precision(score, positive, np.ones((len(score), 1)))[0])


def weighted_precision(score: Floats, positive: npt.NDArray[np.bool_], weight: Floats) -> Floats:
    """Return the average precision in each of B resamples, f64 [B], NaN where one has no positive.

    Args:
        score: f64 [N].
        positive: bool [N].
        weight: how often each row stands in each resample, f64 [N, B].
    """
    if not len(score):
        return np.full(weight.shape[1], np.nan)
    order = np.argsort(-score, kind="stable")
    ranked, held, counted = score[order], positive[order], weight[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits, seen = np.cumsum(counted * held[:, None], 0)[last], np.cumsum(counted, 0)[last]
    # Where nothing is seen nothing is hit: any precision will do.
    precision = hits / np.maximum(seen, np.finfo(np.float64).tiny)
    sums = np.sum(np.diff(hits, axis=0, prepend=0.0) * precision, 0)
    return np.where(hits[-1] > 0, sums / np.maximum(hits[-1], np.finfo(np.float64).tiny), np.nan)


def missing(label: Ints, options: int) -> list[int]:
    """Return the classes that no row has, or that every row has: without AUPR."""
    counts = np.bincount(label, minlength=options)
    return [at for at in range(options) if counts[at] in {0, len(label)}]


def class_values(answers: Answers) -> Floats:
    """Return the minority AUPR of each class, f64 [C].

    Raises:
        ValueError: a class has no row, or all of them.
    """
    options = answers.score.shape[1]
    absent = missing(answers.label, options)
    if absent:
        raise ValueError(f"option {absent[0]} has none or all of {len(answers.label)} rows; expected some of every one")
    scores = margin(answers.score)
    return np.array(
        [average_precision(*minority(scores[:, at], answers.label == at)) for at in range(options)], np.float64
    )


def minority_aupr(answers: Answers) -> float:
    """Return the mean over the classes of a task of their minority AUPR."""
    return float(class_values(answers).mean())


def chance(label: Ints, options: int) -> float:
    """Return what scores without information reach: the mean share of the minority side over the classes."""
    share = np.bincount(label, minlength=options) / len(label)
    return float(np.minimum(share, 1 - share).mean())


def luck(label: Ints, options: int) -> float:
    """Return the mean over the classes of what minority AUPR is expected of scores in random order, no two alike.

    Of K of n rows, q = (K - 1) / (n - 1): q + (1 - q) H_n / n, since the rank k of a positive row is any, and the
    k - 1 rows above it hold q (k - 1) others. It is above K / n, by much where rows are few.
    """
    number = len(label)
    counts = np.bincount(label, minlength=options)
    q = (np.minimum(counts, number - counts) - 1) / max(1, number - 1)
    harmonic = float((1 / np.arange(1, number + 1)).sum())
    return float((q + (1 - q) * harmonic / number).mean())


def balanced_accuracy(chosen: Ints, label: Ints, options: int) -> float:
    """Return the mean over classes that have rows of the share chosen rightly."""
    right = np.bincount(label[chosen == label], minlength=options)
    counts = np.bincount(label, minlength=options)
    return float((right[counts > 0] / counts[counts > 0]).mean())


def macro_f1(chosen: Ints, label: Ints, options: int) -> float:
    """Return the mean F1 over classes that are chosen or right anywhere."""
    right = np.bincount(label[chosen == label], minlength=options)
    total = np.bincount(label, minlength=options) + np.bincount(chosen, minlength=options)
    return float((2 * right[total > 0] / total[total > 0]).mean())


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_], bins: int = BINS) -> float:
    """Return ECE: the mean over rows of |share right - mean confidence| in bins of equal width.

    Args:
        confidence: probability of the chosen option, f64 [N], 0 to 1.
        right: bool [N].
        bins: how many (Guo et al. 2017, equation 3, has 15).
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    error = np.bincount(place, confidence - right, minlength=bins)
    return float(np.abs(error).sum() / len(confidence))


def over_parents(values: Mapping[str, float], parents: Mapping[str, str]) -> float:
    """Return the unweighted mean over questions of the mean over their sub-questions: the headline.

    Args:
        values: by task.
        parents: the question of each task.

    Returns:
        The mean over 92 questions for MAUD whole; NaN without any.
    """
    held: dict[str, list[float]] = {}
    for task, value in values.items():
        held.setdefault(parents[task], []).append(value)
    return float(np.mean([np.mean(part) for part in held.values()])) if held else float("nan")


def over_tasks(values: Mapping[str, float]) -> float:
    """Return the unweighted mean over tasks (144 for MAUD whole): `classic`."""
    return float(np.mean(list(values.values()))) if values else float("nan")


def over_runs(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over runs of each task's value, as published figures have it before any other mean.

    Raises:
        ValueError: runs have other tasks.
    """
    if not runs or any(set(run) != set(runs[0]) for run in runs):
        raise ValueError("runs have no or other tasks; expected the same tasks in each")
    return {task: float(np.mean([run[task] for run in runs])) for task in runs[0]}
