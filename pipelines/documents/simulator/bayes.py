"""The best that any reader of a simulated corpus can reach: the posterior of the answer, given what is stated."""

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.documents.simulator.cohort import Cohort
from pipelines.documents.simulator.structure import Structure

Floats = npt.NDArray[np.float64]


def posterior(prior: tuple[float, ...], noise: float) -> Floats:
    """Return P(answer | stated option), f64 [C stated, C answer].

    A passage states the answer with probability 1 - noise, else each of the others alike. Nothing else in a passage
    hangs on the answer, so that this is all that can be known.
    """
    return joint(prior, noise) / joint(prior, noise).sum(1, keepdims=True)


def joint(prior: tuple[float, ...], noise: float) -> Floats:
    """Return P(stated, answer), f64 [C, C]."""
    options = len(prior)
    stated = np.full((options, options), noise / (options - 1))
    np.fill_diagonal(stated, 1 - noise)
    return stated * np.array(prior)


def oracle(cohort: Cohort, held: Structure, noise: float) -> Floats:
    """Return the posterior of each row, f64 [N, C], 0 beyond the options of its task.

    Rare answers among counterfactual rows are as common as others; they are never scored, and have the prior of the
    other rows here.
    """
    width = int(held.catalogue.num_options.max())
    table = np.zeros((len(held.cues), width, width))
    for at, cue in enumerate(held.cues):
        options = len(cue.prior)
        table[at, :options, :options] = posterior(cue.prior, noise)
    place = cohort.truth["id"].replace_strict(held.catalogue.place(), return_dtype=pl.Int64).to_numpy()
    return table[place, cohort.truth["stated"].to_numpy()]


def task_value(prior: tuple[float, ...], noise: float) -> float:
    """Return the minority AUPR of the oracle on endless rows, exactly.

    For each class the rows fall into C groups of one score each; precision and recall are sums over the joint table.
    """
    table = joint(prior, noise)
    given = table / table.sum(1, keepdims=True)
    values: list[float] = []
    for answer in range(len(prior)):
        positive, score = table[:, answer], given[:, answer]
        negative = table.sum(1) - positive
        if positive.sum() > 0.5:
            positive, negative, score = negative, positive, -score
        values.append(average_precision(score, positive, negative))
    return float(np.mean(values))


def average_precision(score: Floats, positive: Floats, negative: Floats) -> float:
    """Return sum over thresholds of (rise of recall) x precision, for masses of positives and negatives by score."""
    levels, group = np.unique(-score, return_inverse=True)
    hits = np.cumsum(np.bincount(group, positive, len(levels)))
    misses = np.cumsum(np.bincount(group, negative, len(levels)))
    return float(np.sum(np.diff(hits, prepend=0.0) * hits / (hits + misses)) / hits[-1])


def headline(held: Structure, noise: float) -> float:
    """Return the mean over parents of the mean over their tasks of `task_value`: the Bayes AUPR of the corpus."""
    parents: dict[str, list[float]] = {}
    for cue, parent in zip(held.cues, held.catalogue.parents, strict=True):
        parents.setdefault(parent, []).append(task_value(cue.prior, noise))
    return float(np.mean([np.mean(values) for values in parents.values()]))
