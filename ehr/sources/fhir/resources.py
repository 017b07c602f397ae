"""FHIR resources to events, one resource at a time."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ehr.events import BIRTH, DEATH
from ehr.sources.fhir.codings import Json, chosen, code_of, listed, mapping, name_of, word
from ehr.sources.fhir.links import Links
from ehr.sources.fhir.times import end_of, read

# What did not happen, or was taken back.
LEFT_OUT = frozenset(
    {
        "entered-in-error", "cancelled", "not-done", "not-taken", "draft", "planned", "nullified", "preparation",
        "declined", "refuted",
    }
)  # fmt: skip
# Encounter classes of R4 (v3-ActCode) and of STU3 servers, in the words that other formats use too.
CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "AMB": "AMBULATORY", "IMP": "INPATIENT", "ACUTE": "INPATIENT", "NONAC": "INPATIENT", "EMER": "EMERGENCY",
        "HH": "HOME", "VR": "VIRTUAL", "SS": "SHORTSTAY", "OBSENC": "OBSERVATION", "FLD": "FIELD",
    }
)  # fmt: skip
SEX: Mapping[str, str] = MappingProxyType({"male": "M", "female": "F", "other": "O"})
# Categories of race and ethnicity of the US core profile (CDC, 2.16.840.1.113883.6.238).
CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        "2106-3": "white", "2054-5": "black", "2028-9": "asian", "2076-8": "hawaiian", "1002-5": "native",
        "2131-1": "other", "2186-5": "nonhispanic",
    }
)  # fmt: skip


class Event(NamedTuple):
    """One event of a patient: microseconds since 1970 or null for a static fact, code, number, text."""

    time: int | None
    code: str
    number: float | None = None
    text: str | None = None


class Shape(NamedTuple):
    """Where a resource keeps its concept, and the times that stand for it, best first; periods count by their start."""

    concept: str
    times: tuple[str, ...]


EFFECTIVE = ("effectiveDateTime", "effectivePeriod")
SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "Condition": Shape("code", ("onsetDateTime", "onsetPeriod", "recordedDate", "assertedDate")),
        "Observation": Shape("code", (*EFFECTIVE, "effectiveInstant", "issued")),
        "Procedure": Shape("code", ("performedDateTime", "performedPeriod")),
        "MedicationRequest": Shape("medication", ("authoredOn",)),
        "MedicationAdministration": Shape("medication", EFFECTIVE),
        "MedicationStatement": Shape("medication", (*EFFECTIVE, "dateAsserted")),
        "MedicationDispense": Shape("medication", ("whenHandedOver", "whenPrepared")),
        "Immunization": Shape("vaccineCode", ("occurrenceDateTime", "date", "recorded")),
        "AllergyIntolerance": Shape("code", ("onsetDateTime", "recordedDate", "assertedDate")),
        "DiagnosticReport": Shape("code", (*EFFECTIVE, "issued")),
        "CarePlan": Shape("category", ("period", "created")),
    }
)
READ = frozenset({"Patient", "Encounter", *SHAPES})


def events(resource: Json, links: Links) -> list[Event]:
    """Return the events of a resource, none where it did not happen or is of no type that is read.

    Raises:
        ValueError: it should have events but cannot be used; the message is the reason, without values.
    """
    kind = str(resource.get("resourceType"))
    if kind not in READ or left_out(resource):
        return []
    if kind == "Patient":
        return patient(resource)
    if kind == "Encounter":
        return encounter(resource)
    shape = SHAPES[kind]
    time = when(resource, shape.times, links)
    if kind == "Observation":
        return observation(resource, time)
    if shape.concept == "medication":
        codes = [links.medication(resource)]
    else:
        concepts = listed(resource.get(shape.concept))
        codes = [code_of(concept, kind.upper()) for concept in concepts if not administrative(concept)]
    found = [Event(time, code) for code in dict.fromkeys(codes) if code]
    if not found and kind != "CarePlan":
        raise ValueError(f"{kind}.{shape.concept} has no code")
    return found


def left_out(resource: Json) -> bool:
    """Tell whether a resource says that something did not happen, or was entered in error."""
    if resource.get("notDone") is True or resource.get("notGiven") is True or resource.get("doNotPerform") is True:
        return True
    verified = resource.get("verificationStatus")
    # A plain code in STU3, a concept in R4.
    status = verified if isinstance(verified, str) else chosen(verified).get("code")
    return word(resource.get("status")) in LEFT_OUT or word(status) in LEFT_OUT


def administrative(concept: object) -> bool:
    """Tell whether a category of a care plan is the profile's own, which every plan has."""
    return chosen(concept).get("code") == "assess-plan"


def when(resource: Json, fields: tuple[str, ...], links: Links) -> int:
    """Return the time of a resource: the first of the fields that knows its day, else the best partial date.

    Where it has no time of its own, that of its encounter's end: by then it was known.
    """
    partial: int | None = None
    for field in fields:
        text = stated(resource, field)
        if text is None:
            continue
        moment = read(text)
        if moment is None:
            raise ValueError(f"{field} is no date")
        if moment.day:
            return moment.time
        partial = moment.time if partial is None else partial
    time = partial if partial is not None else links.encounter_time(resource)
    if time is None:
        raise ValueError(f"none of {', '.join(fields)}")
    return time


def stated(resource: Json, field: str) -> str | None:
    """Return the date that a field holds, or that its period starts with; a result's period counts by its end."""
    value = resource.get(field)
    if not isinstance(value, dict):
        return word(value)
    period = mapping(value)
    late = resource["resourceType"] in {"Observation", "DiagnosticReport"}
    start, end = word(period.get("start")), word(period.get("end"))
    return (end or start) if late else (start or end)


def observation(resource: Json, time: int) -> list[Event]:
    """Return the event of an observation and those of its components; a bare panel is its components alone."""
    components = [mapping(component) for component in listed(resource.get("component"))]
    found: list[Event] = []
    for part in (resource, *components):
        code = code_of(part.get("code"), "OBSERVATION")
        number, text = value_of(part)
        if code is None:
            raise ValueError("Observation.code has no code")
        if part is not resource or not components or number is not None or text is not None:
            found.append(Event(time, code, number, text))
    return found


def value_of(part: Json) -> tuple[float | None, str | None]:
    """Return the number of a result and its unit, or null and what it says in words."""
    quantity = mapping(part.get("valueQuantity"))
    number = quantity.get("value", part.get("valueInteger"))
    if number is not None:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError("the value is no number")
        return finite(number), word(quantity.get("code")) or word(quantity.get("unit"))
    if isinstance(part.get("valueBoolean"), bool):
        return None, str(part["valueBoolean"]).lower()
    return None, word(part.get("valueString")) or name_of(part.get("valueCodeableConcept"))


def finite(number: float) -> float:
    """Return a number as a float; a whole number beyond all floats is infinite, and the gates take it out."""
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def encounter(resource: Json) -> list[Event]:
    """Return start and end of an encounter by class, and its type's code at the start."""
    period = mapping(resource.get("period"))
    start, end = word(period.get("start")), word(period.get("end"))
    begun, done = read(start) if start else None, read(end) if end else None
    if begun is None:
        raise ValueError("period.start is no date" if start else "no period.start")
    if end and done is None:
        raise ValueError("period.end is no date")
    held = resource.get("class")
    stay = word(mapping(held).get("code")) or word(held) or "UNKNOWN"
    place = CLASSES.get(stay.upper(), stay.upper())
    found = [Event(begun.time, f"VISIT//{place}//START")]
    reason = code_of(next(iter(listed(resource.get("type"))), None), "ENCOUNTER")
    if reason:
        found.append(Event(begun.time, reason))
    if done is not None and end:
        # An end of which only the day is known must not fall before a start on that day.
        last = done.time if done.time >= begun.time else end_of(end)
        if last is None or last < begun.time:
            raise ValueError("period.end is before period.start")
        found.append(Event(last, f"VISIT//{place}//END"))
    return found


def patient(resource: Json) -> list[Event]:
    """Return birth, death and what is stated of sex, race and ethnicity."""
    found: list[Event] = []
    born = birth_time(resource) or word(resource.get("birthDate"))
    if born:
        moment = read(born)
        if moment is None:
            raise ValueError("birthDate is no date")
        found.append(Event(moment.time, BIRTH))
    sex = SEX.get(str(resource.get("gender")))
    if sex:
        found.append(Event(None, f"SEX//{sex}"))
    for extension in listed(resource.get("extension")):
        code = category(mapping(extension))
        if code:
            found.append(Event(None, code))
    died = word(resource.get("deceasedDateTime"))
    if died:
        # Of a day, month or year its end: what happened meanwhile was not after death.
        last = end_of(died)
        if last is None:
            raise ValueError("deceasedDateTime is no date")
        found.append(Event(last, DEATH))
    return found


def birth_time(resource: Json) -> str | None:
    """Return the time of birth where the extension for it has one."""
    for extension in listed(mapping(resource.get("_birthDate")).get("extension")):
        held = mapping(extension)
        if str(held.get("url")).endswith("/patient-birthTime"):
            return word(held.get("valueDateTime"))
    return None


def category(extension: Json) -> str | None:
    """Return the code of a race or ethnicity extension."""
    stem = str(extension.get("url")).rsplit("/", 1)[-1]
    if stem not in {"us-core-race", "us-core-ethnicity"}:
        return None
    prefix = "RACE" if stem == "us-core-race" else "ETHNICITY"
    inner = [mapping(held) for held in listed(extension.get("extension"))]
    coding = next((mapping(held.get("valueCoding")) for held in inner if held.get("url") == "ombCategory"), None)
    coding = coding or chosen(extension.get("valueCodeableConcept"))
    code = word(coding.get("code"))
    known = CATEGORIES.get(code or "")
    # 2135-2 is Hispanic among ethnicities; as a race it appears for all that has no other name.
    known = "hispanic" if prefix == "ETHNICITY" and code == "2135-2" else known
    spoken = known or word(coding.get("display")) or code
    return f"{prefix}//{spoken.lower()}" if spoken else None
