"""True risk: the chance of each outcome given the mechanism and what the record shows up to a prediction time.

Hidden are the onsets of diseases not yet diagnosed. Given the diagnoses, which the record shows, they are
independent of one another, and so is what they bring within the window, since a diagnosis raises other rates only
after LATENCY_DAYS. So each disease is filtered alone (a posterior over the time since its onset, from its marker,
its symptom and its silence), carried forward alone, and what they bring is multiplied.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ehr.simulator.course import Bools, Course, Floats, Ints, admitting, at, background, killing
from ehr.simulator.diseases import YEAR, Disease
from ehr.simulator.graph import DISEASES
from ehr.simulator.records import SYMPTOM, SYMPTOM_PRECLINICAL, Written, ramp
from ehr.simulator.visits import RETURN_DAYS, SHORTEST_STAY, STAY_DAYS, Visits, other_admissions, readmission

STEP_DAYS = 15.0
AHEAD: Floats = np.arange(76, dtype=np.float64) * STEP_DAYS
"""Days after the prediction time at which risks are cumulated; linear in between."""
BACK: Floats = np.arange(97, dtype=np.float64) * (YEAR / 8)
"""Days before the prediction time between which an onset may lie."""
SINCE: Floats = (BACK[:-1] + BACK[1:]) / 2
STEPS = len(AHEAD) - 1


class Query(NamedTuple):
    """Q questions: which patient of the block, when (days since 1970), and S steps ahead, STEPS at most."""

    patient: Ints
    day: Floats
    steps: int = STEPS

    @property
    def ahead(self) -> Floats:
        """Days after the prediction time at which risks are cumulated, [S + 1]."""
        return AHEAD[: self.steps + 1]

    def take(self, keep: Bools) -> "Query":
        """Return the questions marked."""
        return Query(self.patient[keep], self.day[keep], self.steps)


class Future(NamedTuple):
    """What each disease brings to each question, cumulated at AHEAD."""

    known: Bools
    """Whether it is diagnosed already, [Q, DISEASES]."""
    diagnosed: Floats
    """Chance of its diagnosis in each step, without death, [DISEASES, Q, S]."""
    spared: Floats
    """Chance that it has not killed, [DISEASES, Q, S + 1]."""
    quiet: Floats
    """Chance that it has neither killed nor brought to hospital, [DISEASES, Q, S + 1]."""
    admits: Floats
    """Share of admissions among what ends that quiet, [DISEASES, Q, S]."""


def silent(disease: Disease, days: Floats) -> Floats:
    """Return the chance that a disease is not yet diagnosed, days after its onset."""
    return np.exp(-((np.maximum(days, 0.0) / disease.scale_days) ** disease.shape))


class Kernels(NamedTuple):
    """Fixed matrices of a disease: from an onset to its diagnosis, from a diagnosis to what it brings."""

    past: Floats
    """Onset SINCE days ago -> diagnosis by step, given none so far, [BACK, S]."""
    new: Floats
    """Onset in a step ahead -> diagnosis by step, [S, S]."""
    killed: Floats
    """Diagnosis in a step -> chance of death by it at AHEAD, [S, S + 1]."""
    disturbed: Floats
    """Diagnosis in a step -> chance of death or admission at AHEAD, [S, S + 1]."""
    admitted: Floats
    """Diagnosis in a step -> chance that an admission came first, by step, [S, S]."""


@lru_cache(maxsize=128)
def kernels(number: int, steps: int) -> Kernels:
    """Return the fixed matrices of a disease, so many steps ahead."""
    disease, ahead = DISEASES[number], AHEAD[: steps + 1]
    past = -np.diff(silent(disease, SINCE[:, None] + ahead[None, :]), axis=1)
    past /= np.maximum(silent(disease, SINCE), 1e-300)[:, None]
    middle = (ahead[:-1] + ahead[1:]) / 2
    after = ahead[None, :] - middle[:, None]
    new = -np.diff(silent(disease, after), axis=1)
    days = np.maximum(after, 0.0)
    deaths, stays = killing(disease, days), admitting(disease, days)
    disturbed = -np.expm1(-deaths - stays)
    step_deaths, step_stays = np.diff(deaths, axis=1), np.diff(stays, axis=1)
    share = step_stays / np.maximum(step_stays + step_deaths, 1e-300)
    return Kernels(past, new, -np.expm1(-deaths), disturbed, np.diff(disturbed, axis=1) * share)


def posterior(number: int, course: Course, query: Query, visits: Visits, written: Written) -> Floats:
    """Return the posterior of onset so long ago, [Q, BACK + 1], the last column for no onset yet.

    It is conditional on no diagnosis so far. Bayes: the rate of onset, the chance of silence since, and the
    densities of marker and symptom at each visit.
    """
    disease = DISEASES[number]
    entry = course.people.entry[query.patient]
    hazard = at(course.cumulative[number][query.patient], entry, query.day[:, None] - BACK[None, :])
    survival = np.exp(-hazard)
    prior = np.concatenate([-np.diff(survival[:, ::-1], axis=1)[:, ::-1], survival[:, :1]], axis=1)
    prior[:, :-1] *= silent(disease, SINCE)
    with np.errstate(divide="ignore"):
        log = np.log(prior)
    log[:, :-1] += symptom_evidence(number, query, visits, written)
    evidence = marker_evidence(number, query, written)
    log += evidence
    log -= log.max(axis=1, keepdims=True)
    weight = np.exp(log)
    return weight / weight.sum(axis=1, keepdims=True)


def pairs(held: Ints, day: Floats, query: Query) -> tuple[Ints, Ints]:
    """Return which question sees which row: rows of its patient at or before its day.

    Args:
        held: patients of rows, ascending.
        day: days of rows.
        query: questions.
    """
    begin = np.searchsorted(held, query.patient, side="left")
    count = np.searchsorted(held, query.patient, side="right") - begin
    asks = np.repeat(np.arange(len(query.patient)), count)
    row = np.arange(len(asks)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
    seen = day[row] <= query.day[asks]
    return asks[seen], row[seen]


def symptom_evidence(number: int, query: Query, visits: Visits, written: Written) -> Floats:
    """Return the log-likelihood ratio of an onset so long ago over none, from symptoms, [Q, BACK].

    Visits after the onset record the symptom with another chance; those before it tell nothing.
    """
    asks, row = pairs(visits.patient, visits.start, query)
    seen = written.symptoms.seen[row, number]
    ratio = np.where(seen, np.log(SYMPTOM_PRECLINICAL / SYMPTOM), np.log((1 - SYMPTOM_PRECLINICAL) / (1 - SYMPTOM)))
    ago = query.day[asks] - visits.start[row]
    cell = np.searchsorted(SINCE, ago, side="left")
    total: Floats = np.zeros(len(query.day) * (len(SINCE) + 1))
    total += np.bincount(asks * (len(SINCE) + 1) + cell, ratio, len(total))
    return np.cumsum(total.reshape(len(query.day), -1)[:, :-1], axis=1)


def marker_evidence(number: int, query: Query, written: Written) -> Floats:
    """Return the log-likelihood of an onset so long ago, from the marker, [Q, BACK + 1].

    The personal level is integrated out: values are normal with covariance noise² I + personal² 11'.
    """
    lab = DISEASES[number].lab
    result = np.zeros((len(query.day), len(SINCE) + 1))
    if lab is None:
        return result
    mine = written.measured.disease == number
    patient, day, value = written.measured.patient[mine], written.measured.day[mine], written.measured.value[mine]
    asks, row = pairs(patient, day, query)
    if not len(asks):
        return result
    ago = query.day[asks] - day[row]
    drift = np.zeros((len(asks), len(SINCE) + 1))
    drift[:, :-1] = lab.shift * ramp(SINCE[None, :] - ago[:, None])
    rest = value[row, None] - lab.mean - drift
    first = np.flatnonzero(np.diff(asks, prepend=-1))
    count = np.diff(np.append(first, len(asks)))[:, None]
    total, squares = np.add.reduceat(rest, first, axis=0), np.add.reduceat(rest**2, first, axis=0)
    noise = lab.noise**2
    shrunk = (total / noise) ** 2 / (1 / lab.personal**2 + count / noise)
    result[asks[first]] = -0.5 * (squares / noise - shrunk)
    return result


def diagnoses_ahead(number: int, course: Course, query: Query, visits: Visits, written: Written) -> Floats:
    """Return the chance of a diagnosis in each step ahead, death apart, given none so far, [Q, S]."""
    belief = posterior(number, course, query, visits, written)
    entry = course.people.entry[query.patient]
    hazard = at(course.cumulative[number][query.patient], entry, query.day[:, None] + query.ahead[None, :])
    onset = -np.diff(np.exp(-(hazard - hazard[:, :1])), axis=1)
    tables = kernels(number, query.steps)
    return belief[:, :-1] @ tables.past + belief[:, -1:] * (onset @ tables.new)


def future(course: Course, query: Query, visits: Visits, written: Written) -> Future:
    """Return what every disease brings to every question."""
    number, asked, steps = len(DISEASES), len(query.day), query.steps
    known = course.diagnosis[query.patient] <= query.day[:, None]
    diagnosed = np.zeros((number, asked, steps))
    spared, quiet = np.ones((number, asked, steps + 1)), np.ones((number, asked, steps + 1))
    admits = np.zeros((number, asked, steps))
    for i, disease in enumerate(DISEASES):
        has, free = known[:, i], ~known[:, i]
        if has.any():
            ago = (query.day - course.diagnosis[query.patient, i])[has, None]
            deaths = killing(disease, ago + query.ahead) - killing(disease, ago)
            stays = admitting(disease, ago + query.ahead) - admitting(disease, ago)
            spared[i, has], quiet[i, has] = np.exp(-deaths), np.exp(-deaths - stays)
            more = np.diff(stays, axis=1)
            admits[i, has] = more / np.maximum(more + np.diff(deaths, axis=1), 1e-300)
        if free.any():
            some = query.take(free)
            mass = diagnoses_ahead(i, course, some, visits, written)
            diagnosed[i, free] = mass
            tables = kernels(i, query.steps)
            spared[i, free] = 1 - mass @ tables.killed
            if disease.acute:
                quiet[i, free, 1:] = 1 - np.cumsum(mass, axis=1)
                admits[i, free] = 1
            else:
                quiet[i, free] = 1 - mass @ tables.disturbed
                ended = -np.diff(quiet[i, free], axis=1)
                admits[i, free] = (mass @ tables.admitted) / np.maximum(ended, 1e-300)
    return Future(known, diagnosed, spared, quiet, admits)


def others(course: Course, query: Query) -> Floats:
    """Return the chance of no death from causes outside the graph, [Q, S + 1]."""
    entry = course.people.entry[query.patient]
    hazard = at(background(course.people)[query.patient], entry, query.day[:, None] + query.ahead[None, :])
    return np.exp(-(hazard - hazard[:, :1]))


def pending(query: Query, visits: Visits) -> Floats:
    """Return the cumulated rate of readmissions that past admissions still bring, [Q, S + 1].

    A stay that goes on at the prediction time ends after an exponential time, as every stay does.
    """
    rows = np.flatnonzero(visits.inpatient)
    asks, held = pairs(visits.patient[rows], visits.start[rows], query)
    row = rows[held]
    mean = readmission(visits.cause[row])[:, None]
    home = visits.end[row] <= query.day[asks]
    gone = np.where(home, query.day[asks] - visits.end[row], 0.0)[:, None]
    discharged = np.exp(-gone / RETURN_DAYS) * -np.expm1(-query.ahead[None, :] / RETURN_DAYS)
    wait = np.maximum(SHORTEST_STAY - (query.day[asks] - visits.start[row]), 0.0)[:, None]
    ahead = np.maximum(query.ahead[None, :] - wait, 0.0)
    slow, fast = np.exp(-ahead / RETURN_DAYS), np.exp(-ahead / STAY_DAYS)
    lying = 1 - (RETURN_DAYS * slow - STAY_DAYS * fast) / (RETURN_DAYS - STAY_DAYS)
    total = np.zeros((len(query.day), query.steps + 1))
    np.add.at(total, asks, mean * np.where(home[:, None], discharged, lying))
    return total


def between(cumulated: Floats, gap: float, horizon: float) -> Floats:
    """Return how much a quantity cumulated at AHEAD grows in (gap, gap + horizon], [Q]."""

    def value(day: float) -> Floats:
        step = min(int(day // STEP_DAYS), cumulated.shape[1] - 2)
        share = day / STEP_DAYS - step
        return cumulated[:, step] * (1 - share) + cumulated[:, step + 1] * share

    return value(gap + horizon) - value(gap)


def summed(steps: Floats) -> Floats:
    """Return the cumulated sum of steps, [Q, S] -> [Q, S + 1]."""
    return np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)


def windows(cumulated: Floats, gap: float, horizons: Sequence[int]) -> Floats:
    """Return the risk of each window, [Q, H], given no event within the gap.

    Samples with the event within the gap count as prior cases and are not asked, hence the division.
    """
    free = 1 - between(cumulated, 0.0, gap) if gap else 1.0
    return np.stack([between(cumulated, gap, horizon) / free for horizon in horizons], axis=1)


def living(ahead: Future, rest: Floats) -> Floats:
    """Return the chance of being alive, [Q, S + 1]; `rest` is what `others` returns."""
    return rest * np.prod(ahead.spared, axis=0)


def incident(ahead: Future, alive: Floats, number: int, gap: float, horizons: Sequence[int]) -> Floats:
    """Return the risk of a diagnosis in each window before death, [Q, H]; `alive` is what `living` returns."""
    others_spare = alive / np.maximum(ahead.spared[number], 1e-300)
    steps = ahead.diagnosed[number] * (others_spare[:, :-1] + others_spare[:, 1:]) / 2
    return windows(summed(steps), gap, horizons)


def dying(alive: Floats, gap: float, horizons: Sequence[int]) -> Floats:
    """Return the risk of death in each window, [Q, H]; `alive` is what `living` returns."""
    return windows(1 - alive, gap, horizons)


def admission(ahead: Future, course: Course, query: Query, visits: Visits, horizon: float) -> Floats:
    """Return the risk of an admission within so many days, before death, [Q]."""
    entry = course.people.entry[query.patient]
    elsewhere = at(other_admissions(course.people)[query.patient], entry, query.day[:, None] + query.ahead[None, :])
    stays = elsewhere - elsewhere[:, :1] + pending(query, visits)
    deaths = -np.log(others(course, query))
    quiet = np.prod(ahead.quiet, axis=0) * np.exp(-stays - deaths)
    # Rates of the first event of each disease, by step, and of what lies outside the graph.
    rates = -np.diff(np.log(np.maximum(ahead.quiet, 1e-300)), axis=2)
    to_hospital = (rates * ahead.admits).sum(axis=0) + np.diff(stays, axis=1)
    share = to_hospital / np.maximum(rates.sum(axis=0) + np.diff(stays + deaths, axis=1), 1e-300)
    steps = -np.diff(quiet, axis=1) * share
    return between(summed(steps), 0.0, horizon)
