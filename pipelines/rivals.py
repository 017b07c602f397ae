"""Neural rivals on a cohort: same patients, same tokens, same prediction times, same calibration as the model."""

from collections.abc import Sequence
from pathlib import Path

import jsonargparse
import numpy as np
import numpy.typing as npt

from ehr import calibration
from ehr.baselines.neural.batches import Examples
from ehr.baselines.neural.learner import Learner
from ehr.timelines import Sample, cut
from pipelines.cohort import Cohort, splits, timelines
from pipelines.contest import labelled, probabilities
from pipelines.samples import Questions, samples_and_labels, samples_of

Floats = npt.NDArray[np.float32]


def read(config: Path, rest: Sequence[str] = ()) -> Learner:
    """Make the learner that a file describes.

    Args:
        config: settings in YAML, such as configs/rivals/published.yaml.
        rest: keys given in the command, such as --recipe.init_args.masking code.

    Raises:
        ValueError: there is no such file, or a key or a value is not known.
    """
    if not config.is_file():
        raise ValueError(f"{config}: no such file; expected settings in YAML, such as configs/rivals/published.yaml")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Learner)
    try:
        held = parser.instantiate(parser.parse_args(["--config", str(config), *rest]))
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ValueError(f"{config}: {' '.join(str(error).split())[:400]}; mend it there or in the command") from None
    return Learner(held.recipe, held.schedule)


def answer(cohort: Cohort, learner: Learner, asked: Questions) -> Floats:
    """Train a rival on a cohort and return its calibrated probabilities of the questions asked, f32 [N, K, H].

    Args:
        cohort: it learns from the split train, its epoch is chosen on tuning, and calibration calibrates it, where
            there are such splits.
        learner: the rival.
        asked: N questions.
    """
    tokens = learner.schedule.tokens

    def examples(split: str) -> Examples | None:
        if not labelled(cohort, split):
            return None
        held, samples = samples_and_labels(cohort, split, tokens)
        return Examples(samples, held.label)

    train = examples("train")
    assert train is not None
    learner.fit(train, examples("tuning"), records(cohort, tokens), codes=cohort.vocabulary.size)
    logit = learner.predict(samples_of(timelines(cohort), asked, tokens))
    others = examples("calibration")
    if others is None:
        return probabilities(logit, calibration.identity(logit.shape[1]))
    return probabilities(logit, calibration.fit(learner.predict(others.samples), others.label))


def records(cohort: Cohort, tokens: int) -> list[Sample]:
    """Return the whole records of the training split's patients with a visit, for pretraining without labels."""
    source, held = timelines(cohort), splits(cohort)
    subjects = held["subject_id"].to_numpy()[(held["split"] == "train").to_numpy()].tolist()
    found = [source.record(subject) for subject in subjects]
    return [
        cut(record, int(record.time[-1]), max_length=tokens)
        for record in found
        if len(record.visit) and record.visit[-1] > 0
    ]
