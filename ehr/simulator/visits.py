"""Visits of patients: routine and follow-up visits, admissions, and the readmissions that admissions bring."""

from typing import NamedTuple

import numpy as np

from ehr.simulator.course import (
    CELLS,
    EDGES,
    Bools,
    Course,
    Floats,
    Ints,
    People,
    cumulative,
    decades,
    exposure,
    minute,
)
from ehr.simulator.diseases import EARLY_YEARS, YEAR, Disease
from ehr.simulator.graph import DISEASES

ROUTINE = 0.27
"""Visits a year of a patient of average habit; habit itself is log-normal."""
FOLLOW_UP = 0.45
"""Follow-up visits of diseases are this share of what the graph names."""
ADMISSIONS_AT_60, ADMISSIONS_PER_DECADE = 0.035, 0.35
"""Admissions a year for other causes at age 60, and what a decade of age adds to their logarithm."""
OTHER_READMISSION = 0.12
"""Mean number of readmissions after an admission for another cause."""
SHORTEST_STAY, STAY_DAYS = 0.25, 5.0
"""A stay lasts the first, plus an exponential time of the second on average."""
RETURN_DAYS = 21.0
"""Mean days from discharge to the readmission that an admission brings."""
OTHER, ROUTINE_CAUSE = -1, -2
GENERATIONS = 20


class Visits(NamedTuple):
    """V visits, by patient and time; times in days since 1970."""

    patient: Ints
    start: Floats
    end: Floats
    inpatient: Bools
    cause: Ints
    """Disease that the visit is for; OTHER: admitted for something else; ROUTINE_CAUSE: a routine visit."""
    first: Bools
    """Whether the cause is diagnosed here."""


def readmission(cause: Ints) -> Floats:
    """Return the mean number of readmissions that an admission brings, by its cause."""
    table = np.array([disease.readmission for disease in DISEASES] + [OTHER_READMISSION])
    return table[np.where(cause < 0, len(DISEASES), cause)]


def other_admissions(people: People) -> Floats:
    """Return cumulated rates of admission for other causes at EDGES, [N, CELLS + 1]."""
    rate = np.log(ADMISSIONS_AT_60 / YEAR) + ADMISSIONS_PER_DECADE * decades(people)
    return cumulative(rate, exposure(people.entry))


def scatter(total: Floats, entry: Floats, draw: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw a Poisson process of cumulated rates at EDGES: patients and days."""
    patient = np.repeat(np.arange(len(total)), draw.poisson(total[:, -1]))
    level = draw.random(len(patient)) * total[patient, -1]
    held = total[patient]
    cell = np.minimum((held[:, 1:] <= level[:, None]).sum(axis=1), CELLS - 1)
    row = np.arange(len(patient))
    begin = np.maximum(EDGES[cell], entry[patient])
    low, high = held[row, cell], held[row, cell + 1]
    return patient, begin + (level - low) / np.maximum(high - low, 1e-300) * (EDGES[cell + 1] - begin)


def spread(yearly: Floats | float, begin: Floats, end: Floats, draw: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw a Poisson process of constant rate from begin to end: patients and days."""
    length = np.where(np.isfinite(begin), np.clip(end - np.where(np.isfinite(begin), begin, 0.0), 0.0, None), 0.0)
    patient = np.repeat(np.arange(len(begin)), draw.poisson(np.asarray(yearly) / YEAR * length))
    return patient, begin[patient] + draw.random(len(patient)) * length[patient]


def fading(disease: Disease, begin: Floats, draw: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw the admissions that follow a diagnosis closely: patients and days."""
    scale = EARLY_YEARS * YEAR
    expected = np.where(np.isfinite(begin), disease.early_admissions * EARLY_YEARS, 0.0)
    patient = np.repeat(np.arange(len(begin)), draw.poisson(expected))
    return patient, begin[patient] + draw.exponential(scale, len(patient))


def stay(number: int, draw: np.random.Generator) -> Floats:
    """Draw lengths of stay, days."""
    return SHORTEST_STAY + draw.exponential(STAY_DAYS, number)


def returns(seeds: Visits, draw: np.random.Generator) -> list[Visits]:
    """Draw readmissions, those of readmissions too: each admission brings a Poisson number of them."""
    found: list[Visits] = []
    parents = seeds
    for _ in range(GENERATIONS):
        parent = np.repeat(np.arange(len(parents.patient)), draw.poisson(readmission(parents.cause)))
        if not len(parent):
            break
        start = minute(parents.end[parent] + draw.exponential(RETURN_DAYS, len(parent)))
        parents = Visits(
            parents.patient[parent],
            start,
            minute(start + stay(len(parent), draw)),
            np.ones(len(parent), dtype=bool),
            parents.cause[parent],
            np.zeros(len(parent), dtype=bool),
        )
        found.append(parents)
    return found


def made(patient: Ints, start: Floats, cause: int, draw: np.random.Generator, **what: bool) -> Visits:
    """Return visits of one cause; a visit in the clinic takes 20 to 60 minutes."""
    inpatient = what.get("inpatient", False)
    length = stay(len(patient), draw) if inpatient else draw.integers(20, 61, len(patient)) / 1440
    start = minute(start)
    return Visits(
        patient.astype(np.int64),
        start,
        minute(start + length),
        np.full(len(patient), inpatient),
        np.full(len(patient), cause),
        np.full(len(patient), what.get("first", False)),
    )


def joined(parts: list[Visits]) -> Visits:
    """Put visits of several kinds together."""
    return Visits(
        np.concatenate([part.patient for part in parts]),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.end for part in parts]),
        np.concatenate([part.inpatient for part in parts]),
        np.concatenate([part.cause for part in parts]),
        np.concatenate([part.first for part in parts]),
    )


def taken(held: Visits, rows: Ints) -> Visits:
    """Return the visits in some rows, in that order."""
    return Visits(
        held.patient[rows], held.start[rows], held.end[rows], held.inpatient[rows], held.cause[rows], held.first[rows]
    )


def clinic(course: Course, draw: np.random.Generator) -> list[Visits]:
    """Draw visits without admission: registration, routine, follow-up, and the last one."""
    who, end = course.people, course.end
    everyone = np.arange(len(end))
    stayed = np.flatnonzero(who.leave < course.death)
    parts = [
        made(everyone, who.entry, ROUTINE_CAUSE, draw),
        # Follow-up ends with a visit, so the last event tells how long a patient was seen.
        made(stayed, who.leave[stayed], ROUTINE_CAUSE, draw),
        made(*spread(ROUTINE * who.frailty, who.entry, end, draw), ROUTINE_CAUSE, draw),
    ]
    for i, disease in enumerate(DISEASES):
        parts.append(made(*spread(FOLLOW_UP * disease.visits, course.diagnosis[:, i], end, draw), i, draw))
        if not disease.acute:
            seen = np.flatnonzero(course.diagnosis[:, i] <= end)
            parts.append(made(seen, course.diagnosis[seen, i], i, draw, first=True))
    return parts


def admitted(course: Course, draw: np.random.Generator) -> list[Visits]:
    """Draw admissions that no earlier admission brought."""
    who, end = course.people, course.end
    parts = [made(*scatter(other_admissions(who), who.entry, draw), OTHER, draw, inpatient=True)]
    for i, disease in enumerate(DISEASES):
        begin = course.diagnosis[:, i]
        parts.append(made(*spread(disease.admissions, begin, end, draw), i, draw, inpatient=True))
        parts.append(made(*fading(disease, begin, draw), i, draw, inpatient=True))
        if disease.acute:
            seen = np.flatnonzero(begin <= end)
            parts.append(made(seen, begin[seen], i, draw, inpatient=True, first=True))
    return parts


def visits(course: Course, draw: np.random.Generator) -> Visits:
    """Draw all visits under observation, sorted by patient and time."""
    seeds = joined(admitted(course, draw))
    found = joined([seeds, *returns(seeds, draw), *clinic(course, draw)])
    found = taken(found, np.flatnonzero(found.start <= course.end[found.patient]))
    return taken(found, np.lexsort((found.start, found.patient)))
