"""Patients of MIMIC: sex, race, birth and death, for which admissions are asked too."""

import polars as pl

from ehr.events import BIRTH, DEATH
from ehr.sources.mimic.tables import END_OF_DAY, Stage, at, cell, coded
from ehr.sources.rows import Item, Time
from ehr.sources.sheets import ROW, Sheet, moment

# Patients over 89 have births 300 years early in MIMIC-III, and the age of 91 in MIMIC-IV.
OLDEST = 91
IMPOSSIBLE = 150
FIRST = "#first"
DIED = "#died"
KEY = "#subject"


def subject() -> pl.Expr:
    """Return the subject of a row, null where it is no number."""
    return cell("subject_id").cast(pl.Int64, strict=False)


def stays(admissions: Sheet) -> pl.LazyFrame:
    """Return by subject the first admission, and the death in hospital, which is not before its discharge."""
    death = moment(cell("deathtime"))
    known = pl.when(death.is_not_null()).then(pl.max_horizontal(death, moment(cell("dischtime"))))
    return (
        admissions.frame.group_by(subject().alias(KEY))
        .agg(moment(cell("admittime")).min().alias(FIRST), known.max().alias(DIED))
        .filter(pl.col(KEY).is_not_null())
    )


def with_stays(patients: Sheet, admissions: Sheet) -> pl.LazyFrame:
    """Return patients with their first admission and their death in hospital."""
    frame = patients.frame.with_columns(subject().alias(KEY))
    return frame.join(stays(admissions), on=KEY, how="left", maintain_order="left")


def is_shifted() -> pl.Expr:
    """Tell whether a birth was moved to hide an age over 89."""
    return (moment(cell("dob")).dt.offset_by(f"{IMPOSSIBLE}y") < pl.col(FIRST)).fill_null(value=False)


def birth(version: str) -> Time:
    """Return the time of birth."""
    if version == "III":
        found = at("dob")
        return Time(
            pl.when(is_shifted()).then(pl.col(FIRST).dt.offset_by(f"-{OLDEST}y")).otherwise(found.value), found.reject
        )
    age = cell("anchor_age").cast(pl.Int32, strict=False)
    year = cell("anchor_year").cast(pl.Int32, strict=False)
    sound = (age >= 0) & year.is_between(1, 9999) & (age < year)
    day = pl.datetime(pl.when(sound).then(year - age), 1, 1, time_unit="us")
    wrong = pl.when(day.is_null()).then(pl.lit("anchor_age, anchor_year: not an age and a year"))
    return Time(day, wrong)


def death() -> Time:
    """Return the time of death: in hospital by the minute, else the end of the day."""
    day = at("dod", optional=True)
    end = day.value.dt.truncate("1d") + END_OF_DAY
    return Time(pl.coalesce(pl.col(DIED), end), pl.when(pl.col(DIED).is_null()).then(day.reject))


def items(version: str) -> dict[Stage, tuple[Item, ...]]:
    """Return the events of a row of patients."""
    sex = pl.lit("SEX//") + cell("gender").str.to_uppercase()
    return {
        Stage.STATIC: (Item(sex, None), Item(pl.lit(BIRTH), birth(version))),
        Stage.DEATH: (Item(pl.lit(DEATH), death()),),
    }


def races(admissions: Sheet) -> tuple[pl.LazyFrame, Item]:
    """Return the race stated at each patient's first admission, for audits; it is no input to a model."""
    column = "race" if "race" in admissions.kinds else "ethnicity"
    if column not in admissions.kinds:
        column = "race"
        admissions = admissions._replace(frame=admissions.frame.with_columns(pl.lit(None, pl.String).alias(column)))
    stated = admissions.frame.with_columns(subject().alias(KEY), moment(cell("admittime")).alias(FIRST))
    once = stated.filter(cell(column).is_not_null()).sort(FIRST, ROW).unique(KEY, keep="first", maintain_order=True)
    return once, Item(coded("RACE", column), None)
