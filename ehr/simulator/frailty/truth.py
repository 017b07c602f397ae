"""True risk under the frailty mechanism: a forward filter over the hidden level, then a forward pass ahead.

What the record shows up to the prediction time tells of the level by Bayes' rule, month by month: the number of
visits, whether each was an admission, diagnoses and their absence, signs, and markers. Excitement is known from the
visits. Ahead, level and excitement make a finite chain, from which events and deaths are taken out as they come; both
are Poisson given the chain, so parts of months are exact too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.simulator.course import Bools, Floats, Ints, People
from ehr.simulator.frailty import law
from ehr.simulator.frailty.law import (
    ADMISSION,
    DISEASES,
    DRIFT,
    EXCITED,
    EXCITES,
    FIRST_MONTH,
    LEVEL,
    LEVELS,
    MARKERS,
    MONTH,
    SIGN,
)
from ehr.simulator.frailty.lives import Lives
from ehr.simulator.frailty.traces import Traces
from ehr.simulator.records import microseconds
from ehr.simulator.truth import ADMISSION as ADMISSION_NAME
from ehr.simulator.truth import ADMISSION_DAYS, DEATH, GAP_DAYS, HORIZONS_DAYS, INDEX_DAY, TRUTH

Singles = npt.NDArray[np.float32]
MULTIPLIER: Singles = (1 + EXCITES * np.arange(EXCITED, dtype=np.float32))[:, None]


class Belief(NamedTuple):
    """B patients at INDEX_DAY: who (rows of the block), the chance of each level [B, LEVELS], and excitement [B]."""

    patient: Ints
    level: Floats
    excited: Ints

    def take(self, rows: Bools | slice) -> "Belief":
        """Return the patients in some rows."""
        return Belief(self.patient[rows], self.level[rows], self.excited[rows])


def visit_evidence(lives: Lives, traces: Traces) -> Floats:
    """Return the log-likelihood of what each visit brought, by level, [V, LEVELS]."""
    seen = lives.seen
    found = np.where(seen.inpatient[:, None], np.log(ADMISSION), np.log1p(-ADMISSION))
    for sign in range(traces.signs.shape[1]):
        found += np.where(traces.signs[:, sign, None], np.log(SIGN), np.log1p(-SIGN))
    for number, marker in enumerate(MARKERS):
        rest = traces.marker[:, number, None] - marker.mean - marker.slope * LEVEL
        found += np.where(np.isnan(rest), 0.0, -0.5 * (rest / marker.noise) ** 2)
    numbers = np.arange(len(DISEASES))
    month = np.floor((seen.day - INDEX_DAY) / MONTH).astype(np.int64)
    for own in np.unique(month):
        rows = np.flatnonzero(month == own)
        who = lives.people.take(seen.patient[rows])
        rate = law.diagnosing(who, int(own), numbers)
        unknown = lives.diagnosis[seen.patient[rows]] >= seen.day[rows, None]
        found[rows] -= (unknown[:, None, :] @ rate)[:, 0]
        visit, disease = np.nonzero(seen.found[rows])
        held = rate[visit, disease]
        np.add.at(found, rows[visit], held + np.log(-np.expm1(-held)))
    return found


def filtered(lives: Lives, traces: Traces) -> Belief:
    """Return what the records up to INDEX_DAY tell of those under observation then."""
    people = lives.people
    end = np.minimum(lives.death, people.leave)
    patient = np.flatnonzero((people.entry <= INDEX_DAY) & (end > INDEX_DAY))
    seen = lives.seen
    row_of = np.full(len(people.entry), -1)
    row_of[patient] = np.arange(len(patient))
    evidence = visit_evidence(lives, traces)
    month = np.floor((seen.day - INDEX_DAY) / MONTH).astype(np.int64)
    who = people.take(patient)
    belief = np.full((len(patient), LEVELS), 1.0 / LEVELS)
    for at in range(FIRST_MONTH, 0):
        new = who.entry == law.edge(at)
        if new.any():
            belief[new] = law.start(who.take(new), at)
        here = np.flatnonzero((month == at) & (row_of[seen.patient] >= 0))
        row = row_of[seen.patient[here]]
        log = np.zeros((len(patient), LEVELS))
        np.add.at(log, row, evidence[here])
        rate = law.visit_rate(who, at) * MULTIPLIER[lives.excited[at - FIRST_MONTH, patient]]
        number = np.bincount(row, minlength=len(patient))
        log += number[:, None] * np.log(rate) - rate - law.death_rate(who, at)
        there = who.entry <= law.edge(at)
        belief[there] = moved(belief[there], log[there], DRIFT[law.band(who, at)[there]])
    return Belief(patient, belief, lives.excited[-FIRST_MONTH, patient])


def moved(belief: Floats, log: Floats, drift: Floats) -> Floats:
    """Return the chances of levels a month later: Bayes' rule, then the drift.

    Args:
        belief: at the beginning of the month, [B, LEVELS].
        log: log-likelihood of the month by level, [B, LEVELS].
        drift: [B, LEVELS, LEVELS].
    """
    weight = belief * np.exp(log - log.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return (weight[:, None, :] @ drift)[:, 0]


class Month(NamedTuple):
    """Rates of one month of B patients: visits in calm [LEVELS, B], deaths, and drift [LEVELS or less, 1, B]."""

    who: People
    number: int
    visits: Singles
    death: Singles
    stays: Singles
    rises: Singles
    falls: Singles


def months(people: People, belief: Belief, days: float) -> list[Month]:
    """Return the months up to so many days after INDEX_DAY."""
    who = people.take(belief.patient)
    tables = [np.stack([np.diagonal(table, shift) for table in DRIFT]).astype(np.float32) for shift in (0, 1, -1)]
    found: list[Month] = []
    for number in range(int(np.ceil(days / MONTH))):
        band = law.band(who, number)
        visits, death = (rate(who, number).T.astype(np.float32) for rate in (law.visit_rate, law.death_rate))
        stays, rises, falls = (np.ascontiguousarray(table[band].T)[:, None] for table in tables)
        found.append(Month(who, number, visits, death[:, None], stays, rises, falls))
    return found


def ahead(held: list[Month], belief: Belief, number: int | None, days: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return the chance of an event, and of life without it, by so many days after INDEX_DAY, [B, len(days)] each.

    The event comes before death; it is a diagnosis, an admission (`number` is len(DISEASES)), or nothing at all (None:
    then the first result is zero). Chances are carried in single precision, sums in double.

    Args:
        held: what `months` returns.
        belief: B patients.
        number: the event.
        days: ascending.
    """
    size = len(belief.patient)
    mass = np.zeros((LEVELS, EXCITED, size), np.float32)
    mass[:, belief.excited, np.arange(size)] = belief.level.T
    total = np.zeros(size)
    event, living = np.zeros((size, len(days))), np.zeros((size, len(days)))
    for month in held[: int(np.ceil(days[-1] / MONTH))]:
        brings = month.visits * per_visit(month, number)
        ends = brings[:, None] * MULTIPLIER
        gone = ends + month.death
        ends /= gone
        ends *= mass
        for column, day in enumerate(days):
            part = np.float32(day / MONTH - month.number)
            if 0 < part <= 1:
                event[:, column] = total - (ends * np.expm1(-gone * part)).sum((0, 1), dtype=np.float64)
                living[:, column] = (mass * np.exp(-gone * part)).sum((0, 1), dtype=np.float64)
        gone = np.expm1(-gone)
        total -= (ends * gone).sum((0, 1), dtype=np.float64)
        gone += 1
        mass *= gone
        quiet = np.asarray((month.visits - brings)[:, None] * MULTIPLIER, np.float32)
        mass = drifted(stepped(mass, quiet), month)
    return event, living


def per_visit(month: Month, number: int | None) -> Singles:
    """Return the chance that a visit brings the event, by level, [LEVELS, B]."""
    if number is None:
        return np.zeros_like(month.visits)
    if number == len(DISEASES):
        return np.broadcast_to(ADMISSION.astype(np.float32)[:, None], month.visits.shape)
    rate = law.diagnosing(month.who, month.number, np.array([number]))[:, 0]
    return -np.expm1(-rate.T.astype(np.float32))


def stepped(spared: Singles, quiet: Singles) -> Singles:
    """Return the chances after a month's visits, [LEVELS, EXCITED, B].

    Args:
        spared: chances of level and excitement, alive and without the event at the end of the month; overwritten.
        quiet: visits of the month that do not bring the event, as `spared`.
    """
    found = np.zeros_like(spared)
    term = np.exp(-quiet)
    term *= spared
    for visits in range(EXCITED - 1):
        # Excitement that is high falls by one; that below the visits of the month rises to them.
        low = visits + 2
        found[:, visits] += term[:, :low].sum(axis=1)
        found[:, visits + 1 : EXCITED - 1] += term[:, low:]
        spared -= term
        term *= quiet
        term *= np.float32(1 / (visits + 1))
    found[:, EXCITED - 1] = spared.sum(axis=1)
    return found


def drifted(mass: Singles, month: Month) -> Singles:
    """Return the chances after the month's drift between neighbouring levels, [LEVELS, EXCITED, B]."""
    found = mass * month.stays
    found[1:] += mass[:-1] * month.rises
    found[:-1] += mass[1:] * month.falls
    return found


def truth(lives: Lives, traces: Traces) -> pl.DataFrame:
    """Return TRUTH at INDEX_DAY, sorted; readmission, which is asked at discharges, is not among it."""
    belief = filtered(lives, traces)
    days = (GAP_DAYS, *(GAP_DAYS + horizon for horizon in HORIZONS_DAYS))
    found: list[pl.DataFrame] = []
    held = months(lives.people, belief, days[-1])
    for number, disease in enumerate(DISEASES):
        free = np.isinf(lives.diagnosis[belief.patient, number]) | (lives.diagnosis[belief.patient, number] > INDEX_DAY)
        event, _ = ahead(held, belief, number, days)
        some = belief.take(free)
        found.append(table(lives, some, disease.name, HORIZONS_DAYS, windows(event[free])))
    _, living = ahead(held, belief, None, days)
    found.append(table(lives, belief, DEATH, HORIZONS_DAYS, windows(1 - living)))
    event, _ = ahead(held, belief, len(DISEASES), (float(ADMISSION_DAYS),))
    found.append(table(lives, belief, ADMISSION_NAME, (ADMISSION_DAYS,), event))
    return pl.concat(found).sort("subject_id", "prediction_time", "outcome", "horizon_days")


def windows(cumulated: Floats) -> Floats:
    """Return the risk in each window given none in the gap, [B, H]; the gap's end stands first."""
    return (cumulated[:, 1:] - cumulated[:, :1]) / (1 - cumulated[:, :1])


def table(lives: Lives, belief: Belief, outcome: str, horizons: tuple[int, ...], risk: Floats) -> pl.DataFrame:
    """Return the risks of one outcome, [B, H], as TRUTH."""
    subject = lives.people.subject[belief.patient]
    width = len(horizons)
    when = np.repeat(microseconds(np.full(len(subject), INDEX_DAY)), width)
    columns = {
        "subject_id": np.repeat(subject, width),
        "prediction_time": pl.Series(when, dtype=pl.Int64).cast(pl.Datetime("us")),
        "outcome": pl.Series([outcome], dtype=pl.String).new_from_index(0, len(subject) * width),
        "horizon_days": np.tile(np.array(horizons, dtype=np.int32), len(subject)),
        "risk": np.clip(risk, 0.0, 1.0).ravel().astype(np.float32),
    }
    return pl.DataFrame(columns, schema=TRUTH)
