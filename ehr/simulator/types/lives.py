"""Lives under hidden types: visits, their complaints, and deaths; and what they leave in the record."""

from typing import NamedTuple

import numpy as np
import polars as pl

from ehr.simulator import records
from ehr.simulator.course import BLOCK, LAST_DAY, Bools, Course, Floats, Ints, People, minute, people
from ehr.simulator.diseases import YEAR
from ehr.simulator.records import MINOR_DRUGS, Rows
from ehr.simulator.truth import INDEX_DAY
from ehr.simulator.types import law
from ehr.simulator.visits import OTHER, ROUTINE_CAUSE, Visits, stay

SHORTEST, LONGEST = 0.5, 3.0
"""Years of record before INDEX_DAY."""
DRUG = 0.2
"""Chance that a visit brings a drug, which tells nothing."""


class Seen(NamedTuple):
    """V visits, by patient and time: who, when (days since 1970), which complaint, and whether it is an admission."""

    patient: Ints
    day: Floats
    complaint: Ints
    inpatient: Bools


class Lives(NamedTuple):
    """A block: its patients, their hidden types, all visits under observation, and deaths (inf)."""

    people: People
    kind: Ints
    seen: Seen
    death: Floats


def entered(number: int, draw: np.random.Generator) -> People:
    """Draw the patients of a block; nobody leaves before the records end, but by death."""
    who = people(number, draw)
    entry = minute(INDEX_DAY - YEAR * draw.uniform(SHORTEST, LONGEST, BLOCK))
    birth = np.floor(entry - (who.entry - who.birth))
    return who._replace(entry=entry, birth=birth, leave=np.full(BLOCK, LAST_DAY))


def chosen(weight: Floats, draw: np.random.Generator) -> Ints:
    """Draw a column by each row's chances, [N]."""
    return np.minimum((np.cumsum(weight, axis=1) < draw.random(len(weight))[:, None]).sum(1), weight.shape[1] - 1)


def visited(kind: Ints, begin: Floats, end: Floats, last: Ints | None, draw: np.random.Generator) -> Seen:
    """Draw the visits of N patients from one day to another.

    Args:
        kind: types, [N].
        begin: first day, [N]; where `last` is None there is a visit on it.
        end: last day, [N].
        last: complaint of the visit before, [N]; None where the record begins here.
        draw: random numbers.
    """
    number = draw.poisson(law.VISITS[kind] * np.maximum(end - begin, 0.0))
    opening = int(last is None)
    patient = np.repeat(np.arange(len(kind)), number + opening)
    place = np.arange(len(patient)) - np.repeat(np.cumsum(number + opening) - number - opening, number + opening)
    share = draw.random(len(patient))
    if opening:
        share[place == 0] = 0.0
    day = minute(begin[patient] + share * (end - begin)[patient])
    order = np.lexsort((day, patient))
    patient, day = patient[order], day[order]
    complaint = np.zeros(len(patient), dtype=np.int64)
    held = np.zeros(len(kind), dtype=np.int64) if last is None else last
    for at in range(int(place.max(initial=-1)) + 1):
        rows = np.flatnonzero(place == at)
        who = patient[rows]
        weight = law.FIRST[kind[who]] if opening and at == 0 else law.CHAIN[kind[who], held[who]]
        complaint[rows] = chosen(weight, draw)
        held = held.copy()
        held[who] = complaint[rows]
    return Seen(patient, day, complaint, draw.random(len(patient)) < law.ADMITTED[complaint])


def lives(seed: int, number: int) -> tuple[Lives, np.random.Generator]:
    """Draw a block of patients, and return the generator for what is drawn after."""
    # The other mechanisms begin with the same key; these must not be their patients.
    bits = np.random.Philox(key=np.array([seed, number], dtype=np.uint64)).jumped(2)
    draw = np.random.Generator(bits)
    who = entered(number, draw)
    kind = chosen(law.prior(who), draw)
    death = minute(who.entry + draw.exponential(1 / law.DEATHS[kind]))
    seen = visited(kind, who.entry, np.minimum(death, who.leave), None, draw)
    return Lives(who, kind, seen, death), draw


def events(lives: Lives, draw: np.random.Generator) -> pl.DataFrame:
    """Return EVENTS in canonical order: a complaint a visit, now and then a drug."""
    seen = lives.seen
    size = len(seen.day)
    length = np.where(seen.inpatient, stay(size, draw), draw.integers(20, 61, size) / 1440)
    cause = np.where(seen.inpatient, OTHER, ROUTINE_CAUSE)
    visits = Visits(seen.patient, seen.day, seen.day + length, seen.inpatient, cause, np.zeros(size, dtype=bool))
    none = np.zeros((0, 0))
    course = Course(lives.people, none, none, lives.death, none)
    statics = records.fixed(course)
    begins, ends = records.edges(visits, course)
    treated = np.flatnonzero(draw.random(size) < DRUG)
    rows: list[Rows] = [
        *statics[:3],
        begins,
        records.rows(visits, np.arange(size), records.numbers(law.CODES)[seen.complaint], 0),
        records.rows(visits, treated, draw.choice(records.numbers(MINOR_DRUGS), len(treated)), 10),
        ends,
        statics[3],
    ]
    return records.events(course, rows)


def described() -> dict[str, str]:
    """Return what codes stand for here."""
    told = {code: name.replace("_", " ") for name, code in zip(law.NAMES, law.CODES, strict=True)}
    return told | dict.fromkeys(MINOR_DRUGS, "drug that tells nothing")
