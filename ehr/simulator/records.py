"""What visits leave in the record: diagnoses, symptoms, labs, drugs and procedures, as EVENTS."""

from typing import NamedTuple

import numpy as np
import polars as pl

from ehr.events import BIRTH, DEATH, EVENTS
from ehr.simulator.course import Bools, Course, Floats, Ints
from ehr.simulator.diseases import YEAR, Lab, atc, icd
from ehr.simulator.graph import DISEASES
from ehr.simulator.visits import OTHER, Visits

MINUTE = 60_000_000
RAMP_DAYS = 1.2 * YEAR
"""Scale on which a marker drifts after onset."""
TREATED = 0.7
"""Share of the drift that is left once the disease is diagnosed."""
SYMPTOM, SYMPTOM_PRECLINICAL = 0.012, 0.10
"""Chance that a visit records a disease's symptom: without it, and while it is preclinical."""
NAMED, DRUG_ELSEWHERE, DRUG_THERE = 0.15, 0.10, 0.75
"""Chance that a visit for something else names a known disease; of its drug there, and at its own visits."""
MEASURED, MEASURED_INPATIENT, MEASURED_THERE = 0.06, 0.12, 0.55
"""Chance that a lab is measured at a visit, at an admission, and at a visit for its disease."""
MINOR = 0.4
"""Mean number of minor diagnoses a visit."""
LATER_CODE_YEARS = 2.5
NOISE_LABS = (
    Lab(code="LOINC//2951-2", mean=140, personal=1.5, noise=2, shift=0, low=110, high=170),
    Lab(code="LOINC//6298-4", mean=4.2, personal=0.2, noise=0.3, shift=0, low=2, high=8),
    Lab(code="LOINC//1742-6", mean=3.1, personal=0.3, noise=0.25, shift=0, logarithm=True, low=1, high=2000),
)
MINOR_CODES = icd(
    "Z00.00", "J06.9", "M54.50", "N39.0", "L30.9", "H52.4", "K08.9", "B34.9", "S93.401A", "H10.9", "R10.9", "J30.9",
    "M25.511", "K59.00", "L70.0", "H61.23", "J01.90", "G43.909", "N95.1", "G47.00", "Z23", "Z12.31", "M79.1", "K64.9",
    "H26.9", "L60.0", "N40.0", "B35.1", "T14.90XA", "S61.009A", "R21", "A09", "Z01.419", "M72.2", "G56.00", "L82.1",
    "H40.9", "K57.30", "D22.9", "I83.90",
)  # fmt: skip
EMERGENCY_CODES = icd("K35.80", "N20.0", "K80.20", "T78.40XA", "S06.0X0A", "L03.90", "K56.609", "N10")
MINOR_DRUGS = atc("N02BE01", "M01AE02", "J01CA04", "R06AE07", "A02BC02", "D07AC01", "J01MA02", "N05CF01")
PROCEDURES = ("ICD10PCS//4A023N7", "ICD10PCS//0BH17EZ", "ICD10PCS//0DTJ4ZZ", "ICD10PCS//30233N1", "ICD10PCS//5A1D70Z")
SERVICES = ("HCPCS//G0439", "HCPCS//G0008", "HCPCS//G0101", "HCPCS//G0463")


def codebook() -> tuple[str, ...]:
    """Return every code that a record may hold, sorted."""
    fixed = [BIRTH, DEATH, "SEX//F", "SEX//M", "SITE//A", "SITE//B", "SITE//C", "SITE//D"]
    fixed += [f"VISIT//{kind}//{edge}" for kind in ("OP", "IP") for edge in ("START", "END")]
    fixed += [lab.code for lab in NOISE_LABS]
    fixed += [*MINOR_CODES, *EMERGENCY_CODES, *MINOR_DRUGS, *PROCEDURES, *SERVICES]
    for disease in DISEASES:
        fixed += [*disease.codes, disease.symptom, *disease.drugs, *([disease.lab.code] if disease.lab else [])]
    return tuple(sorted(set(fixed)))


CODES = codebook()
NUMBER = {code: i for i, code in enumerate(CODES)}


class Rows(NamedTuple):
    """Rows of one kind: patient, microseconds since 1970, number of the code, value."""

    patient: Ints
    time: Ints
    code: Ints
    value: Floats


class Measured(NamedTuple):
    """Labs as the oracle sees them, on the scale of the lab: before any rounding."""

    patient: Ints
    day: Floats
    disease: Ints
    value: Floats


class Symptoms(NamedTuple):
    """Whether each visit records the symptom of each disease, [V, DISEASES]."""

    seen: Bools


def numbers(codes: tuple[str, ...]) -> Ints:
    """Return the numbers of codes."""
    return np.array([NUMBER[code] for code in codes], dtype=np.int64)


def microseconds(day: Floats) -> Ints:
    """Return days since 1970 as microseconds, on whole minutes."""
    return np.rint(day * 1440).astype(np.int64) * MINUTE


def ramp(days: Floats) -> Floats:
    """Return the share of a marker's drift, days after onset."""
    return -np.expm1(-np.maximum(days, 0.0) / RAMP_DAYS)


def rows(visits: Visits, at: Ints, code: Ints, minutes: int, value: Floats | None = None) -> Rows:
    """Return rows at some visits, minutes after they start."""
    time = microseconds(visits.start[at]) + minutes * MINUTE
    return Rows(visits.patient[at], time, code, np.full(len(at), np.nan) if value is None else value)


def edges(visits: Visits, course: Course) -> list[Rows]:
    """Return starts and ends of visits; a stay ends with observation at the latest."""
    begin = np.where(visits.inpatient, NUMBER["VISIT//IP//START"], NUMBER["VISIT//OP//START"])
    close = np.where(visits.inpatient, NUMBER["VISIT//IP//END"], NUMBER["VISIT//OP//END"])
    last = np.maximum(course.end[visits.patient], visits.start + 1 / 24)
    end = np.where(visits.inpatient, np.minimum(visits.end, last), visits.end)
    blank = np.full(len(begin), np.nan)
    return [
        Rows(visits.patient, microseconds(visits.start), begin, blank),
        Rows(visits.patient, microseconds(end), close, blank),
    ]


def diagnoses(visits: Visits, known: Bools, since: Floats, draw: np.random.Generator) -> Rows:
    """Return diagnoses: of the visit's cause always, of other known diseases now and then."""
    number, kinds = known.shape
    own = visits.cause[:, None] == np.arange(kinds)
    at, disease = np.nonzero(known & (own | (draw.random((number, kinds)) < NAMED)))
    # Later codes of a disease come with the years, so that a code tells of duration too.
    order = (since[at, disease] / YEAR / LATER_CODE_YEARS + draw.random(len(at)) - 0.5).astype(np.int64)
    order[visits.first[at] & own[at, disease]] = 0
    most = np.array([len(d.codes) - 1 for d in DISEASES])
    table = np.zeros((kinds, most.max() + 1), dtype=np.int64)
    for i, d in enumerate(DISEASES):
        table[i, : len(d.codes)] = numbers(d.codes)
    return rows(visits, at, table[disease, np.clip(order, 0, most[disease])], 0)


def symptoms(visits: Visits, known: Bools, preclinical: Bools, draw: np.random.Generator) -> tuple[Rows, Symptoms]:
    """Return symptoms of diseases not yet known."""
    chance = np.where(preclinical, SYMPTOM_PRECLINICAL, SYMPTOM)
    seen = ~known & (draw.random(known.shape) < chance)
    at, disease = np.nonzero(seen)
    return rows(visits, at, numbers(tuple(d.symptom for d in DISEASES))[disease], 0), Symptoms(seen)


def labs(visits: Visits, course: Course, known: Bools, draw: np.random.Generator) -> tuple[Rows, Measured]:
    """Return markers: a personal level, the drift since onset, noise."""
    number, kinds = known.shape
    with_lab = np.array([d.lab is not None for d in DISEASES])
    own = visits.cause[:, None] == np.arange(kinds)
    chance = np.where(own & known, MEASURED_THERE, np.where(visits.inpatient, MEASURED_INPATIENT, MEASURED)[:, None])
    at, disease = np.nonzero((draw.random((number, kinds)) < chance) & with_lab)
    fill = Lab(code="", mean=0, personal=0, noise=0, shift=0)
    held = [d.lab or fill for d in DISEASES]
    mean, personal, noise, shift = (
        np.array([getattr(lab, name) for lab in held]) for name in ("mean", "personal", "noise", "shift")
    )
    level = mean + personal * draw.normal(size=(len(course.death), kinds))
    drift = ramp(visits.start[at] - course.onset[visits.patient[at], disease])
    drift = np.where(known[at, disease], TREATED, drift) * shift[disease]
    value = level[visits.patient[at], disease] + drift + noise[disease] * draw.normal(size=len(at))
    logarithm = np.array([lab.logarithm for lab in held])
    low, high = np.array([lab.low for lab in held]), np.array([lab.high for lab in held])
    written: Floats = np.clip(
        np.where(logarithm[disease], np.exp(np.minimum(value, 13.0)), value), low[disease], high[disease]
    )
    code = np.array([NUMBER.get(lab.code, -1) for lab in held])[disease]
    measured = Measured(visits.patient[at], visits.start[at], disease, value)
    return rows(visits, at, code, 5, np.round(written, 3)), measured


def noise_labs(visits: Visits, patients: int, draw: np.random.Generator) -> list[Rows]:
    """Return labs that tell nothing."""
    found: list[Rows] = []
    for lab in NOISE_LABS:
        at = np.flatnonzero(draw.random(len(visits.patient)) < np.where(visits.inpatient, 0.3, 0.06))
        level = lab.mean + lab.personal * draw.normal(size=patients)
        value = level[visits.patient[at]] + lab.noise * draw.normal(size=len(at))
        value = np.clip(np.exp(value) if lab.logarithm else value, lab.low, lab.high)
        found.append(rows(visits, at, np.full(len(at), NUMBER[lab.code]), 5, np.round(value, 2)))
    return found


def drugs(visits: Visits, known: Bools, since: Floats, draw: np.random.Generator) -> Rows:
    """Return drugs for known diseases; the second and third line come with the years."""
    number, kinds = known.shape
    own = visits.cause[:, None] == np.arange(kinds)
    treated = np.array([bool(d.drugs) for d in DISEASES])
    chance = np.where(own, DRUG_THERE, DRUG_ELSEWHERE)
    at, disease = np.nonzero(known & treated & (draw.random((number, kinds)) < chance))
    most = np.array([max(len(d.drugs) - 1, 0) for d in DISEASES])
    table = np.zeros((kinds, most.max() + 1), dtype=np.int64)
    for i, d in enumerate(DISEASES):
        table[i, : len(d.drugs)] = numbers(d.drugs)
    line = np.minimum((since[at, disease] / YEAR / 2 * draw.random(len(at))).astype(np.int64), most[disease])
    return rows(visits, at, table[disease, line], 10)


def minor(visits: Visits, draw: np.random.Generator) -> list[Rows]:
    """Return what tells nothing: minor diagnoses and drugs, services, procedures, causes of other admissions."""
    number = len(visits.patient)
    at = np.repeat(np.arange(number), draw.poisson(MINOR, number))
    popular = np.minimum(draw.exponential(len(MINOR_CODES) / 4, len(at)), len(MINOR_CODES) - 1).astype(np.int64)
    found = [rows(visits, at, numbers(MINOR_CODES)[popular], 0)]
    other = np.flatnonzero(visits.cause == OTHER)
    found.append(rows(visits, other, draw.choice(numbers(EMERGENCY_CODES), len(other)), 0))
    for codes, chance, inpatient, minutes in ((MINOR_DRUGS, 0.25, 1.0, 10), (SERVICES, 0.15, 0.0, 15)):
        at = np.flatnonzero(draw.random(number) < np.where(visits.inpatient, chance * inpatient, chance))
        found.append(rows(visits, at, draw.choice(numbers(codes), len(at)), minutes))
    at = np.flatnonzero(visits.inpatient & (draw.random(number) < 0.4))
    found.append(rows(visits, at, draw.choice(numbers(PROCEDURES), len(at)), 15))
    return found


def fixed(course: Course) -> list[Rows]:
    """Return sex and site (static), birth and death."""
    who = course.people
    everyone = np.arange(len(who.subject))
    blank = np.full(len(everyone), np.nan)
    static = np.full(len(everyone), -(2**63), dtype=np.int64)
    died = np.flatnonzero(course.death <= who.leave)
    sex = np.where(who.female, NUMBER["SEX//F"], NUMBER["SEX//M"])
    return [
        Rows(everyone, static, sex, blank),
        Rows(everyone, static, numbers(("SITE//A", "SITE//B", "SITE//C", "SITE//D"))[who.site], blank),
        Rows(everyone, microseconds(who.birth), np.full(len(everyone), NUMBER[BIRTH]), blank),
        Rows(died, microseconds(course.death[died]), np.full(len(died), NUMBER[DEATH]), blank[died]),
    ]


class Written(NamedTuple):
    """Rows of a block, and what of them bears on hidden disease."""

    rows: list[Rows]
    measured: Measured
    symptoms: Symptoms


def write(course: Course, visits: Visits, draw: np.random.Generator) -> Written:
    """Return all rows of a block, unsorted; of one patient and time they come in the order of this list."""
    known = course.diagnosis[visits.patient] <= visits.start[:, None]
    since = np.where(known, visits.start[:, None] - course.diagnosis[visits.patient], 0.0)
    preclinical = ~known & (course.onset[visits.patient] <= visits.start[:, None])
    statics = fixed(course)
    starts, ends = edges(visits, course)
    told, seen = symptoms(visits, known, preclinical, draw)
    tested, measured = labs(visits, course, known, draw)
    found = [
        *statics[:3],
        starts,
        diagnoses(visits, known, since, draw),
        told,
        tested,
        *noise_labs(visits, len(course.death), draw),
        drugs(visits, known, since, draw),
        *minor(visits, draw),
        ends,
        statics[3],
    ]
    return Written(found, measured, seen)


def events(course: Course, found: list[Rows]) -> pl.DataFrame:
    """Return rows as EVENTS in canonical order; nothing is later than death."""
    patient, time, code, value = (np.concatenate(columns) for columns in zip(*found, strict=True))
    death = np.where(np.isfinite(course.death), course.death, 1e6)
    time = np.minimum(time, microseconds(death)[patient])
    order = np.lexsort((time, patient))
    names = pl.Series(CODES, dtype=pl.String).gather(pl.Series(code[order]))
    static = pl.Series(time[order] == -(2**63))
    frame = pl.DataFrame(
        {
            "subject_id": course.people.subject[patient[order]],
            "time": pl.Series(time[order]).cast(pl.Datetime("us")),
            "code": names,
            "numeric_value": pl.Series(value[order].astype(np.float32)).fill_nan(None),
        }
    )
    return frame.with_columns(
        pl.when(static).then(None).otherwise(pl.col("time")).alias("time"),
        pl.lit(None, dtype=pl.String).alias("text_value"),
    ).select(EVENTS.names())
