"""The plain model that a model's errors stand beside: logistic regression on counts, fitted in the same run."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from ehr.baselines import design
from ehr.baselines.design import Columns, Design
from ehr.baselines.features import Features, features
from ehr.baselines.models import Labelled, logistic, task_of
from ehr.timelines import Timelines
from ehr.vocabulary import Vocabulary
from pipelines.answering import Model, records
from pipelines.cohort import Cohort, events
from pipelines.contest import labelled
from pipelines.samples import Questions, questions_of

MOST = 20_000
"""Training samples, at most."""
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Reference(NamedTuple):
    """A logistic regression for each outcome and horizon.

    Attributes:
        design: how features become columns.
        weight: f64 [S, D], S outcomes and horizons.
        intercept: f64 [S].
        places: k, h of each in the cohort's axes.
        shape: K, H.
        vocabulary: whose tokens are counted.
    """

    design: Design
    weight: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]
    places: list[tuple[int, int]]
    shape: tuple[int, int]
    vocabulary: Vocabulary

    def logit(self, source: Timelines, frame: pl.LazyFrame, subject: Ints, time: Ints) -> Floats:
        """Return logits f32 [N, K, H], NaN where nothing was fitted.

        Args:
            source: timelines of N records.
            frame: EVENTS of the same.
            subject: whose, i64 [N].
            time: prediction times, microseconds since 1970, i64 [N].
        """
        columns = design.apply(self.design, features(source, [frame], subject, time, self.vocabulary))
        answer = columns.linear @ self.weight.T + self.intercept
        found = np.full((len(subject), *self.shape), np.nan, np.float32)
        for number, (k, h) in enumerate(self.places):
            found[:, k, h] = answer[:, number]
        return found


def fit(model: Model, cohort: Cohort, places: list[tuple[int, int]]) -> Reference | None:
    """Fit the reference on the cohort's training split; None where that has no labels.

    Args:
        model: whose vocabulary is counted.
        cohort: prepared records.
        places: k, h in the cohort's axes.
    """
    if not labelled(cohort, "train"):
        return None
    train = counted(model, cohort, thinned(questions_of(cohort, "train")))
    tuned = thinned(questions_of(cohort, "tuning")) if labelled(cohort, "tuning") else None
    made = design.fit(train[0])
    columns = design.apply(made, train[0])
    learnt = Labelled(columns, train[1])
    tuning = None
    if tuned is not None:
        held = counted(model, cohort, tuned)
        tuning = Labelled(design.apply(made, held[0]), held[1])
    width = columns.linear.shape[1]
    # A linear model is known by what it answers to nothing and to each column alone.
    units = sparse.vstack([sparse.csr_matrix((1, width)), sparse.identity(width, format="csr")], format="csr")
    probe = Columns(columns.tokens[:0], columns.dense[:0], units)
    answers: list[npt.NDArray[np.float64]] = []
    kept: list[tuple[int, int]] = []
    for k, h in places:
        task = task_of(learnt, tuning, k, h)
        if 0 < int(task.positive.sum()) < len(task.positive):
            answers.append(np.asarray(logistic(task)(probe), np.float64))
            kept.append((k, h))
    held_ = np.stack(answers) if answers else np.zeros((0, width + 1))
    shape = (train[1].shape[1], train[1].shape[2])
    return Reference(made, held_[:, 1:] - held_[:, :1], held_[:, 0], kept, shape, model.vocabulary)


def counted(model: Model, cohort: Cohort, asked: Questions) -> tuple[Features, Floats]:
    """Return features and labels of questions."""
    source = records(cohort, model.vocabulary, asked.subject)
    return features(source, events(cohort), asked.subject, asked.time, model.vocabulary), asked.label


def thinned(asked: Questions) -> Questions:
    """Return at most MOST questions, evenly spread."""
    if len(asked.subject) <= MOST:
        return asked
    at = np.linspace(0, len(asked.subject) - 1, MOST).astype(np.int64)
    return Questions(asked.subject[at], asked.time[at], asked.label[at])
