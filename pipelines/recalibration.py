"""Recalibration of a release on another cohort: its network as it is, its probabilities fitted to who is there."""

import numpy as np
import numpy.typing as npt

from ehr import calibration as calibrations
from ehr.calibration import FEW, Calibration
from pipelines.answering import Match, Model, ask
from pipelines.cohort import Cohort
from pipelines.samples import questions_of

SPLIT = "calibration"
Floats = npt.NDArray[np.float32]


def recalibrate(model: Model, cohort: Cohort, matches: list[Match]) -> tuple[Calibration, list[str]]:
    """Fit the calibration of a model on the calibration split of a cohort.

    Returns:
        The calibration, and the outcomes that keep the one they have, for want of 10 positives or negatives.

    Raises:
        ValueError: the cohort has no labelled calibration split.
    """
    asked = questions_of(cohort, SPLIT)
    logit = ask(model, cohort, asked, "recalibrating, samples").logit
    label = np.full(logit.shape, np.nan, np.float32)
    for held in matches:
        label[(slice(None), *held.model)] = asked.label[(slice(None), *held.cohort)]
    fewer = np.minimum((label == 1).sum((0, 2)), (label == 0).sum((0, 2)))
    kept = fewer < FEW
    names = [name for name, keeps in zip(model.registry.names, kept, strict=True) if keeps]
    return merged(model.calibration, calibrations.fit(logit, label), kept), names


def merged(old: Calibration, new: Calibration, keep: npt.NDArray[np.bool_]) -> Calibration:
    """Return the new calibration with the old one of some outcomes.

    Args:
        old: of K outcomes, with J pieces.
        new: of the same outcomes, with other pieces.
        keep: which outcomes keep the old one, bool [K].
    """
    width = max(old.knots.shape[1], new.knots.shape[1])

    def chosen(first: Floats, second: Floats) -> Floats:
        if first.ndim == 1:
            return np.where(keep, first, second)
        padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (first, second)]
        return np.where(keep[:, None], *padded)

    return Calibration(*(chosen(first, second) for first, second in zip(old, new, strict=True)))
