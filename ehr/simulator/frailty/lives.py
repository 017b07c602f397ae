"""Lives under the frailty mechanism: levels, visits, diagnoses and deaths, month by month."""

from typing import NamedTuple

import numpy as np

from ehr.simulator.course import BLOCK, Bools, Floats, Ints, People, minute, people
from ehr.simulator.frailty import law
from ehr.simulator.frailty.law import ADMISSION, DISEASES, DRIFT, EXCITES, FIRST_MONTH, LAST_MONTH, MONTH


class State(NamedTuple):
    """N patients at the beginning of a month: hidden level, excitement, and days of diagnoses and death (inf)."""

    level: Ints
    excited: Ints
    diagnosis: Floats
    death: Floats


class Seen(NamedTuple):
    """V visits, by month, then patient and time: who, when (days since 1970), the level behind it, what it brought."""

    patient: Ints
    day: Floats
    level: Ints
    inpatient: Bools
    found: Bools
    """Diseases diagnosed there, [V, DISEASES]."""


class Lives(NamedTuple):
    """A block: its patients, all visits before death, and how it ended."""

    people: People
    seen: Seen
    diagnosis: Floats
    death: Floats
    excited: Ints
    """State of excitement at the beginning of each month, [MONTHS, N]."""


def chosen(weight: Floats, draw: np.random.Generator) -> Ints:
    """Draw a column by each row's chances, [N]."""
    return np.minimum((np.cumsum(weight, axis=1) < draw.random(len(weight))[:, None]).sum(1), weight.shape[1] - 1)


def lived(who: People, state: State, month: int, active: Bools, draw: np.random.Generator) -> tuple[State, Seen]:
    """Live one month; those not active stay as they are."""
    rows = np.flatnonzero(active)
    some = who.take(rows)
    level, begin = state.level[rows], law.edge(month)
    own = np.arange(len(rows))
    end = begin + draw.exponential(size=len(rows)) / law.death_rate(some, month)[own, level] * MONTH
    died = end < begin + MONTH
    rate = law.visit_rate(some, month)[own, level] * (1 + EXCITES * state.excited[rows])
    number = draw.poisson(rate)
    at = np.repeat(own, number)
    day = minute(begin + MONTH * draw.random(len(at)))
    order = np.lexsort((day, at))
    at, day = at[order], day[order]
    before = day < end[at]
    at, day = at[before], day[before]
    seen, diagnosis = looked(some, state.diagnosis[rows], month, level[at], at, day, draw)
    after = State(state.level.copy(), state.excited.copy(), state.diagnosis.copy(), state.death.copy())
    after.diagnosis[rows] = diagnosis
    after.death[rows[died]] = minute(end[died])
    after.excited[rows] = law.excited(state.excited[rows], number)
    after.level[rows] = chosen(DRIFT[law.band(some, month), level], draw)
    return after, seen._replace(patient=rows[at])


def looked(
    who: People, diagnosis: Floats, month: int, level: Ints, at: Ints, day: Floats, draw: np.random.Generator
) -> tuple[Seen, Floats]:
    """Draw what visits bring, and return them with the days of diagnoses after them, [N, DISEASES]."""
    inpatient = draw.random(len(at)) < ADMISSION[level]
    numbers = np.arange(len(DISEASES))
    some = who.take(at)
    rate = law.diagnosing(some, month, numbers)[np.arange(len(at))[:, None], numbers, level[:, None]]
    hit = (draw.random(rate.shape) < -np.expm1(-rate)) & np.isinf(diagnosis[at])
    first = diagnosis.copy()
    visit, disease = np.nonzero(hit)
    np.minimum.at(first, (at[visit], disease), day[visit])
    # Of several visits in a month the first one diagnoses.
    found = hit & (first[at] == day[:, None])
    return Seen(at, day, level, inpatient, found), first


def entered(number: int, draw: np.random.Generator) -> People:
    """Draw the patients of a block; they enter at the beginning of a month."""
    who = people(number, draw)
    month = np.ceil((who.entry - law.INDEX_DAY) / MONTH)
    return who._replace(entry=law.INDEX_DAY + MONTH * month)


def lives(seed: int, number: int) -> tuple[Lives, np.random.Generator]:
    """Draw a block of patients, and return the generator for what is drawn after."""
    # The first mechanism begins with the same key; these must not be its patients.
    bits = np.random.Philox(key=np.array([seed, number], dtype=np.uint64)).jumped()
    draw = np.random.Generator(bits)
    who = entered(number, draw)
    size = BLOCK
    none = np.full((size, len(DISEASES)), np.inf)
    state = State(np.zeros(size, np.int64), np.zeros(size, np.int64), none, np.full(size, np.inf))
    parts: list[Seen] = []
    excitement = np.zeros((law.MONTHS, size), dtype=np.int64)
    for month in range(FIRST_MONTH, LAST_MONTH):
        begin = law.edge(month)
        new = who.entry == begin
        if new.any():
            state.level[new] = chosen(law.start(who.take(new), month), draw)
        excitement[month - FIRST_MONTH] = state.excited
        active = (who.entry <= begin) & (who.leave > begin) & (state.death > begin)
        if active.any():
            state, seen = lived(who, state, month, active, draw)
            parts.append(seen)
    seen = Seen(
        np.concatenate([part.patient for part in parts]),
        np.concatenate([part.day for part in parts]),
        np.concatenate([part.level for part in parts]),
        np.concatenate([part.inpatient for part in parts]),
        np.concatenate([part.found for part in parts]),
    )
    return Lives(who, seen, state.diagnosis, state.death, excitement), draw
