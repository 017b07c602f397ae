"""Baselines on the cohort of an evaluation: same patients, same prediction times, same calibration as the model."""

import numpy as np
import numpy.typing as npt

from ehr import calibration
from ehr.baselines import design
from ehr.baselines.features import Features, features
from ehr.baselines.models import MODELS, Labelled, answers
from pipelines.answering import Match
from pipelines.cohort import Cohort, events, splits, timelines
from pipelines.progress import Track
from pipelines.samples import Questions, questions_of

Floats = npt.NDArray[np.float32]


def contest(cohort: Cohort, asked: Questions, matches: list[Match]) -> dict[str, Floats]:
    """Fit the baselines and return their probabilities on the questions asked.

    Args:
        cohort: its training split is learnt from, its tuning split chooses settings, and on its calibration split
            probabilities are calibrated, where there are such splits.
        asked: N questions.
        matches: outcomes and horizons to answer.

    Returns:
        By model, f32 [N, K, H] in the cohort's axes; NaN where no match is.
    """
    slots = [held.cohort for held in matches]
    parts = {name: questions_of(cohort, name) for name in ("train", "tuning", "calibration") if labelled(cohort, name)}
    found: dict[str, Features] = {}
    with Track(
        "baselines: counting codes, samples", sum(len(q.subject) for q in parts.values()) + len(asked.subject)
    ) as bar:
        source, frames = timelines(cohort), events(cohort)
        for name, part in {**parts, "asked": asked}.items():
            found[name] = features(source, frames, part.subject, part.time, cohort.vocabulary)
            bar.advance(len(part.subject))
    made = design.fit(found["train"])
    columns = {name: design.apply(made, held) for name, held in found.items()}
    train = Labelled(columns["train"], parts["train"].label)
    tuning = Labelled(columns["tuning"], parts["tuning"].label) if "tuning" in parts else None
    fitted = [columns["asked"], *([columns["calibration"]] if "calibration" in parts else [])]
    logits = [
        {model: np.full((len(part.dense), *asked.label.shape[1:]), np.nan, np.float32) for model in MODELS}
        for part in fitted
    ]
    with Track("baselines: fitting, outcomes and horizons", len(slots)) as bar:
        for (k, h), answered in zip(slots, answers(train, tuning, fitted, slots), strict=True):
            for model, given in answered.items():
                for held, values in zip(logits, given, strict=True):
                    held[model][:, k, h] = values
            bar.advance()
    if "calibration" not in parts:
        same = calibration.identity(asked.label.shape[1])
        return {model: probabilities(held, same) for model, held in logits[0].items()}
    label = np.full_like(parts["calibration"].label, np.nan)
    for slot in slots:
        label[(slice(None), *slot)] = parts["calibration"].label[(slice(None), *slot)]
    return {model: probabilities(held, calibration.fit(logits[1][model], label)) for model, held in logits[0].items()}


def labelled(cohort: Cohort, split: str) -> bool:
    """Return whether a split is there and has labels."""
    if split not in splits(cohort)["split"].unique():
        return False
    try:
        questions_of(cohort, split)
    except ValueError:
        return False
    return True


def probabilities(logit: Floats, held: calibration.Calibration) -> Floats:
    """Return calibrated probabilities of logits f32 [N, K, H]; NaN stays NaN."""
    there = ~np.isnan(logit)
    # The running maximum over horizons passes over what is not there.
    return np.where(there, calibration.apply(held, np.where(there, logit, -1e4)), np.float32(np.nan))
