"""Courses of patients: who they are, and when each disease begins, is diagnosed, and kills."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.simulator.diseases import EARLY_YEARS, LATENCY_DAYS, YEAR, Disease
from ehr.simulator.graph import DISEASES, INDEX

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
BLOCK = 1_000
"""Patients drawn together; the streams of random numbers are keyed by block, so chunks change nothing."""
FIRST_DAY = 12_784.0
"""2005-01-01, days since 1970."""
LAST_DAY = 19_905.0
"""2024-07-01."""
CELLS = 39
EDGES: Floats = np.linspace(FIRST_DAY, LAST_DAY, CELLS + 1)
"""Rates are constant within a cell of about half a year."""
SITES = (0.40, 0.30, 0.20, 0.10)
SITE_RATE: Floats = np.array([0.0, 0.15, -0.15, 0.30])
"""Change of the logarithm of every onset rate by site."""
WOMEN = 0.52
DROPOUT = 0.02 / YEAR
FINISH = 365.0
"""Follow-up of those who stay ends within so many days before LAST_DAY."""
MAX_AGE = 95.0
DEATH_AT_60, DEATH_PER_DECADE, DEATH_FEMALE = 4.0, 0.85, -0.35
"""Deaths a 1,000 person-years of men at 60 from all other causes, and what changes their logarithm."""


class People(NamedTuple):
    """Facts of N patients that never change; times in days since 1970."""

    subject: Ints
    female: Bools
    site: Ints
    birth: Floats
    entry: Floats
    leave: Floats
    frailty: Floats

    def take(self, rows: Ints | Bools) -> "People":
        """Return the patients in some rows."""
        return People(
            self.subject[rows],
            self.female[rows],
            self.site[rows],
            self.birth[rows],
            self.entry[rows],
            self.leave[rows],
            self.frailty[rows],
        )


class Course(NamedTuple):
    """What happens to N patients: times in days since 1970, inf where it does not."""

    people: People
    onset: Floats
    diagnosis: Floats
    death: Floats
    cumulative: Floats

    @property
    def end(self) -> Floats:
        """Last day under observation, [N]."""
        return np.minimum(self.death, self.people.leave)


def generator(seed: int, block: int) -> np.random.Generator:
    """Return the random numbers of one block."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, block], dtype=np.uint64)))


def people(block: int, draw: np.random.Generator) -> People:
    """Draw the patients of a block."""
    subject = block * BLOCK + np.arange(BLOCK, dtype=np.int64)
    entry = FIRST_DAY + (LAST_DAY - FIRST_DAY - 6 * YEAR) * draw.beta(0.9, 1.4, BLOCK)
    age = np.clip(draw.normal(52.0, 16.0, BLOCK), 18.0, 88.0)
    finish = LAST_DAY - FINISH * draw.random(BLOCK)
    return People(
        subject=subject,
        female=draw.random(BLOCK) < WOMEN,
        site=np.searchsorted(np.cumsum(SITES)[:-1], draw.random(BLOCK), side="right"),
        birth=np.floor(entry - age * YEAR),
        entry=minute(entry),
        leave=minute(np.minimum(finish, entry + 180 + draw.exponential(1 / DROPOUT, BLOCK))),
        frailty=np.exp(draw.normal(0.0, 0.75, BLOCK)),
    )


def minute(day: Floats) -> Floats:
    """Round days to whole minutes, so that what is simulated is what is written."""
    return np.round(day * 1440) / 1440


def decades(people: People) -> Floats:
    """Return decades of age above 60 in the middle of each cell, [N, CELLS]."""
    middle = (EDGES[:-1] + EDGES[1:]) / 2
    age = (middle[None, :] - people.birth[:, None]) / YEAR
    return (np.clip(age, 18.0, MAX_AGE) - 60.0) / 10.0


def exposure(entry: Floats) -> Floats:
    """Return the days of each cell that lie after entry, [N, CELLS]."""
    return np.clip(EDGES[None, 1:] - np.maximum(EDGES[None, :-1], entry[:, None]), 0.0, None)


def log_rate(disease: Disease, people: People, diagnosis: Floats) -> Floats:
    """Return the logarithm of a disease's onset rate a day by cell, [N, CELLS].

    Args:
        disease: the disease.
        people: N patients.
        diagnosis: days of diagnoses, [N, DISEASES], of diseases before this one in the graph.
    """
    rate = np.log(disease.rate / 1000 / YEAR) + disease.per_decade * decades(people)
    rate += (disease.female * people.female + SITE_RATE[people.site])[:, None]
    for name, effect in disease.raised_by.items():
        acts = diagnosis[:, INDEX[name], None] + LATENCY_DAYS <= EDGES[None, :-1]
        rate += effect * acts
    return rate


def cumulative(log_rates: Floats, days: Floats) -> Floats:
    """Return cumulated rates at EDGES, [N, CELLS + 1]."""
    total = np.zeros((len(log_rates), CELLS + 1))
    np.cumsum(np.exp(log_rates) * days, axis=1, out=total[:, 1:])
    return total


def at(total: Floats, entry: Floats, day: Floats) -> Floats:
    """Return cumulated rates [N, G] at days [N, G], zero before entry; beyond the last cell its rate goes on.

    Args:
        total: cumulated rates at EDGES, [N, CELLS + 1].
        entry: first day, [N].
        day: days, [N, G].
    """
    row = np.arange(len(total))[:, None]
    cell = np.clip(np.searchsorted(EDGES, day, side="right") - 1, 0, CELLS - 1)
    begin = np.maximum(EDGES[cell], entry[:, None])
    width = np.maximum(EDGES[cell + 1] - begin, 1e-9)
    slope = (total[row, cell + 1] - total[row, cell]) / width
    return np.where(day <= entry[:, None], 0.0, total[row, cell] + slope * np.maximum(day - begin, 0.0))


def reached(total: Floats, entry: Floats, level: Floats) -> Floats:
    """Return the day [N] on which cumulated rates reach a level [N], inf where they do not."""
    row = np.arange(len(total))
    cell = np.minimum((total[:, 1:] <= level[:, None]).sum(axis=1), CELLS - 1)
    begin = np.maximum(EDGES[cell], entry)
    low, high = total[row, cell], total[row, cell + 1]
    share = (level - low) / np.maximum(high - low, 1e-300)
    day = begin + share * (EDGES[cell + 1] - begin)
    return np.where(level < total[:, -1], day, np.inf)


def killing(disease: Disease, days: Floats) -> Floats:
    """Return the cumulated rate of death by a disease, days after its diagnosis."""
    fading = EARLY_YEARS * YEAR
    early = disease.early_fatality / YEAR * fading * -np.expm1(-days / fading)
    return disease.fatality / YEAR * days + early


def admitting(disease: Disease, days: Floats) -> Floats:
    """Return the cumulated rate of admissions for a disease, days after its diagnosis."""
    fading = EARLY_YEARS * YEAR
    early = disease.early_admissions / YEAR * fading * -np.expm1(-days / fading)
    return disease.admissions / YEAR * days + early


def killed(disease: Disease, diagnosis: Floats, draw: np.random.Generator) -> Floats:
    """Draw the day of death by a disease, [N]: the earlier of a lasting and a fading rate."""
    fading = EARLY_YEARS * YEAR
    late, early = draw.exponential(size=len(diagnosis)), draw.exponential(size=len(diagnosis))
    day = np.full(len(diagnosis), np.inf)
    if disease.fatality:
        day = diagnosis + late / (disease.fatality / YEAR)
    if disease.early_fatality:
        share = early / (disease.early_fatality / YEAR * fading)
        after = np.where(share < 1, -fading * np.log1p(-np.minimum(share, 1 - 1e-12)), np.inf)
        day = np.minimum(day, diagnosis + after)
    return day


def background(people: People) -> Floats:
    """Return the cumulated rate of death from all other causes at EDGES, [N, CELLS + 1] (Gompertz by cell)."""
    rate = np.log(DEATH_AT_60 / 1000 / YEAR) + DEATH_PER_DECADE * decades(people)
    rate += (DEATH_FEMALE * people.female)[:, None]
    return cumulative(rate, exposure(people.entry))


def course(block: int, draw: np.random.Generator) -> Course:
    """Draw the courses of a block: diseases in the order of the graph, each given those before it."""
    who = people(block, draw)
    days = exposure(who.entry)
    onset = np.full((BLOCK, len(DISEASES)), np.inf)
    diagnosis = np.full((BLOCK, len(DISEASES)), np.inf)
    totals = np.zeros((len(DISEASES), BLOCK, CELLS + 1))
    death = reached(background(who), who.entry, draw.exponential(size=BLOCK))
    for i, disease in enumerate(DISEASES):
        totals[i] = cumulative(log_rate(disease, who, diagnosis), days)
        onset[:, i] = reached(totals[i], who.entry, draw.exponential(size=BLOCK))
        hidden = disease.scale_days * draw.weibull(disease.shape, BLOCK)
        diagnosis[:, i] = minute(onset[:, i] + hidden)
        death = np.minimum(death, killed(disease, diagnosis[:, i], draw))
    return Course(who, onset, diagnosis, minute(death), totals)
