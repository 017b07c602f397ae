"""Futures that cannot be: codes of the other sex or of another age, and what a life holds once, twice."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.codes import match
from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary
from pipelines.rethink.patients.settings import Contradictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
YEAR = 365.25
BEARING = (10.0, 60.0)
"""Years of age between which codes of childbearing may stand."""


class Rules(NamedTuple):
    """Which tokens are told apart, bool [V] each."""

    female: Bools
    male: Bools
    bearing: Bools
    once: Bools
    is_female: Bools
    is_male: Bools


def rules_of(vocabulary: Vocabulary, asked: Contradictions) -> Rules:
    """Return the rules as tokens."""
    codes = [vocabulary.codes[at] for at in vocabulary.bare().tolist()]
    groups = (asked.female, asked.male, asked.bearing, asked.once, ("SEX//F", "GENDER//F"), ("SEX//M", "GENDER//M"))
    return Rules(*(np.array(match(codes, group), dtype=bool) for group in groups))


def contradicted(rules: Rules, sample: Sample, future: Ints, token: Ints, days: Floats, number: int) -> Bools:
    """Return which futures hold what cannot be, bool [N].

    What comes after death is impossible by the grammar, and never drawn.

    Args:
        rules: by token.
        sample: the record, which tells sex, age and what was once already.
        future: of each step, i64 [M].
        token: i64 [M].
        days: after the prediction time, f64 [M].
        number: N.
    """
    wrong = np.zeros(len(token), dtype=bool)
    if rules.is_female[sample.token].any():
        wrong |= rules.male[token]
    if rules.is_male[sample.token].any():
        wrong |= rules.female[token]
    age = (sample.query_age_days + days) / YEAR
    wrong |= rules.bearing[token] & ((age < BEARING[0]) | (age > BEARING[1]))
    once = np.flatnonzero(rules.once[token])
    if len(once):
        had = np.isin(token[once], sample.token)
        pairs = np.stack([future[once], token[once]])
        _, first = np.unique(pairs, axis=1, return_index=True)
        again = np.ones(len(once), dtype=bool)
        again[first] = False
        wrong[once] |= had | again
    return np.bincount(future, wrong, minlength=number) > 0
