"""Measures of probabilities against labels, each over all resamples of patients at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.metrics.resampling import Floats, Ints, chunks, totals

BINS = 15
"""Bins of equal mass of the expected calibration error."""
FEW = 10
"""Positives (and negatives) under which nothing is estimated."""
EDGE = 1e-7
"""Probabilities are kept so far from 0 and 1 where a logarithm is taken."""
METRICS = ("auroc", "auprc", "lift", "brier", "brier_skill", "ece", "calibration_slope", "calibration_intercept")


class Answers(NamedTuple):
    """N answers to one question (outcome and horizon).

    Attributes:
        probability: f64 [N].
        label: bool [N].
        place: the row of each sample's patient in the draws, i64 [N].
    """

    probability: Floats
    label: npt.NDArray[np.bool_]
    place: Ints

    @property
    def estimable(self) -> bool:
        """Whether there are 10 positives and 10 negatives at least."""
        positives = int(self.label.sum())
        return positives >= FEW and len(self.label) - positives >= FEW


def measure(answers: Answers, weight: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """Return every metric for the cohort itself and for each resample, f64 [1 + B] each.

    Args:
        answers: of one model.
        weight: how often each patient stands in each resample, u8 [P, 1 + B]; column 0 is all ones.
    """
    # A resample may leave out every patient of a class; its value is then NaN, and the interval does without it.
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc, auprc = ranking(answers, weight)
        brier, prevalence = brier_and_prevalence(answers, weight)
        slope, intercept = calibration(answers, weight)
        return {
            "auroc": auroc,
            "auprc": auprc,
            "lift": auprc / prevalence,
            "brier": brier,
            "brier_skill": 1 - brier / (prevalence * (1 - prevalence)),
            "ece": calibration_error(answers, weight),
            "calibration_slope": slope,
            "calibration_intercept": intercept,
        }


def ranking(answers: Answers, weight: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return AUROC (ties count half) and average precision of each resample, f64 [1 + B] each; NaN without a class.

    Only the G distinct scores of positives matter: negatives are summed between them (even bins) and at them (odd
    bins). With N_g the negatives below or at a score and P_g the positives at or above it, AUROC is
    sum_g p_g (N_below + N_at / 2) / (P N), and average precision sum_g (p_g / P) P_g / (P_g + N_above_or_at).
    """
    score, label = answers.probability, answers.label
    steps, at = np.unique(score[label], return_inverse=True)
    left = np.searchsorted(steps, score[~label], side="left")
    right = np.searchsorted(steps, score[~label], side="right")
    negative = Sums(left + right, answers.place[~label], 2 * len(steps) + 1)
    positive = Sums(at, answers.place[label], len(steps))
    found = np.full((2, weight.shape[1]), np.nan)
    for columns in chunks(weight.shape[1], len(score)):
        w = weight[:, columns].astype(np.float32)
        n, p = negative.of(w), positive.of(w)
        below = np.cumsum(n, axis=0)
        tied, here = n[1::2], below[1::2]
        above = below[-1] - here + tied
        precise = np.cumsum(p[::-1], axis=0)[::-1]
        found[0, columns] = (p * (here - tied / 2)).sum(0) / (p.sum(0) * n.sum(0))
        found[1, columns] = np.where(p > 0, p * precise / (precise + above), 0).sum(0) / p.sum(0)
    return found[0], found[1]


class Sums:
    """Sums of patients' weights over the samples of each bin."""

    def __init__(self, bin_of: Ints, place: Ints, bins: int) -> None:
        """Sort the samples by bin, once."""
        order = np.argsort(bin_of, kind="stable")
        self.place, self.bins = place[order], bins
        self.held, self.starts = np.unique(bin_of[order], return_index=True)

    def of(self, weight: npt.NDArray[np.float32]) -> Floats:
        """Return f64 [bins, columns] for weights f32 [P, columns]; whole numbers below 2^24 are exact."""
        sums = np.zeros((self.bins, weight.shape[1]))
        if len(self.held):
            sums[self.held] = np.add.reduceat(weight[self.place], self.starts, axis=0)
        return sums


def brier_and_prevalence(answers: Answers, weight: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return mean((p - y)^2) and mean(y), f64 [1 + B] each."""
    error = (answers.probability - answers.label) ** 2
    sums = totals(np.stack([error, answers.label, np.ones_like(error)], 1), answers.place, weight)
    return sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]


def mass_bins(probability: Floats, bins: int = BINS) -> Ints:
    """Return the bin of equal mass of each probability, equal ones in one bin, i64 [N]."""
    ordered = np.sort(probability)
    edges = np.unique(ordered[np.arange(1, bins) * len(ordered) // bins])
    return np.searchsorted(edges, probability, side="right")


def calibration_error(answers: Answers, weight: npt.NDArray[np.uint8]) -> Floats:
    """Return ECE = sum_b |sum_(i in b) (p_i - y_i)| / N over 15 bins of equal mass, f64 [1 + B].

    The bins are those of the cohort itself, in every resample.
    """
    bins = mass_bins(answers.probability)
    error = answers.probability - answers.label
    columns = np.zeros((len(error), BINS + 1))
    columns[np.arange(len(error)), bins] = error
    columns[:, BINS] = 1
    sums = totals(columns, answers.place, weight)
    return np.abs(sums[:, :BINS]).sum(1) / sums[:, BINS]


def calibration(answers: Answers, weight: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return the slope of logit(y) on logit(p), and the intercept with the slope held at 1, f64 [1 + B] each.

    The cohort's own are maximum-likelihood fits (Cox 1958). A resample's is one Newton step from there, the one-step
    bootstrap of Moulton and Zeger (1991), which needs sums over samples only.
    """
    p = np.clip(answers.probability, EDGE, 1 - EDGE)
    z, y = np.log(p) - np.log1p(-p), answers.label.astype(np.float64)
    both = np.stack([z, np.ones_like(z)], 1)
    line, one = fitted(both, np.zeros_like(z), y), fitted(both[:, 1:], z, y)
    nothing = np.full(weight.shape[1], np.nan)
    slope = nothing if line is None else stepped(both, line, np.zeros_like(z), y, answers.place, weight)[:, 0]
    intercept = nothing if one is None else stepped(both[:, 1:], one, z, y, answers.place, weight)[:, 0]
    return slope, intercept


def fitted(design: Floats, offset: Floats, y: Floats) -> Floats | None:
    """Return maximum-likelihood coefficients of a logistic model by Newton's method, or None where it has none."""
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ beta + offset, -50, 50)))
        curvature = (design * (p * (1 - p))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e10:
            return None
        step = np.linalg.solve(curvature, design.T @ (y - p))
        # Far from the solution a full step overshoots.
        beta = beta + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-10:
            return beta
    return None


def stepped(
    design: Floats, beta: Floats, offset: Floats, y: Floats, place: Ints, weight: npt.NDArray[np.uint8]
) -> Floats:
    """Return the coefficients one Newton step from beta in each resample, f64 [1 + B, 1 or 2]."""
    size = len(beta)
    p = 1 / (1 + np.exp(-np.clip(design @ beta + offset, -50, 50)))
    gradient = design * (y - p)[:, None]
    curvature = (design[:, :, None] * design[:, None, :] * (p * (1 - p))[:, None, None]).reshape(len(y), -1)
    sums = totals(np.concatenate([gradient, curvature], 1), place, weight)
    squares = sums[:, size:].reshape(-1, size, size) + 1e-12 * np.eye(size)
    return beta + np.linalg.solve(squares, sums[:, :size, None])[:, :, 0]
