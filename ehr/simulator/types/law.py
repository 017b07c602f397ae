"""The law of the mechanism: types of patients, and what each does to visits, complaints and survival.

A patient has one of four types for life, which no record names. Visits come by chance at the type's rate, and each
brings one complaint: the next of a Markov chain whose transitions are the type's. Deaths come at the type's rate too.
Frozen before any model was tuned on it.
"""

import numpy as np

from ehr.simulator.course import Floats, People
from ehr.simulator.diseases import YEAR, icd

TYPES = 4
COMPLAINTS = {
    "respiratory_infection": "J06.9", "back_pain": "M54.50", "urinary_infection": "N39.0", "dermatitis": "L30.9",
    "migraine": "G43.909", "constipation": "K59.00", "rhinitis": "J30.9", "abdominal_pain": "R10.9",
    "gallstones": "K80.20", "kidney_stone": "N20.0", "cellulitis": "L03.90", "insomnia": "G47.00",
}  # fmt: skip
NAMES = tuple(COMPLAINTS)
CODES = icd(*COMPLAINTS.values())
STATES = len(CODES)
VISITS: Floats = np.array([3.0, 3.3, 3.7, 4.2]) / YEAR
"""Visits a day by type."""
DEATHS: Floats = np.array([0.008, 0.012, 0.018, 0.030]) / YEAR
"""Deaths a day by type."""
STEP = (1, 3, 5, 8)
"""How far along the list a type's next complaint lies, where it follows from the last."""
STAYS, FOLLOWS = 0.10, 0.20
"""Chance that a complaint comes again, and that the next one follows from it; else it is one that the type favours."""
FADING, FAVOURED = 0.12, 3.5
"""How fast complaints grow rarer along the list, and how much likelier a type makes every fourth one."""
SHARE: Floats = np.array([0.32, 0.28, 0.22, 0.18])
OLDER: Floats = np.array([-0.20, 0.0, 0.10, 0.25])
"""What a decade of age above 50 at entry adds to the logarithm of a type's odds."""
FEMALE: Floats = np.array([0.3, 0.0, -0.3, 0.0])
ADMITTED: Floats = np.array([0.02, 0.02, 0.06, 0.01, 0.03, 0.03, 0.01, 0.10, 0.35, 0.25, 0.15, 0.01])
"""Chance that a visit is an admission, by its complaint alone."""


def favoured() -> Floats:
    """Return the complaints that a type favours, each row a law, [TYPES, STATES]."""
    number = np.arange(STATES)
    weight = np.exp(-FADING * number) * np.where(number % TYPES == np.arange(TYPES)[:, None], FAVOURED, 1.0)
    return weight / weight.sum(axis=1, keepdims=True)


def chain() -> Floats:
    """Return the chance of each complaint after each, by type, [TYPES, STATES, STATES]."""
    table = np.repeat((1 - STAYS - FOLLOWS) * favoured()[:, None, :], STATES, axis=1)
    number = np.arange(STATES)
    table[:, number, number] += STAYS
    for kind, step in enumerate(STEP):
        table[kind, number, (number + step) % STATES] += FOLLOWS
    return table


FIRST = favoured()
"""Law of the complaint at entry, [TYPES, STATES]."""
CHAIN = chain()


def prior(people: People) -> Floats:
    """Return the chance of each type by age and sex, [N, TYPES]."""
    decades = (people.entry - people.birth) / YEAR / 10.0 - 5.0
    log = np.log(SHARE) + OLDER * decades[:, None] + FEMALE * people.female[:, None]
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)
