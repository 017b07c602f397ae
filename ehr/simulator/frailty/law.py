"""The law of the mechanism: levels of frailty, how they drift, and what each level does to visits and survival.

Everything runs in months of 30 days that meet at INDEX_DAY. Within a month a patient's rates are constant: they hang
on the hidden level, on how excited visiting is, and on age, sex, site and calendar. Frozen before any model was tuned
on it.
"""

from typing import NamedTuple

import numpy as np

from ehr.simulator.course import FIRST_DAY, LAST_DAY, Floats, Ints, People
from ehr.simulator.diseases import YEAR, Disease
from ehr.simulator.graph import DISEASES as GRAPH
from ehr.simulator.truth import INDEX_DAY

MONTH = 30.0
"""Days."""
FIRST_MONTH = int(np.floor((FIRST_DAY - INDEX_DAY) / MONTH))
LAST_MONTH = int(np.ceil((LAST_DAY - INDEX_DAY) / MONTH))
MONTHS = LAST_MONTH - FIRST_MONTH
LEVELS = 8
LEVEL: Floats = np.linspace(-1.4, 2.1, LEVELS)
"""What each level adds to logarithms of rates, times a slope."""
EXCITED = 4
"""States of excitement: a month's visits raise it to their number, 3 at most; it falls by one a month."""
EXCITES = 0.4
"""Each state of excitement adds this share to the rate of visits."""
VISITS, VISITS_SLOPE = 1.1, 0.5
"""Visits a year at level 0 in calm, and what the level does to their logarithm."""
VISITS_SITE: Floats = np.array([0.0, 0.2, -0.2, 0.1])
SEASON = 0.15
"""Half the swing of visits over the year, highest in January."""
ADMITTED, ADMITTED_SLOPE = 0.07, 0.7
"""Odds that a visit is an admission, and what the level does to their logarithm."""
WORSENS, RECOVERS = (0.008, 0.014, 0.024, 0.040), 0.010
"""Chance of the next higher level a month by band of age, and of the next lower one."""
BANDS: Floats = np.array([50.0, 65.0, 80.0])
DEATHS, DEATHS_PER_DECADE, DEATHS_SLOPE, DEATHS_FEMALE = 0.004, 0.7, 0.9, -0.3
"""Deaths a year of men at 60 and level 0, and what changes their logarithm."""
CODED = 0.02
"""Yearly growth of the logarithm of every rate of diagnosis since 2012: codes are entered more readily."""
DISEASE_SITE: Floats = np.array([0.0, 0.15, -0.1, 0.2])
# Slope of the level by disease: what of the graph's list occurs here.
SLOPES = {
    "hypertension": 0.2, "depression": 0.5, "osteoarthritis": 0.3, "osteoporosis": 0.4, "type_2_diabetes": 0.4,
    "coronary_artery_disease": 0.5, "atrial_fibrillation": 0.5, "chronic_kidney_disease": 0.7, "heart_failure": 0.9,
    "ischemic_stroke": 0.5, "copd": 0.7, "hip_fracture": 0.9, "peripheral_artery_disease": 0.5,
    "alcohol_dependence": 0.3, "dementia": 0.9, "pneumonia": 0.9, "parkinson_disease": 0.5, "cirrhosis": 0.6,
    "pancreatic_cancer": 0.3, "pulmonary_embolism": 0.6,
}  # fmt: skip
DISEASES: tuple[Disease, ...] = tuple(disease for disease in GRAPH if disease.name in SLOPES)
SLOPE: Floats = np.array([SLOPES[disease.name] for disease in DISEASES])
PER_VISIT = 2.2
"""Visits a year by which a disease's rate in the graph becomes a chance at each visit."""
RATE: Floats = np.array([np.log(disease.rate / 1000 / PER_VISIT) for disease in DISEASES])
OLDER: Floats = np.array([disease.per_decade for disease in DISEASES])
FEMALE: Floats = np.array([disease.female for disease in DISEASES])


class Marker(NamedTuple):
    """A lab that tells of frailty: mean and noise on its scale, and what a unit of level adds."""

    code: str
    mean: float
    slope: float
    noise: float


MARKERS = (
    Marker("LOINC//718-7", 13.6, -0.35, 1.1),
    Marker("LOINC//33914-3", 84.0, -6.0, 16.0),
    Marker("LOINC//6690-2", 6.9, 0.35, 1.6),
)
MEASURED = 0.3
"""Chance that a visit measures a marker, whatever the level."""
SIGNS = ("ICD10CM//R53.1", "ICD10CM//R29.6", "ICD10CM//R63.4")
SIGN_ODDS, SIGN_SLOPE = 0.05, 0.8
"""Odds that a visit records a sign of frailty, and what the level does to their logarithm."""


def edge(month: int) -> float:
    """Return the day on which a month begins, days since 1970."""
    return INDEX_DAY + MONTH * month


def chance(odds: Floats | float) -> Floats:
    """Return the probability of odds."""
    return np.asarray(odds / (1 + np.asarray(odds)))


ADMISSION: Floats = chance(ADMITTED * np.exp(ADMITTED_SLOPE * LEVEL))
SIGN: Floats = chance(SIGN_ODDS * np.exp(SIGN_SLOPE * LEVEL))
"""Chance at a visit by level, [LEVELS] each."""


def drift() -> Floats:
    """Return the chances of moving between levels in a month by band of age, [BANDS + 1, LEVELS, LEVELS]."""
    found = np.zeros((len(WORSENS), LEVELS, LEVELS))
    for band, up in enumerate(WORSENS):
        for level in range(LEVELS):
            if level + 1 < LEVELS:
                found[band, level, level + 1] = up
            if level:
                found[band, level, level - 1] = RECOVERS
            found[band, level, level] = 1 - found[band, level].sum()
    return found


DRIFT = drift()
CALM: Ints = np.maximum(np.arange(EXCITED) - 1, 0)


def excited(state: Ints, visits: Ints) -> Ints:
    """Return the state of excitement after a month of so many visits."""
    return np.maximum(CALM[state], np.minimum(visits, EXCITED - 1))


def age(people: People, month: int) -> Floats:
    """Return ages in the middle of a month, years, [N]."""
    return (edge(month) + MONTH / 2 - people.birth) / YEAR


def band(people: People, month: int) -> Ints:
    """Return the band of age of each patient in a month, [N]."""
    return np.searchsorted(BANDS, age(people, month), side="right")


def start(people: People, month: int) -> Floats:
    """Return the chance of each level at entry: the older, the higher, [N, LEVELS]."""
    middle = -1.1 + 0.028 * (age(people, month) - 40.0)
    weight = np.exp(-0.5 * ((LEVEL[None, :] - middle[:, None]) / 0.75) ** 2)
    return weight / weight.sum(axis=1, keepdims=True)


def visit_rate(people: People, month: int) -> Floats:
    """Return visits a month by level in calm, [N, LEVELS]; excitement multiplies them by 1 + EXCITES * state."""
    season = SEASON * np.cos(2 * np.pi * (edge(month) + MONTH / 2 - INDEX_DAY) / YEAR)
    person = VISITS_SITE[people.site] + 0.15 * people.female + season
    return VISITS * MONTH / YEAR * np.exp(person[:, None] + VISITS_SLOPE * LEVEL[None, :])


def death_rate(people: People, month: int) -> Floats:
    """Return deaths a month by level, [N, LEVELS]."""
    decades = (np.clip(age(people, month), 18.0, 95.0) - 60.0) / 10.0
    person = DEATHS_PER_DECADE * decades + DEATHS_FEMALE * people.female
    return DEATHS * MONTH / YEAR * np.exp(person[:, None] + DEATHS_SLOPE * LEVEL[None, :])


def diagnosing(people: People, month: int, numbers: Ints) -> Floats:
    """Return -log of the chance that a visit does not diagnose a disease not yet known, [N, len(numbers), LEVELS].

    Args:
        people: N patients.
        month: in which the visit is.
        numbers: places of diseases in DISEASES.
    """
    decades = (np.clip(age(people, month), 18.0, 95.0) - 60.0) / 10.0
    years = (edge(month) - 15_340.0) / YEAR
    person = DISEASE_SITE[people.site] + CODED * years
    log = RATE[numbers] + OLDER[numbers] * decades[:, None] + FEMALE[numbers] * people.female[:, None]
    return np.exp(log + person[:, None])[:, :, None] * np.exp(SLOPE[numbers][:, None] * LEVEL)
