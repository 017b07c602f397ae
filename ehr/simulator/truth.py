"""TRUTH: true risks of a block, at one date for diseases, death and admission, at discharges for readmission.

Those are asked who are under observation then: registered, alive, and not gone. A disease is asked of those who
do not have it. Windows are those of `configs/demo/outcomes.yaml`.
"""

import numpy as np
import polars as pl

from ehr.simulator.blocks import Block
from ehr.simulator.course import Floats, Ints
from ehr.simulator.graph import DISEASES
from ehr.simulator.records import microseconds
from ehr.simulator.risk import STEP_DAYS, Query, admission, dying, future, incident, living, others

TRUTH = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "risk": pl.Float32(),
    }
)
INDEX_DAY = 18_262.0
"""2020-01-01, days since 1970."""
GAP_DAYS = 30.0
HORIZONS_DAYS = (365, 1095)
ADMISSION_DAYS, READMISSION_DAYS = 365, 30
READMISSION_FROM, READMISSION_UNTIL = 16_801.0, 18_993.0
"""2016-01-01 and 2022-01-01: discharges in between are asked for readmission."""
DEATH, ADMISSION, READMISSION = "death", "admission", "readmission"


def truth(block: Block) -> pl.DataFrame:
    """Return the true risks of a block as TRUTH, sorted by subject, time, outcome and horizon."""
    found = [*at_index(block), at_discharge(block)]
    return pl.concat(found).sort("subject_id", "prediction_time", "outcome", "horizon_days")


def at_index(block: Block) -> list[pl.DataFrame]:
    """Return the risks of diseases, death and admission at INDEX_DAY, one frame an outcome."""
    course = block.course
    there = np.flatnonzero((course.people.entry <= INDEX_DAY) & (course.end > INDEX_DAY))
    query = Query(there, np.full(len(there), INDEX_DAY))
    ahead = future(course, query, block.visits, block.written)
    alive = living(ahead, others(course, query))
    found: list[pl.DataFrame] = []
    for number, disease in enumerate(DISEASES):
        free = ~ahead.known[:, number]
        risk = incident(ahead, alive, number, GAP_DAYS, HORIZONS_DAYS)
        found.append(table(block, query.take(free), disease.name, HORIZONS_DAYS, risk[free]))
    found.append(table(block, query, DEATH, HORIZONS_DAYS, dying(alive, GAP_DAYS, HORIZONS_DAYS)))
    risk = admission(ahead, course, query, block.visits, ADMISSION_DAYS)
    found.append(table(block, query, ADMISSION, (ADMISSION_DAYS,), risk[:, None]))
    return found


def discharges(block: Block) -> tuple[Ints, Floats]:
    """Return patients and days of the discharges that are asked for readmission, one a patient and moment."""
    visits, course = block.visits, block.course
    asked = visits.inpatient & (visits.end >= READMISSION_FROM) & (visits.end < READMISSION_UNTIL)
    # A stay that outlasts observation ends with it in the record: that is no discharge.
    asked &= visits.end < course.end[visits.patient]
    moments = np.unique(np.stack([visits.patient[asked].astype(np.float64), visits.end[asked]]), axis=1)
    return moments[0].astype(np.int64), moments[1]


def at_discharge(block: Block) -> pl.DataFrame:
    """Return the risk of readmission at each discharge."""
    steps = int(-(-READMISSION_DAYS // STEP_DAYS))
    query = Query(*discharges(block), steps)
    ahead = future(block.course, query, block.visits, block.written)
    risk = admission(ahead, block.course, query, block.visits, READMISSION_DAYS)
    return table(block, query, READMISSION, (READMISSION_DAYS,), risk[:, None])


def table(block: Block, query: Query, outcome: str, horizons: tuple[int, ...], risk: Floats) -> pl.DataFrame:
    """Return the risks of one outcome as TRUTH.

    Args:
        block: whose patients are asked.
        query: Q questions.
        outcome: its name.
        horizons: H windows, days.
        risk: [Q, H].
    """
    subject = block.course.people.subject[query.patient]
    width = len(horizons)
    columns = {
        "subject_id": np.repeat(subject, width),
        "prediction_time": pl.Series(np.repeat(microseconds(query.day), width)).cast(pl.Datetime("us")),
        "outcome": pl.Series([outcome], dtype=pl.String).new_from_index(0, len(subject) * width),
        "horizon_days": np.tile(np.array(horizons, dtype=np.int32), len(subject)),
        # Rounding of sums may leave a risk a hair outside its range.
        "risk": np.clip(risk, 0.0, 1.0).ravel().astype(np.float32),
    }
    return pl.DataFrame(columns, schema=TRUTH)
