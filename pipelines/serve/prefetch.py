"""What a CDS client sends along: its prefetched resources, put together as one bundle of one patient."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pipelines.serve.refusals import Refusal

Json = Mapping[str, Any]
FAILED = frozenset({"error", "fatal"})
# One search a type that is read; a medication comes with the request that names it.
SEARCHES: Mapping[str, str] = MappingProxyType(
    {
        "patient": "Patient/{{context.patientId}}",
        "encounters": "Encounter?patient={{context.patientId}}",
        "conditions": "Condition?patient={{context.patientId}}",
        "observations": "Observation?patient={{context.patientId}}",
        "procedures": "Procedure?patient={{context.patientId}}",
        "medications": "MedicationRequest?patient={{context.patientId}}&_include=MedicationRequest:medication",
        "administrations": "MedicationAdministration?patient={{context.patientId}}"
        "&_include=MedicationAdministration:medication",
        "immunizations": "Immunization?patient={{context.patientId}}",
        "allergies": "AllergyIntolerance?patient={{context.patientId}}",
        "reports": "DiagnosticReport?patient={{context.patientId}}",
        "plans": "CarePlan?patient={{context.patientId}}",
    }
)


def bundle_of(prefetch: object, patient: str) -> dict[str, Any]:
    """Return all prefetched resources as one bundle.

    Args:
        prefetch: by the keys of `SEARCHES`: a resource, a bundle of a search, or null where the record has none.
        patient: the id that the hook's context gives.

    Raises:
        Refusal: 412 what is needed is not there: a key is missing, a fetch failed or is not whole, there is no
            patient; 400 a value is no resource, or the patient is another one.
    """
    given: Json = prefetch if isinstance(prefetch, dict) else {}
    lacking = [key for key in SEARCHES if key not in given]
    if lacking:
        raise Refusal(412, f"no prefetch of {', '.join(lacking)}; expected each, null where the record has none")
    entries = [entry for key in SEARCHES for entry in entries_of(key, given[key])]
    held = [entry["resource"] for entry in entries if entry["resource"].get("resourceType") == "Patient"]
    if not held:
        raise Refusal(412, "prefetch patient: no Patient; its record is needed")
    if any(resource.get("id") != patient for resource in held):
        raise Refusal(400, "prefetch patient: another one than context.patientId")
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def entries_of(key: str, value: object) -> Iterator[dict[str, Any]]:
    """Yield what one key holds as entries of a bundle.

    Raises:
        Refusal: 412 the fetch failed or is not whole; 400 it is no resource.
    """
    if value is None:
        return
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise Refusal(400, f"prefetch {key}: no FHIR resource; expected one, a Bundle or null")
    held: Json = value
    if held["resourceType"] == "OperationOutcome":
        raise Refusal(412, f"prefetch {key}: the record's server could not give it")
    if held["resourceType"] != "Bundle":
        yield {"resource": dict(held)}
        return
    if more_follows(held):
        raise Refusal(412, f"prefetch {key}: the first page alone; expected all of it")
    for entry in listed(held.get("entry")):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise Refusal(400, f"prefetch {key}: an entry without a resource")
        if resource.get("resourceType") != "OperationOutcome":
            yield entry
        elif any(is_failure(issue) for issue in listed(resource.get("issue"))):
            raise Refusal(412, f"prefetch {key}: the record's server could not give all of it")


def more_follows(bundle: Json) -> bool:
    """Tell whether a search has a further page."""
    return any(isinstance(link, dict) and link.get("relation") == "next" for link in listed(bundle.get("link")))


def is_failure(issue: object) -> bool:
    """Tell whether an issue says that something is missing; warnings and hints do not."""
    return isinstance(issue, dict) and issue.get("severity") in FAILED


def listed(value: object) -> list[Any]:
    """Return a list as it is, and anything else as an empty one."""
    return value if isinstance(value, list) else []
