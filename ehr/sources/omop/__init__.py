"""OMOP CDM 5.3 and 5.4, as CSV (plain or gzip) or parquet, names in any case."""

from pathlib import Path

import polars as pl

from ehr.events import EVENTS
from ehr.sources.omop import concepts as vocabulary
from ehr.sources.omop import statements
from ehr.sources.omop.columns import integer, text
from ehr.sources.omop.files import CLINICAL, Table, listing, tables
from ehr.sources.parts import Part, Source

STAYS = (("visit_occurrence", "VISIT"), ("visit_detail", "VISIT_DETAIL"))


def matches(path: Path) -> bool:
    """Tell whether a path looks like OMOP: a folder with person and at least one clinical table."""
    try:
        found = listing(path)
    except OSError:
        return False
    return "person" in found and any(name in found for name in CLINICAL)


def open(path: Path, *, repair: bool = False) -> Source:
    """Open an OMOP database.

    Headers are read, and the concept ids in use where there is a vocabulary; rows come when they are asked for.

    Args:
        path: the folder with its tables; a vocabulary may lie in a folder below.
        repair: taken for the sake of one signature; rows need no order here.

    Raises:
        ValueError: no person table, a table that cannot be read, or a column that is missing or of a wrong type.
    """
    del repair
    found = tables(path)
    if "person" not in found:
        raise ValueError(f"{path}: no table person; expected OMOP CDM 5.3 or 5.4; add person.csv or person.parquet")
    found["person"].require("person_id")
    notes = absent(found)
    known = vocabulary.load(found, statements.concept_columns())
    if "visit_detail" in found and "visit_occurrence" in found:
        found["visit_detail"] = statements.repeated(found["visit_detail"], found["visit_occurrence"])
    parts = tuple(parts_of(found, known))
    return Source("omop", version_of(found), parts, patients(found["person"]), known.parents, notes)


def scan(path: Path, *, repair: bool = False) -> pl.LazyFrame:
    """Return all events of an OMOP database that can be used, lazy, table by table (see `open`)."""
    frames = [part.events.filter(pl.col("reject").is_null()) for part in open(path, repair=repair).parts]
    return pl.concat([frame.select(EVENTS.names()) for frame in frames])


def parts_of(found: dict[str, Table], known: vocabulary.Concepts) -> list[Part]:
    """Return the parts of a database, in the order that events of one time shall have."""
    parts = [Part(found["person"].name, statements.persons(found["person"], known))]
    stays = [(found[name], prefix) for name, prefix in STAYS if name in found]
    parts += [Part(table.name, statements.visits(table, prefix, known, ends=False)) for table, prefix in stays]
    for name, kind in statements.KINDS.items():
        if name in found:
            parts.append(Part(found[name].name, statements.clinical(found[name], kind, known)))
    parts += [Part(table.name, statements.visits(table, prefix, known, ends=True)) for table, prefix in stays[::-1]]
    if "death" in found:
        parts.append(Part(found["death"].name, statements.deaths(found["death"])))
    return parts


def patients(person: Table) -> pl.LazyFrame:
    """Return subject_id and the source's own id: person_source_value, else person_id."""
    subject = integer(person, "person_id")
    own = pl.coalesce(text(person, "person_source_value"), subject.cast(pl.String))
    return person.frame.select(subject.alias("subject_id"), own.alias("patient")).drop_nulls()


def version_of(found: dict[str, Table]) -> str:
    """Return the version that cdm_source states, else the one that the columns of visits fit."""
    source = found.get("cdm_source")
    if source and "cdm_version" in source.types:
        stated = vocabulary.collect(source.frame.select(text(source, "cdm_version").alias("version")), source)
        version = stated["version"].drop_nulls()
        if len(version):
            return str(version[0]).lower().removeprefix("cdm").strip(" v")
    visit = found.get("visit_occurrence")
    older = {"admitting_source_concept_id", "admitting_source_value", "discharge_to_concept_id"}
    return "5.3" if visit and older & set(visit.types) else "5.4"


def absent(found: dict[str, Table]) -> tuple[str, ...]:
    """Return a note on tables that are not there, and what follows from it."""
    missing = [name for name in ("death", *CLINICAL) if name not in found]
    notes = [f"tables absent: {', '.join(missing)}"] if missing else []
    if "concept" not in found:
        notes.append("no table concept: codes are concept numbers (OMOP//NUMBER) or source values")
    return tuple(notes)
