"""Codings and concepts to codes such as SNOMED//44054006."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

Json = dict[str, Any]

# Canonical addresses of R4 and STU3, and the OIDs that older exports carry.
SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "snomed.info/sct": "SNOMED",
        "loinc.org": "LOINC",
        "www.nlm.nih.gov/research/umls/rxnorm": "RXNORM",
        "www.whocc.no/atc": "ATC",
        "hl7.org/fhir/sid/cvx": "CVX",
        "hl7.org/fhir/sid/ndc": "NDC",
        "hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
        "hl7.org/fhir/sid/icd-10": "ICD10",
        "hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
        "hl7.org/fhir/sid/icd-9-cm/diagnosis": "ICD9CM",
        "hl7.org/fhir/sid/icd-9-cm/procedure": "ICD9PCS",
        "www.cms.gov/medicare/coding/icd9": "ICD9PCS",
        "www.cms.gov/medicare/coding/icd10": "ICD10PCS",
        "hl7.org/fhir/sid/icd-10-pcs": "ICD10PCS",
        "www.ama-assn.org/go/cpt": "CPT",
        "www.cms.gov/medicare/coding/hcpcsreleasecodesets": "HCPCS",
        "urn:oid:2.16.840.1.113883.6.96": "SNOMED",
        "urn:oid:2.16.840.1.113883.6.1": "LOINC",
        "urn:oid:2.16.840.1.113883.6.88": "RXNORM",
        "urn:oid:2.16.840.1.113883.6.73": "ATC",
        "urn:oid:2.16.840.1.113883.12.292": "CVX",
        "urn:oid:2.16.840.1.113883.6.69": "NDC",
        "urn:oid:2.16.840.1.113883.6.90": "ICD10CM",
        "urn:oid:2.16.840.1.113883.6.3": "ICD10",
        "urn:oid:2.16.840.1.113883.6.103": "ICD9CM",
        "urn:oid:2.16.840.1.113883.6.104": "ICD9PCS",
        "urn:oid:2.16.840.1.113883.6.4": "ICD10PCS",
        "urn:oid:2.16.840.1.113883.6.12": "CPT",
    }
)
KNOWN = frozenset(SYSTEMS.values())


def mapping(value: object) -> Json:
    """Return a JSON object as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """Return a JSON list as it is, null as an empty one, and anything else as a list of one."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def word(value: object) -> str | None:
    """Return text without blanks around it; null where it is empty or no text."""
    return (value.strip() or None) if isinstance(value, str) else None


@lru_cache(maxsize=1 << 12)
def prefix_of(system: str) -> str:
    """Return the prefix of a coding system: as `SYSTEMS` has it, else the last word of its address in capitals."""
    plain = system.strip().rstrip("/").lower().removeprefix("http://").removeprefix("https://")
    return SYSTEMS.get(plain) or plain.split("/")[-1].upper().replace(" ", "_")


def coded(coding: object, kind: str) -> str | None:
    """Return one coding as a code; without a system it takes the prefix `kind`."""
    held = mapping(coding)
    code, system = word(held.get("code")), word(held.get("system"))
    if code is None:
        return None
    return f"{prefix_of(system) if system else kind}//{code}"


def chosen(concept: object) -> Json:
    """Return the coding that stands for a concept: the user's choice, else the first of a known system, else the first.

    One event a record: translations of one finding would otherwise count as several.
    """
    codings = [mapping(coding) for coding in listed(mapping(concept).get("coding"))]
    codings = [coding for coding in codings if word(coding.get("code"))]
    picked = [coding for coding in codings if coding.get("userSelected") is True]
    known = [coding for coding in codings if prefix_of(word(coding.get("system")) or "") in KNOWN]
    return next(iter(picked + known + codings), {})


def code_of(concept: object, kind: str) -> str | None:
    """Return a concept as a code; one that is text alone becomes `KIND//text`."""
    found = coded(chosen(concept), kind)
    text = word(mapping(concept).get("text"))
    return found or (f"{kind}//{text}" if text else None)


def name_of(concept: object) -> str | None:
    """Return what a concept says, in words where it has them."""
    coding = chosen(concept)
    return word(coding.get("display")) or word(mapping(concept).get("text")) or word(coding.get("code"))
