"""True risk under hidden types: Bayes' rule over the types, then what each type brings, exactly.

The record up to the prediction time tells of the type by how many visits there were in how many days, by each step of
the chain of complaints, and by having lived; age and sex give the prior. Whether a visit is an admission hangs on its
complaint alone, and drugs on nothing. Given the type and the last complaint, the n-th visit ahead comes before day h
and before death with probability (r / (r + d))^n P(Poisson((r + d) h) >= n) for rates r of visits and d of death; the
chain says whether the event is first met at it.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from ehr.simulator.course import Floats, Ints
from ehr.simulator.records import microseconds
from ehr.simulator.truth import ADMISSION, DEATH, INDEX_DAY, TRUTH
from ehr.simulator.types import law
from ehr.simulator.types.lives import Lives

HORIZONS_DAYS = (365, 1095)
"""Windows begin at the prediction time: there is no gap."""
MOST = 80
"""Visits ahead that are summed over; in three years 13 are expected at most."""


class Belief(NamedTuple):
    """B patients at INDEX_DAY: who (rows of the block), the chance of each type [B, TYPES], the last complaint [B]."""

    patient: Ints
    kind: Floats
    last: Ints


def filtered(lives: Lives) -> Belief:
    """Return what the records up to INDEX_DAY tell of those alive then."""
    people, seen = lives.people, lives.seen
    before = np.flatnonzero(seen.day <= INDEX_DAY)
    patient, complaint = seen.patient[before], seen.complaint[before]
    first = np.diff(patient, prepend=-1) != 0
    step = np.where(
        first[:, None],
        law.FIRST[:, complaint].T,
        law.CHAIN[:, np.where(first, 0, np.roll(complaint, 1)), complaint].T,
    )
    days = (INDEX_DAY - people.entry)[:, None]
    # The visit at entry is certain: it tells of the type by its complaint alone.
    number = (np.bincount(patient, minlength=len(people.entry)) - 1)[:, None]
    log = np.log(law.prior(people)) + number * np.log(law.VISITS) - days * (law.VISITS + law.DEATHS)
    np.add.at(log, patient, np.log(step))
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    last = np.zeros(len(people.entry), dtype=np.int64)
    last[patient] = complaint
    alive = np.flatnonzero(lives.death > INDEX_DAY)
    return Belief(alive, (weight / weight.sum(axis=1, keepdims=True))[alive], last[alive])


def reaching(kind: int, hit: Floats, days: float) -> Floats:
    """Return the chance that an event comes within some days, by the last complaint, [STATES].

    Args:
        kind: the type.
        hit: chance that a visit with each complaint is the event, [STATES].
        days: from now.
    """
    visits, deaths = law.VISITS[kind], law.DEATHS[kind]
    table = law.CHAIN[kind]
    ahead, spared = table @ hit, table * (1 - hit)
    found = np.zeros(law.STATES)
    expected = (visits + deaths) * days
    term = np.exp(-expected)
    reached = 1.0 - term
    for number in range(1, MOST + 1):
        found += ahead * (visits / (visits + deaths)) ** number * max(reached, 0.0)
        term *= expected / number
        reached -= term
        ahead = spared @ ahead
    return found


def risk(belief: Belief, hit: Floats, horizons_days: tuple[int, ...] = HORIZONS_DAYS) -> Floats:
    """Return the risk of an event given the record, [B, H]."""
    found = np.zeros((len(belief.patient), len(horizons_days)))
    for column, days in enumerate(horizons_days):
        by_type = np.stack([reaching(kind, hit, float(days)) for kind in range(law.TYPES)])
        found[:, column] = (belief.kind * by_type[:, belief.last].T).sum(axis=1)
    return found


def dying(belief: Belief, horizons_days: tuple[int, ...] = HORIZONS_DAYS) -> Floats:
    """Return the risk of death given the record, [B, H]."""
    days = np.array(horizons_days, dtype=np.float64)
    return belief.kind @ -np.expm1(-law.DEATHS[:, None] * days)


def truth(lives: Lives) -> pl.DataFrame:
    """Return TRUTH at INDEX_DAY, sorted: each complaint, admission and death."""
    belief = filtered(lives)
    risks = {name: risk(belief, np.eye(law.STATES)[at]) for at, name in enumerate(law.NAMES)}
    risks |= {ADMISSION: risk(belief, law.ADMITTED), DEATH: dying(belief)}
    subject = lives.people.subject[belief.patient]
    width = len(HORIZONS_DAYS)
    when = pl.Series(np.repeat(microseconds(np.full(len(subject), INDEX_DAY)), width), dtype=pl.Int64)
    found = [
        pl.DataFrame(
            {
                "subject_id": np.repeat(subject, width),
                "prediction_time": when.cast(pl.Datetime("us")),
                "outcome": pl.Series([name], dtype=pl.String).new_from_index(0, len(subject) * width),
                "horizon_days": np.tile(np.array(HORIZONS_DAYS, dtype=np.int32), len(subject)),
                "risk": np.clip(held, 0.0, 1.0).ravel().astype(np.float32),
            },
            schema=TRUTH,
        )
        for name, held in risks.items()
    ]
    return pl.concat(found).sort("subject_id", "prediction_time", "outcome", "horizon_days")
