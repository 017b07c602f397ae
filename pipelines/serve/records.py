"""Records in a request's body: one patient's FHIR bundle, or MEDS rows, to EVENTS in memory."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from ehr.events import EVENTS, order
from ehr.sources import fhir
from ehr.sources.fhir.files import mended
from ehr.sources.fhir.resources import finite
from pipelines.serve import intake
from pipelines.serve.refusals import Refusal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ROWS = pl.Schema({**EVENTS, "row": pl.Int64()})
EXPECTED = 'expected a FHIR Bundle, or {"events": [...]} with MEDS rows'
Row = tuple[int | None, int | None, str | None, float | None, str | None]


class Records(NamedTuple):
    """One patient's records.

    Attributes:
        events: EVENTS in canonical order, with the columns row (from 1) and, from FHIR, reject.
        patient: the source's own id.
        format: fhir or meds.
    """

    events: pl.DataFrame
    patient: str
    format: str


def content_of(body: bytes) -> Any:  # noqa: ANN401  JSON
    """Return the JSON of a body, with halves of characters replaced as in files.

    Raises:
        Refusal: 400, it is no JSON in UTF-8, or nested too deeply.
    """
    try:
        return mended(intake.parse(body), body)
    except RecursionError:
        raise Refusal(400, "the JSON is nested too deeply") from None


def read(content: object) -> Records:
    """Return the records of one patient.

    Args:
        content: a FHIR Bundle, or an object with `events`, as JSON gives them.

    Raises:
        Refusal: 400 it is neither, 422 it is not of one patient.
    """
    if not isinstance(content, dict):
        raise Refusal(400, f"the JSON is no object; {EXPECTED}")
    if content.get("resourceType") == "Bundle":
        return of_bundle(content)
    if "resourceType" in content:
        raise Refusal(400, f"a FHIR resource that is no Bundle; {EXPECTED}")
    if "events" in content:
        return of_rows(content["events"])
    raise Refusal(400, f"neither resourceType nor events; {EXPECTED}")


def of_bundle(bundle: dict[str, Any]) -> Records:
    """Return the records of a FHIR bundle; the events are those that its file would give.

    Raises:
        Refusal: 422, they are not of one patient.
    """
    held = fhir.of_bundle(bundle)
    alone(held["subject_id"])
    patient = str(held["patient"].drop_nulls()[0])
    return Records(order(held.drop("patient").lazy()).collect(), patient, "fhir")


def of_rows(rows: object) -> Records:
    """Return the records of MEDS rows, in any order.

    Args:
        rows: a list of objects with the columns of EVENTS; time in ISO 8601, UTC where it states no zone.

    Raises:
        Refusal: 400, a row is no such object; 422, they are not of one patient.
    """
    if not isinstance(rows, list):
        raise Refusal(400, "events is no list; expected objects with subject_id, time and code")
    lines = [(*row_of(row, number), number) for number, row in enumerate(rows, start=1)]
    held = pl.DataFrame(lines, schema=ROWS, orient="row")
    alone(held["subject_id"])
    patient = str(held["subject_id"].drop_nulls()[0])
    return Records(order(held.lazy()).collect(), patient, "meds")


def alone(subjects: pl.Series) -> None:
    """Refuse records of nobody and of several.

    Raises:
        Refusal: 422.
    """
    number = subjects.drop_nulls().n_unique()
    if number == 0:
        raise Refusal(422, "the records name no patient; expected those of one")
    if number > 1:
        raise Refusal(422, f"records of {number} patients; expected those of one: send one request a patient")


def row_of(row: object, number: int) -> Row:
    """Return one MEDS row.

    Raises:
        Refusal: 400, it is no object, lacks a column, or a column holds another type.
    """
    if not isinstance(row, dict):
        raise Refusal(400, f"events, row {number}: no object")
    held: Mapping[str, Any] = row
    lacking = [name for name in ("subject_id", "time", "code") if name not in held]
    if lacking:
        raise Refusal(400, f"events, row {number}: no {lacking[0]}")
    if not set(held) <= set(EVENTS.names()):
        raise Refusal(400, f"events, row {number}: a column that is none of {', '.join(EVENTS.names())}")
    subject, value = held["subject_id"], held.get("numeric_value")
    if subject is not None and (not is_whole(subject) or not -(2**63) <= subject < 2**63):
        raise Refusal(400, f"events, row {number}: subject_id is no whole number of 64 bits")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Refusal(400, f"events, row {number}: numeric_value is no number")
    for name in ("code", "text_value"):
        if held.get(name) is not None and not isinstance(held[name], str):
            raise Refusal(400, f"events, row {number}: {name} is no text")
    return (
        subject,
        None if held["time"] is None else instant(held["time"], number),
        held["code"],
        None if value is None else finite(value),
        held.get("text_value"),
    )


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def instant(text: object, number: int) -> int:
    """Return a time as microseconds since 1970.

    Raises:
        Refusal: 400, it is no date or time.
    """
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
        placed = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (placed - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        raise Refusal(400, f"events, row {number}: time is no date or time in ISO 8601") from None
