"""Rows of OMOP's clinical tables to events."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from ehr.events import BIRTH, DEATH, EVENTS
from ehr.sources.omop.columns import concept, integer, moment, number, text, timed, unreadable
from ehr.sources.omop.concepts import Concepts
from ehr.sources.omop.files import Table

# Concepts of the standard vocabularies, in the words that other formats use too.
SEX: Mapping[int, str] = MappingProxyType({8507: "M", 8532: "F"})
RACE: Mapping[int, str] = MappingProxyType(
    {8527: "white", 8516: "black", 8515: "asian", 8557: "hawaiian", 8657: "native", 8522: "other"}
)
ETHNICITY: Mapping[int, str] = MappingProxyType({38003563: "hispanic", 38003564: "nonhispanic"})
VISITS: Mapping[int, str] = MappingProxyType(
    {
        9201: "INPATIENT", 262: "INPATIENT", 8717: "INPATIENT", 9202: "OUTPATIENT", 9203: "EMERGENCY",
        581476: "HOME", 581477: "AMBULATORY", 5083: "VIRTUAL", 8782: "URGENTCARE", 8546: "HOSPICE",
        8863: "SNF", 42898160: "INSTITUTION", 32037: "ICU",
    }
)  # fmt: skip


class Kind(NamedTuple):
    """Columns of one clinical table: the concept as it was mapped and as it was recorded, and the event's time.

    Attributes:
        prefix: of the source's own values, used where there is no concept.
        concept: the standard concept.
        source: the recorded concept.
        value: the recorded value.
        time: datetime and date columns.
        valued: whether the table has value columns.
    """

    prefix: str
    concept: str
    source: str
    value: str
    time: tuple[str, str]
    valued: bool = False


def kind(prefix: str, stem: str, start: str, *, valued: bool = False) -> Kind:
    """Return the columns of a table whose concepts are named after `stem` and whose times after `start`."""
    time = (f"{start}_datetime", f"{start}_date")
    names = (f"{stem}_concept_id", f"{stem}_source_concept_id", f"{stem}_source_value")
    return Kind(prefix, *names, time, valued)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "condition_occurrence": kind("CONDITION", "condition", "condition_start"),
        "drug_exposure": kind("DRUG", "drug", "drug_exposure_start"),
        "procedure_occurrence": kind("PROCEDURE", "procedure", "procedure"),
        "device_exposure": kind("DEVICE", "device", "device_exposure_start"),
        "measurement": kind("MEASUREMENT", "measurement", "measurement", valued=True),
        "observation": kind("OBSERVATION", "observation", "observation", valued=True),
    }
)


def concept_columns() -> dict[str, tuple[str, ...]]:
    """Return the columns of concept ids that events are made from, by table."""
    columns = {
        name: (kind.concept, kind.source, *(("value_as_concept_id", "unit_concept_id") if kind.valued else ()))
        for name, kind in KINDS.items()
    }
    person = ("gender_concept_id", "race_concept_id", "ethnicity_concept_id")
    visits = {"visit_occurrence": ("visit_concept_id",), "visit_detail": ("visit_detail_concept_id",)}
    return {"person": person, **visits, **columns}


def finish(table: Table, frame: pl.LazyFrame, *reasons: pl.Expr) -> pl.LazyFrame:
    """Select EVENTS, row and reject from a frame that has them but for the subject, which is person_id.

    Args:
        table: where the frame comes from.
        frame: with time, code, numeric_value, text_value where they are not null throughout.
        reasons: why a row cannot be used, null where it can; the first one counts.
    """
    table.require("person_id")
    frame = frame.with_columns(integer(table, "person_id").alias("subject_id"))
    names = frame.collect_schema().names()
    missing = [pl.lit(None, dtype=EVENTS[name]).alias(name) for name in EVENTS if name not in names]
    reject = pl.coalesce(unreadable(table, "person_id", pl.col("subject_id")), *reasons)
    filled = frame.with_columns(*missing, reject.alias("reject"))
    return filled.select(*(pl.col(name).cast(type) for name, type in EVENTS.items()), "row", "reject")


def clinical(table: Table, kind: Kind, concepts: Concepts) -> pl.LazyFrame:
    """Return the events of a clinical table: one a row, at its start.

    The code is the standard concept's, else the recorded concept's, else that of the standard concept's number
    where no vocabulary names it, else the recorded value.
    """
    table.require(kind.concept)
    table.require(*kind.time)
    frame = table.frame.with_columns(
        concept(table, kind.concept).alias("_concept"),
        concept(table, kind.source).alias("_source"),
    )
    frame = timed(table, frame, kind.time, "time")
    frame = concepts.attach(frame, "_concept", "code", "_mapped")
    frame = concepts.attach(frame, "_source", "code", "_recorded")
    own = pl.concat_str(pl.lit(f"{kind.prefix}//"), text(table, kind.value))
    bare = [pl.concat_str(pl.lit("OMOP//"), pl.col(column).cast(pl.String)) for column in ("_concept", "_source")]
    frame = frame.with_columns(pl.coalesce("_mapped", "_recorded", bare[0], own, bare[1]).alias("code"))
    reasons = [pl.col("time_wrong")]
    if kind.valued:
        frame = values(table, frame, concepts)
        reasons.append(unreadable(table, "value_as_number", pl.col("numeric_value")))
    return finish(table, frame, *reasons)


def values(table: Table, frame: pl.LazyFrame, concepts: Concepts) -> pl.LazyFrame:
    """Add numeric_value, and text_value: the unit of a number, else the answer's name or text."""
    frame = frame.with_columns(
        concept(table, "value_as_concept_id").alias("_answer"),
        concept(table, "unit_concept_id").alias("_unit"),
        number(table, "value_as_number").alias("numeric_value"),
    )
    frame = concepts.attach(frame, "_answer", "name", "_answer_name")
    frame = concepts.attach(frame, "_unit", "code", "_unit_code")
    unit = pl.coalesce(pl.col("_unit_code").str.replace(r"^[^/]*//", ""), text(table, "unit_source_value"))
    answer = pl.coalesce("_answer_name", text(table, "value_as_string"), text(table, "value_source_value"))
    valued = pl.col("numeric_value").is_not_null()
    return frame.with_columns(pl.when(valued).then(unit).otherwise(answer).alias("text_value"))


def visits(table: Table, prefix: str, concepts: Concepts, *, ends: bool) -> pl.LazyFrame:
    """Return the starts or the ends of visits.

    Args:
        table: visit_occurrence or visit_detail.
        prefix: VISIT or VISIT_DETAIL.
        concepts: of the vocabulary.
        ends: whether ends are asked for; rows without an end have none, and what is wrong with a row otherwise
            is told by its start.
    """
    stem = prefix.lower()
    start, end = [(f"{stem}_{side}_datetime", f"{stem}_{side}_date") for side in ("start", "end")]
    table.require(f"{stem}_concept_id")
    table.require(*start)
    frame = table.frame.with_columns(concept(table, f"{stem}_concept_id").alias("_concept"))
    frame = timed(table, frame, start, "start" if ends else "time")
    known = pl.col("_concept").replace_strict(VISITS, default=None, return_dtype=pl.String)
    frame = concepts.attach(frame, "_concept", "code", "_code")
    other = pl.col("_code").str.replace(r"^[^/]*//", "").str.to_uppercase()
    place = pl.coalesce(known, other, pl.col("_concept").cast(pl.String), pl.lit("UNKNOWN"))
    code = pl.concat_str(pl.lit(f"{prefix}//"), place, pl.lit("//END" if ends else "//START"))
    frame = frame.with_columns(code.alias("code"))
    if not ends:
        return finish(table, frame, pl.col("time_wrong"))
    frame = timed(table, frame, end, "time").with_columns(last(pl.col("start"), pl.col("time")).alias("time"))
    early = pl.when(pl.col("time") < pl.col("start")).then(pl.lit(f"{end[1]} is before {start[1]}"))
    open_still = pl.col("time_wrong") == f"no {end[1]}"
    whole = (
        integer(table, "person_id").is_not_null()
        & pl.col("start_wrong").is_null()
        & open_still.fill_null(value=False).not_()
    )
    return finish(table, frame.filter(whole), pl.col("time_wrong"), early)


def last(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Return the ends of visits; of one that only knows its day, which is that of the start, the end of that day."""
    day = end.dt.truncate("1d")
    return pl.when((end < start) & (end == day) & (start.dt.truncate("1d") == day)).then(end_of_day(end)).otherwise(end)


def end_of_day(time: pl.Expr) -> pl.Expr:
    """Return the last microsecond of the day that begins at a time."""
    return time.dt.offset_by("1d") - pl.duration(microseconds=1)


def repeated(detail: Table, visit: Table) -> Table:
    """Return visit_detail without the rows that only repeat their visit: same place, start and end."""
    pairs = [
        (integer, "person_id", "person_id"),
        (integer, "visit_occurrence_id", "visit_occurrence_id"),
        (concept, "visit_detail_concept_id", "visit_concept_id"),
        *((moment, f"visit_detail_{side}", f"visit_{side}") for side in ("start_date", "end_date")),
    ]
    keys = [f"_key_{number}" for number in range(len(pairs))]
    own = [read(detail, name).alias(key) for (read, name, _), key in zip(pairs, keys, strict=True)]
    its = [read(visit, name).alias(key) for (read, _, name), key in zip(pairs, keys, strict=True)]
    kept = detail.frame.with_columns(own).join(
        visit.frame.select(its), on=keys, how="anti", nulls_equal=True, maintain_order="left"
    )
    return detail._replace(frame=kept)


def deaths(table: Table) -> pl.LazyFrame:
    """Return deaths; one whose hour is not known counts from the end of its day, after all that happened then."""
    time = ("death_datetime", "death_date")
    table.require(*time)
    frame = timed(table, table.frame, time, "time")
    found = pl.col("time")
    late = pl.when(found.dt.truncate("1d") == found).then(end_of_day(found)).otherwise(found)
    return finish(table, frame.with_columns(late.alias("time"), pl.lit(DEATH).alias("code")), pl.col("time_wrong"))


def persons(table: Table, concepts: Concepts) -> pl.LazyFrame:
    """Return the birth of each person, and sex, race and ethnicity without time where they are stated."""
    table.require("birth_datetime", "year_of_birth")
    born = table.frame.with_columns(birth(table).alias("time"), pl.lit(BIRTH).alias("code"))
    wrong = unreadable(table, "birth_datetime", moment(table, "birth_datetime"))
    unknown = pl.when(birth(table).is_null()).then(pl.lit("no year_of_birth"))
    frames = [finish(table, born, wrong, unknown)]
    for stem, prefix, known in (("gender", "SEX", SEX), ("race", "RACE", RACE), ("ethnicity", "ETHNICITY", ETHNICITY)):
        frame = table.frame.with_columns(concept(table, f"{stem}_concept_id").alias("_concept"))
        frame = concepts.attach(frame, "_concept", "name", "_name")
        word = pl.col("_concept").replace_strict(known, default=None, return_dtype=pl.String)
        own = pl.coalesce("_name", text(table, f"{stem}_source_value"))
        own = own.str.head(1).str.to_uppercase() if prefix == "SEX" else own.str.to_lowercase()
        code = pl.concat_str(pl.lit(f"{prefix}//"), pl.coalesce(word, own)).alias("code")
        stated = frame.with_columns(code).filter(
            pl.col("code").is_not_null() & integer(table, "person_id").is_not_null()
        )
        frames.append(finish(table, stated))
    return pl.concat(frames)


def birth(table: Table) -> pl.Expr:
    """Return the time of birth; a month or day that is not known is the first."""
    parts = [integer(table, f"{part}_of_birth") for part in ("year", "month", "day")]
    year = parts[0].cast(pl.String).str.zfill(4)
    month, day = [part.fill_null(1).cast(pl.String).str.zfill(2) for part in parts[1:]]
    whole = pl.concat_str(year, month, day, separator="-").str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    return pl.coalesce(moment(table, "birth_datetime"), whole)
