"""What each table of MIMIC gives, and when it was known: no event stands before that."""

from enum import IntEnum
from typing import NamedTuple

import polars as pl

from ehr.sources.rows import Item, Time, bad_number, dated
from ehr.sources.sheets import moment, number, text

TEXT = pl.String()
# Joined to rows of tables that have an admission.
DISCHARGED = "#discharged"
LOINC = "#loinc"
# Stays for observation are no admissions; a patient observed first and then admitted is one.
OBSERVED = ("EU OBSERVATION", "DIRECT OBSERVATION", "AMBULATORY OBSERVATION")
# Blood cultures are read for five days.
CULTURE = pl.duration(days=5)
END_OF_DAY = pl.duration(hours=23, minutes=59, seconds=59)


class Stage(IntEnum):
    """Order of events of one moment: an admission stands before what happens in it, its end after, death last."""

    STATIC = 0
    START = 1
    EVENT = 2
    BILLED = 3
    END = 4
    DEATH = 5


class Table(NamedTuple):
    """One table and the events that its rows give.

    Attributes:
        name: of the file, in lower case.
        stage: where they stand among events of the same moment.
        items: the events of a row.
        columns: those it must have beside subject_id.
        optional: those that some versions have.
        filled: columns without which a row says nothing; it is listed as unusable then.
        keep: rows to take.
        admission: whether `#discharged` is asked for.
        distinct: whether rows repeat what others said.
    """

    name: str
    stage: Stage
    items: tuple[Item, ...]
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    keep: pl.Expr | None = None
    admission: bool = False
    distinct: bool = False


def cell(column: str) -> pl.Expr:
    """Return a column's text, null where empty."""
    return text(column, TEXT)


def coded(system: str, *columns: str) -> pl.Expr:
    """Return SYSTEM//a//b, null where one of the columns is empty."""
    return pl.concat_str([pl.lit(system), *(cell(column) for column in columns)], separator="//")


def at(column: str, *, optional: bool = False) -> Time:
    """Return the time of a column."""
    return dated(cell(column), moment(cell(column)), column, optional=optional)


def day(written: pl.Expr, column: str) -> Time:
    """Return the time of a cell that may tell the day only: then its end, or the discharge on that day."""
    found = moment(written)
    end = found + END_OF_DAY
    left = pl.col(DISCHARGED)
    by = pl.when(left.is_between(found, end)).then(left).otherwise(end)
    return dated(written, pl.when(found == found.dt.truncate("1d")).then(by).otherwise(found), column)


def later(first: Time, column: str) -> Time:
    """Return a time, or that of a column where it is later: a result is known when it is stored."""
    return Time(pl.max_horizontal(first.value, moment(cell(column))), first.reject)


def icd9(column: str) -> pl.Expr:
    """Return an ICD-9-CM diagnosis with its dot: after three characters, after four where it begins with E."""
    bare = cell(column).str.replace_all(".", "", literal=True)
    before = pl.when(bare.str.starts_with("E")).then(4).otherwise(3)
    return pl.lit("ICD9CM//") + dotted(bare, before)


def dotted(bare: pl.Expr, before: pl.Expr) -> pl.Expr:
    """Return a code with a dot after so many characters, where more follow."""
    return (
        pl.when(bare.str.len_chars() > before)
        .then(bare.str.head(before) + "." + bare.str.slice(before))
        .otherwise(bare)
    )


def icd9_procedure(column: str) -> pl.Expr:
    """Return an ICD-9 procedure with its dot, after two characters."""
    return pl.lit("ICD9PCS//") + dotted(cell(column).str.replace_all(".", "", literal=True), pl.lit(2))


def of_version(nine: pl.Expr, ten: pl.Expr) -> pl.Expr:
    """Return the code that fits the column icd_version, null for others."""
    version = cell("icd_version")
    return pl.when(version == "9").then(nine).when(version == "10").then(ten)


def measured(code: pl.Expr, when: Time, value: str, answer: str | None, unit: str | None) -> Item:
    """Return a measurement: its number with the unit as text, or else the answer as text."""
    parsed = number(cell(value))
    words = pl.lit(None, dtype=pl.String) if answer is None else cell(answer)
    units = pl.lit(None, dtype=pl.String) if unit is None else cell(unit)
    said = pl.when(parsed.is_not_null()).then(units).otherwise(words)
    return Item(code, when, parsed, said, bad_number(cell(value), parsed, value))


def infused(when: str) -> Item:
    """Return an infusion at its start: its rate, or the amount of a bolus; what it came to is known only later."""
    rate, amount = number(cell("rate")), number(cell("amount"))
    unit = pl.when(rate.is_not_null()).then(cell("rateuom")).otherwise(cell("amountuom"))
    return Item(coded("MIMIC_ITEM", "itemid"), at(when), pl.coalesce(rate, amount), unit)


DISCHARGE = Time(
    pl.col(DISCHARGED),
    pl.when(pl.col(DISCHARGED).is_null()).then(pl.lit("hadm_id: no discharge; expected an admission that has one")),
)
OBSERVATION = cell("admission_type").str.to_uppercase().is_in(OBSERVED).fill_null(value=False)
VISIT = pl.when(OBSERVATION).then(pl.lit("VISIT//OBSERVATION//")).otherwise(pl.lit("VISIT//INPATIENT//"))
ARRIVED = pl.when(cell("edregtime").is_not_null()).then(pl.lit("VISIT//EMERGENCY//START"))
LEFT = pl.when(cell("edregtime").is_not_null() & cell("edouttime").is_not_null()).then(pl.lit("VISIT//EMERGENCY//END"))
STANDING = cell("statusdescription").str.to_lowercase().ne_missing("rewritten")
ITEM = coded("MIMIC_ITEM", "itemid")
LAB = (
    pl.when(pl.col(LOINC).is_not_null()).then(pl.lit("LOINC//") + pl.col(LOINC)).otherwise(coded("MIMIC_LAB", "itemid"))
)
DRAWN_AT = pl.coalesce(cell("charttime"), cell("chartdate"))
DRAWN = day(DRAWN_AT, "charttime")
READ = Time(
    pl.max_horizontal(DRAWN.value, pl.coalesce(moment(cell("storetime")), pl.col(DISCHARGED), DRAWN.value + CULTURE)),
    DRAWN.reject,
)
DRUG = pl.lit("MIMIC_DRUG//") + cell("drug").str.to_uppercase()
# A unit alone is no dose.
DOSE = cell("dose_val_rx") + pl.coalesce(pl.lit(" ") + cell("dose_unit_rx"), pl.lit(""))

ADMISSIONS = (
    Table(
        "admissions",
        Stage.START,
        (
            Item(ARRIVED, at("edregtime", optional=True)),
            Item(VISIT + "START", at("admittime")),
            Item(coded("ADMISSION_TYPE", "admission_type"), at("admittime")),
            Item(coded("ADMISSION_LOCATION", "admission_location"), at("admittime")),
            Item(coded("INSURANCE", "insurance"), at("admittime")),
            Item(coded("MARITAL_STATUS", "marital_status"), at("admittime")),
        ),
        ("hadm_id", "admittime", "dischtime", "deathtime", "admission_type"),
        ("admission_location", "insurance", "marital_status", "edregtime", "edouttime"),
    ),
    Table(
        "admissions",
        Stage.END,
        (
            Item(LEFT, at("edouttime", optional=True)),
            Item(coded("DISCHARGE_LOCATION", "discharge_location"), at("dischtime")),
            Item(VISIT + "END", at("dischtime", optional=True)),
        ),
        ("dischtime", "admission_type"),
        ("discharge_location", "edregtime", "edouttime"),
    ),
)
MICROBIOLOGY = Table(
    "microbiologyevents",
    Stage.EVENT,
    (
        Item(coded("MIMIC_SPECIMEN", "spec_itemid"), DRAWN),
        Item(coded("MIMIC_ORGANISM", "org_itemid"), READ),
        Item(coded("MIMIC_SUSCEPTIBILITY", "org_itemid", "ab_itemid", "interpretation"), READ),
    ),
    ("hadm_id", "chartdate", "charttime", "spec_itemid", "org_itemid", "ab_itemid", "interpretation"),
    ("storetime",),
    admission=True,
    distinct=True,
)
LABS = Table(
    "labevents",
    Stage.EVENT,
    (measured(LAB, later(at("charttime"), "storetime"), "valuenum", "value", "valueuom"),),
    ("itemid", "charttime", "value", "valuenum", "valueuom"),
    ("storetime",),
    filled=("itemid",),
)
CHART = Table(
    "chartevents",
    Stage.EVENT,
    (measured(ITEM, at("charttime"), "valuenum", "value", "valueuom"),),
    ("itemid", "charttime", "value", "valuenum", "valueuom"),
    ("error",),
    filled=("itemid",),
    keep=cell("error").ne_missing("1"),
)
OUTPUT = Table(
    "outputevents",
    Stage.EVENT,
    (measured(ITEM, at("charttime"), "value", None, "valueuom"),),
    ("itemid", "charttime", "value", "valueuom"),
    ("iserror",),
    filled=("itemid",),
    keep=cell("iserror").ne_missing("1"),
)


def stays() -> tuple[Table, ...]:
    """Return the two ends of stays in intensive care. They are part of a visit, not visits."""
    start = (Item(coded("ICU", "first_careunit") + "//START", at("intime")),)
    end = (Item(coded("ICU", "last_careunit") + "//END", at("outtime", optional=True)),)
    return (
        Table("icustays", Stage.START, start, ("first_careunit", "intime")),
        Table("icustays", Stage.END, end, ("last_careunit", "outtime")),
    )


def infusions(name: str, when: str) -> Table:
    """Return a table of infusions, without orders that were written anew."""
    columns = ("itemid", when, "amount", "amountuom", "rate", "rateuom")
    return Table(name, Stage.EVENT, (infused(when),), columns, ("statusdescription",), ("itemid",), STANDING)


def procedures(name: str) -> Table:
    """Return a table of bedside procedures at their start; how long they took is known only later."""
    items = (Item(ITEM, at("starttime")),)
    return Table(name, Stage.EVENT, items, ("itemid", "starttime"), ("statusdescription",), ("itemid",), STANDING)


def billed(name: str, code: pl.Expr, *columns: str) -> Table:
    """Return a table that is coded after the stay, and so stands at the discharge."""
    items = (Item(code, DISCHARGE),)
    return Table(name, Stage.BILLED, items, ("hadm_id", *columns), filled=columns, admission=True)


def prescribed(when: Time, column: str) -> Table:
    """Return prescriptions, from their start; the dose is kept as text, since its units differ."""
    items = (Item(DRUG, when, text=DOSE),)
    columns = ("hadm_id", column, "drug", "dose_val_rx", "dose_unit_rx")
    return Table("prescriptions", Stage.EVENT, items, columns, filled=("drug",), admission=True)


def timed(name: str, code: pl.Expr, when: str, *columns: str) -> Table:
    """Return a table whose rows are codes with a time."""
    return Table(name, Stage.EVENT, (Item(code, at(when)),), (when, *columns))
