"""FHIR R4 and STU3: bulk exports in NDJSON, bundles and single resources in JSON, plain or gzip."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from ehr.events import EVENTS
from ehr.sources.fhir.codings import Json, word
from ehr.sources.fhir.files import UNREADABLE, File, Row, candidates, damaged, look, of_object, place_of, rows
from ehr.sources.fhir.links import Links
from ehr.sources.fhir.resources import READ, events
from ehr.sources.parts import Part, Source, subject_of

BATCH = 10_000
SAMPLE = 20
SAMPLE_ROWS = 200
SCHEMA = pl.Schema({**EVENTS, "row": pl.Int64(), "reject": pl.String(), "patient": pl.String()})
OLDER = ("context", "assertedDate", "notDone", "notGiven", "dateWritten")
# These have a context in R4 too.
KEPT_CONTEXT = ("MedicationAdministration", "MedicationStatement", "MedicationDispense")


def matches(path: Path) -> bool:
    """Tell whether a path looks like FHIR: one of its first JSON files has a resourceType."""
    try:
        return any(glance(file) for file in islice(candidates(path), SAMPLE))
    except OSError:
        return False


def glance(path: Path) -> bool:
    """Tell whether a file begins like FHIR; one that is cut off may be FHIR, and reading it says what is wrong."""
    try:
        return look(path, path.name) is not None
    except UNREADABLE:
        return path.is_file() and ".ndjson" in path.name


def open(path: Path, *, repair: bool = False) -> Source:
    """Open FHIR files: a folder of them, at any depth, or one.

    Only the beginning of each file is read; resources come when they are asked for.

    Args:
        path: file or folder.
        repair: taken for the sake of one signature; resources need no order here.

    Raises:
        ValueError: no FHIR file, or one that cannot be opened.
    """
    del repair
    files, others = found(path)
    if not files:
        raise ValueError(
            f"{path}: no FHIR resources; expected NDJSON or JSON files with a resourceType; pass their folder"
        )
    links = Links(resources=partial(of_type, files))
    told = [file for file in files if file.first in (*READ, "Bundle") or not named(file)]
    told.sort(key=lambda file: place_of(file.first))
    if not told:
        kinds = ", ".join(sorted({file.first for file in files}))
        raise ValueError(f"{path}: only {kinds}; expected Patient, Encounter, Condition and the like; add their files")
    parts = tuple(Part(file.name, stream([file], links).select(pl.exclude("patient"))) for file in told)
    notes = [f"no FHIR in {', '.join(others[:3])}{' and others' if len(others) > 3 else ''}"] if others else []
    version = "STU3" if any(older(file, links) for file in spread(files)) else "R4"
    return Source("fhir", version, parts, patients(files, links), notes=tuple(notes))


def scan(path: Path, *, repair: bool = False) -> pl.LazyFrame:
    """Return all events of FHIR files that can be used, lazy, file by file (see `open`)."""
    frames = [part.events.filter(pl.col("reject").is_null()) for part in open(path, repair=repair).parts]
    return pl.concat([frame.select(EVENTS.names()) for frame in frames])


def of_bundle(bundle: Json) -> pl.DataFrame:
    """Return the events of one bundle that is at hand, as SCHEMA in the bundle's order (see `files.parse`)."""
    nothing = Links(resources=lambda _: ())
    return pl.concat([pl.DataFrame(schema=SCHEMA), *frames(of_object(None, bundle, nothing))])


def found(path: Path) -> tuple[list[File], list[str]]:
    """Return the FHIR files of a path, and the names of JSON files that are none."""
    files: list[File] = []
    others: list[str] = []
    for file in candidates(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        try:
            held = look(file, name)
        except UNREADABLE as error:
            raise damaged(name, error) from None
        if held:
            files.append(held)
        else:
            others.append(name)
    return files, others


def spread(files: Sequence[File]) -> list[File]:
    """Return a few files, of each type that files begin with at least one, up to a limit."""
    first = {file.first: file for file in reversed(files)}
    return list(first.values())[:SAMPLE]


def older(file: File, links: Links) -> bool:
    """Tell whether the first resources of a file are of STU3."""
    return any(is_older(row.resource) for row in islice(rows(file, links), SAMPLE_ROWS))


def is_older(resource: Json) -> bool:
    """Tell whether a resource has what only STU3 has."""
    kind = str(resource.get("resourceType"))
    if kind not in READ:
        return False
    renamed = any(field in resource for field in OLDER) and kind not in KEPT_CONTEXT
    return renamed or isinstance(resource.get("verificationStatus"), str)


def of_type(files: Sequence[File], kind: str) -> Iterator[Json]:
    """Yield the resources of a type that stand in no bundle, for references across files."""
    none = Links(resources=lambda _: ())
    for file in files:
        if may_hold(file, kind):
            for row in rows(file, none):
                if row.resource.get("resourceType") == kind:
                    yield row.resource


def may_hold(file: File, kind: str) -> bool:
    """Tell whether a file may hold resources of a type: it begins with one, or may be of mixed types."""
    return file.first == kind or (file.lines and file.first != "Bundle" and not named(file))


def named(file: File) -> bool:
    """Tell whether a file is named after the type that it begins with, as bulk exports are: it holds no other."""
    return bool(file.first) and file.path.name.lower().startswith(file.first.lower())


def stream(files: Sequence[File], links: Links) -> pl.LazyFrame:
    """Return SCHEMA of files, made batch by batch as it is read."""

    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        del size
        for file in files:
            for frame in frames(rows(file, links)):
                kept = frame if limit is None else frame.head(limit)
                limit = None if limit is None else limit - len(kept)
                kept = kept if predicate is None else kept.filter(predicate)
                yield kept if columns is None else kept.select(columns)
                if limit == 0:
                    return

    return register_io_source(batches, schema=SCHEMA, validate_schema=True)


def frames(found: Iterator[Row]) -> Iterator[pl.DataFrame]:
    """Yield resources as batches of SCHEMA."""
    while batch := list(islice(found, BATCH)):
        lines = [line for row in batch for line in lines_of(row)]
        frame = pl.DataFrame(lines, schema=list(SCHEMA)[1:], orient="row", schema_overrides=SCHEMA)
        yield frame.select(subject_of(frame["patient"]), pl.exclude("subject_id")).select(SCHEMA.names())


Line = tuple[int | None, str, float | None, str | None, int, str | None, str | None]


def lines_of(row: Row) -> list[Line]:
    """Return the events of a resource as rows of SCHEMA after its first column, or one row with the reason for none."""
    kind = word(row.resource.get("resourceType"))
    if row.reject is None and kind not in READ:
        return []
    person = word(row.resource.get("id")) if kind == "Patient" else row.links.patient(row.resource)
    try:
        made = events(row.resource, row.links) if row.reject is None else []
        reject = row.reject
    except ValueError as reason:
        made, reject = [], str(reason)
    if made and person is None:
        made, reject = [], "no id" if kind == "Patient" else "no reference to a Patient"
    if reject:
        return [(None, kind or "unreadable", None, None, row.number, reject, person)]
    return [(time, code, number, text, row.number, None, person) for time, code, number, text in made]


def patients(files: Sequence[File], links: Links) -> pl.LazyFrame:
    """Return subject_id and patient, from the files that hold patients where a bulk export keeps them apart."""
    apart = [file for file in files if file.first == "Bundle" or not file.lines or may_hold(file, "Patient")]
    return stream(apart or files, links).select("subject_id", "patient").drop_nulls().unique(maintain_order=True)
