"""What visits leave in the record under the frailty mechanism, as EVENTS."""

from typing import NamedTuple

import numpy as np
import polars as pl

from ehr.simulator import records
from ehr.simulator.course import Bools, Course, Floats
from ehr.simulator.diseases import YEAR
from ehr.simulator.frailty.law import DISEASES, LEVEL, MARKERS, MEASURED, SIGN, SIGNS
from ehr.simulator.frailty.lives import Lives
from ehr.simulator.graph import INDEX
from ehr.simulator.records import NUMBER, Rows, microseconds
from ehr.simulator.visits import OTHER, ROUTINE_CAUSE, Visits, stay

NAMED, DRUG = 0.3, 0.35
"""Chance that a visit names a known disease, and its drug, whatever the level."""


class Traces(NamedTuple):
    """What bears on frailty: signs at each visit [V, SIGNS], markers as written [V, MARKERS], NaN where unmeasured."""

    signs: Bools
    marker: Floats
    rows: list[Rows]


def write(lives: Lives, draw: np.random.Generator) -> Traces:
    """Draw what visits leave; of one patient and time rows come in the order of this list."""
    seen = lives.seen
    length = np.where(seen.inpatient, stay(len(seen.day), draw), draw.integers(20, 61, len(seen.day)) / 1440)
    cause = np.where(seen.inpatient, OTHER, ROUTINE_CAUSE)
    blank = np.zeros(len(seen.day), dtype=bool)
    visits = Visits(seen.patient, seen.day, seen.day + length, seen.inpatient, cause, blank)
    signs = draw.random((len(seen.day), len(SIGNS))) < SIGN[seen.level][:, None]
    marker = markers(lives, draw)
    course = as_course(lives)
    statics = records.fixed(course)
    begins, ends = records.edges(visits, course)
    # Visits after the end of observation are not seen.
    inside = seen.day <= course.end[seen.patient]
    rows = [
        begins,
        *diagnoses(lives, visits, draw),
        *(
            records.rows(visits, np.flatnonzero(signs[:, i]), codes(code, signs[:, i]), 0)
            for i, code in enumerate(SIGNS)
        ),
        *(measured(visits, marker[:, number], one.code) for number, one in enumerate(MARKERS)),
        *records.minor(visits, draw),
        ends,
    ]
    kept = [within(held, course, visits, inside) for held in rows]
    return Traces(signs, marker, [*statics[:3], *registered(lives), *kept, statics[3]])


def within(held: Rows, course: Course, visits: Visits, inside: Bools) -> Rows:
    """Leave out rows of visits that begin after the end of observation."""
    if inside.all():
        return held
    keep = held.time <= microseconds(course.end)[held.patient]
    # The end of a stay that began in time is written even where it is told later.
    late = np.zeros(len(course.end), dtype=bool)
    late[visits.patient[~inside]] = True
    keep |= ~late[held.patient]
    return Rows(held.patient[keep], held.time[keep], held.code[keep], held.value[keep])


def as_course(lives: Lives) -> Course:
    """Return lives in the form of the first mechanism, as far as writing needs it."""
    none = np.zeros((0, 0))
    return Course(lives.people, none, none, lives.death, none)


def registered(lives: Lives) -> list[Rows]:
    """Return the visits with which observation begins and, of those who stay alive, ends."""
    who = lives.people
    everyone, stayed = np.arange(len(who.entry)), np.flatnonzero(who.leave < lives.death)
    found: list[Rows] = []
    for patient, day in ((everyone, who.entry), (stayed, who.leave[stayed])):
        blank = np.full(len(patient), np.nan)
        for code, minutes in (("VISIT//OP//START", 0), ("VISIT//OP//END", 0)):
            time = microseconds(day) + minutes
            found.append(Rows(patient, time, np.full(len(patient), NUMBER[code]), blank))
    return found


def codes(code: str, there: Bools) -> records.Ints:
    """Return the number of a code as often as it stands there."""
    return np.full(int(there.sum()), NUMBER[code])


def markers(lives: Lives, draw: np.random.Generator) -> Floats:
    """Return markers as they are written, NaN where not measured, [V, MARKERS]."""
    seen = lives.seen
    found = np.full((len(seen.day), len(MARKERS)), np.nan)
    for number, marker in enumerate(MARKERS):
        value = marker.mean + marker.slope * LEVEL[seen.level] + marker.noise * draw.normal(size=len(seen.day))
        taken = draw.random(len(seen.day)) < MEASURED
        # Rounding tells the filter nothing that it does not know: a thousandth against a noise of 1 and more.
        found[taken, number] = np.round(value, 3)[taken]
    return found


def measured(visits: Visits, value: Floats, code: str) -> Rows:
    """Return a marker's rows."""
    at = np.flatnonzero(~np.isnan(value))
    return records.rows(visits, at, np.full(len(at), NUMBER[code]), 5, value[at])


def diagnoses(lives: Lives, visits: Visits, draw: np.random.Generator) -> list[Rows]:
    """Return new diagnoses, known ones named again by later codes as the years go, and drugs."""
    seen, found = lives.seen, list[Rows]()
    known = lives.diagnosis[seen.patient] <= seen.day[:, None]
    since = np.where(known, seen.day[:, None] - lives.diagnosis[seen.patient], 0.0) / YEAR
    named = known & (draw.random(known.shape) < NAMED)
    treated = known & (draw.random(known.shape) < DRUG)
    later = (since / 2.5 + draw.random(known.shape) - 0.5).clip(0).astype(np.int64)
    for number, disease in enumerate(DISEASES):
        new = np.flatnonzero(seen.found[:, number])
        found.append(records.rows(visits, new, np.full(len(new), NUMBER[disease.codes[0]]), 0))
        again = np.flatnonzero(named[:, number] & ~seen.found[:, number])
        table = records.numbers(disease.codes)
        found.append(records.rows(visits, again, table[np.minimum(later[again, number], len(table) - 1)], 0))
        if disease.drugs:
            at = np.flatnonzero(treated[:, number])
            found.append(records.rows(visits, at, np.full(len(at), NUMBER[disease.drugs[0]]), 10))
    return found


def events(lives: Lives, traces: Traces) -> pl.DataFrame:
    """Return EVENTS in canonical order."""
    return records.events(as_course(lives), traces.rows)


def described() -> dict[str, str]:
    """Return what codes stand for here."""
    told: dict[str, str] = dict.fromkeys(SIGNS, "sign of frailty")
    told |= {marker.code: "lab that frailty changes" for marker in MARKERS}
    for disease in DISEASES:
        name = disease.name.replace("_", " ")
        told |= dict.fromkeys(disease.codes, name)
        if disease.drugs:
            told[disease.drugs[0]] = f"drug for {name}"
    assert set(told) <= set(NUMBER), INDEX
    return told
