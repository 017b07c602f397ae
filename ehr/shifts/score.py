"""What corruption costs: errors under shift over the clean one, and beside a plain reference on the same records."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.metrics.measures import Answers, calibration_error, ranking
from ehr.metrics.resampling import Draws, Floats

SMALL = 0.005
"""Excess error of a reference under which no quotient is taken of it."""
Places = Sequence[tuple[int, int]]


class Measured(NamedTuple):
    """Macro means over outcomes and horizons, of the patients asked and of their resamples, f64 [1 + B] each."""

    auroc: Floats
    auprc: Floats


def estimable(label: npt.NDArray[np.floating[Any]], places: Places) -> list[tuple[int, int]]:
    """Return the outcomes and horizons with 10 positives and 10 negatives at least.

    Args:
        label: 0, 1 or NaN, [N, K, H].
        places: k, h of those to look at.
    """
    found: list[tuple[int, int]] = []
    for k, h in places:
        known = label[~np.isnan(label[:, k, h]), k, h]
        if Answers(known, known == 1, np.arange(len(known))).estimable:
            found.append((k, h))
    return found


def measure(
    logit: npt.NDArray[np.floating[Any]],
    label: npt.NDArray[np.floating[Any]],
    places: Places,
    place: npt.NDArray[np.int64],
    draws: Draws,
) -> Measured:
    """Measure one pass over the patients.

    Args:
        logit: or probability, [N, K, H].
        label: 0, 1 or NaN, [N, K, H].
        places: k, h of estimable outcomes and horizons.
        place: the row of each sample's patient in the draws, i64 [N].
        draws: resamples of patients.
    """
    found: list[tuple[Floats, Floats]] = []
    for k, h in places:
        known = ~np.isnan(label[:, k, h])
        answers = Answers(logit[known, k, h].astype(np.float64), label[known, k, h] == 1, place[known])
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(ranking(answers, draws.weight))
    return Measured(*(np.mean([pair[part] for pair in found], axis=0) for part in range(2)))


def excess(clean: Floats, shifted: Sequence[Floats]) -> Floats:
    """Return the mean over passes of (error under shift - clean error), error being 1 - AUROC, f64 [1 + B]."""
    return clean - np.mean(shifted, axis=0)


def mean_excess(clean: Floats, shifted: Mapping[str, Sequence[Floats]]) -> Floats:
    """Return the mean over corruptions of their excess error, f64 [1 + B]."""
    return np.mean([excess(clean, passes) for passes in shifted.values()], axis=0)


def corruption_error(ours: Mapping[str, Sequence[Floats]], reference: Mapping[str, Sequence[Floats]]) -> Floats:
    """Return mCE-EHR: the mean over corruptions of sum_s E_s(ours) / sum_s E_s(reference), f64 [1 + B].

    After the mean corruption error of Hendrycks and Dietterich (2019), with count-feature logistic regression on the
    same records in the place of AlexNet.
    """
    return np.mean(
        [
            np.sum(1 - np.stack(own), axis=0) / np.sum(1 - np.stack(reference[name]), axis=0)
            for name, own in ours.items()
        ],
        axis=0,
    )


def relative_error(
    ours: tuple[Floats, Mapping[str, Sequence[Floats]]], reference: tuple[Floats, Mapping[str, Sequence[Floats]]]
) -> dict[str, tuple[float, bool]]:
    """Return by corruption our excess error over the reference's, and whether it is a quotient.

    Where the reference's excess is below 0.005 the difference is told instead.

    Args:
        ours: clean AUROC, and AUROC by corruption and severity.
        reference: the same of the reference.
    """
    found: dict[str, tuple[float, bool]] = {}
    for name, passes in ours[1].items():
        own, other = (
            float(excess(clean, shifted)[0])
            for clean, shifted in ((ours[0], passes), (reference[0], reference[1][name]))
        )
        found[name] = (own / other, True) if other >= SMALL else (own - other, False)
    return found


class Moved(NamedTuple):
    """How far answers moved.

    Attributes:
        flips: share of answers that cross the operating point of their outcome.
        shift: 95th percentile of the absolute change of probability.
        ece_change: mean change of the expected calibration error.
    """

    flips: float
    shift: float
    ece_change: float


def operating_points(
    probability: npt.NDArray[np.floating[Any]], places: Places, share: float = 0.1
) -> dict[tuple[int, int], float]:
    """Return above which probability the clean records' likeliest share is called, by outcome and horizon."""
    return {(k, h): float(np.quantile(probability[:, k, h], 1 - share)) for k, h in places}


def moved(
    clean: npt.NDArray[np.floating[Any]],
    shifted: npt.NDArray[np.floating[Any]],
    label: npt.NDArray[np.floating[Any]],
    points: Mapping[tuple[int, int], float],
) -> Moved:
    """Return how far answers moved.

    Args:
        clean: probabilities [N, K, H].
        shifted: of the corrupted records, [N, K, H].
        label: 0, 1 or NaN, [N, K, H].
        points: operating points of estimable outcomes and horizons.
    """
    flips: list[float] = []
    change: list[npt.NDArray[np.floating[Any]]] = []
    errors: list[float] = []
    for (k, h), point in points.items():
        before, after = clean[:, k, h], shifted[:, k, h]
        flips.append(float(((before > point) != (after > point)).mean()))
        change.append(np.abs(after - before))
        known = ~np.isnan(label[:, k, h])
        alone = np.arange(int(known.sum()))
        once = np.ones((len(alone), 1), dtype=np.uint8)
        held = [
            float(calibration_error(Answers(part[known].astype(np.float64), label[known, k, h] == 1, alone), once)[0])
            for part in (before, after)
        ]
        errors.append(held[1] - held[0])
    return Moved(float(np.mean(flips)), float(np.quantile(np.concatenate(change), 0.95)), float(np.mean(errors)))
