"""References between resources: to patients, to medications, and to encounters for times that stand nowhere else."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import final

import numpy as np
import numpy.typing as npt

from ehr.sources.fhir.codings import Json, code_of, listed, mapping, word
from ehr.sources.fhir.times import end_of, read

LITERAL = re.compile(r"(?:.*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9.\-_]+)(?:/_history/[^/]+)?")
Resources = Callable[[str], Iterable[Json]]


@final
@dataclass(kw_only=True)
class Links:
    """What a set of resources says of those that others point to; read when first asked for, and then kept."""

    resources: Resources
    """Yields the set's resources of a type."""
    urls: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Type and id by the address that a bundle gives an entry."""

    def id_of(self, reference: object, kind: str) -> str | None:
        """Return the id that a reference to a resource of a type gives; None where it points to something else."""
        text = word(mapping(reference).get("reference"))
        if text is None:
            return None
        if text in self.urls:
            held, name = self.urls[text]
            return name if held == kind else None
        if text.startswith("urn:uuid:"):
            return text.removeprefix("urn:uuid:")
        match = LITERAL.fullmatch(text)
        return match["id"] if match and match["type"] == kind else None

    def patient(self, resource: Json) -> str | None:
        """Return the id of the patient whom a resource is about."""
        return self.id_of(resource.get("subject"), "Patient") or self.id_of(resource.get("patient"), "Patient")

    def medication(self, resource: Json) -> str | None:
        """Return the code of a medication: stated, contained or referenced."""
        stated = code_of(resource.get("medicationCodeableConcept"), "MEDICATION")
        reference = mapping(resource.get("medicationReference"))
        text = word(reference.get("reference"))
        if stated or text is None:
            return stated or named(reference)
        if text.startswith("#"):
            inside = (mapping(held) for held in listed(resource.get("contained")))
            found = next((held for held in inside if held.get("id") == text[1:]), {})
            return code_of(found.get("code"), "MEDICATION") or named(reference)
        return self.medications.get(self.id_of(reference, "Medication") or "") or named(reference)

    def encounter_time(self, resource: Json) -> int | None:
        """Return when the encounter of a resource was over, or began where its end is not known."""
        reference = resource.get("encounter") or resource.get("context")
        found = self.id_of(reference, "Encounter")
        if found is None:
            return None
        keys, times = self.encounters
        key = key_of(found)
        at = int(np.searchsorted(keys, key))
        return int(times[at]) if at < len(keys) and keys[at] == key else None

    @cached_property
    def medications(self) -> dict[str, str]:
        """Codes of medications by id."""
        found = (
            (word(held.get("id")), code_of(held.get("code"), "MEDICATION")) for held in self.resources("Medication")
        )
        return {name: code for name, code in found if name and code}

    @cached_property
    def encounters(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Keys of encounters in ascending order, and their times: 16 bytes an encounter, however long its id."""
        keys: list[int] = []
        times: list[int] = []
        for held in self.resources("Encounter"):
            time = over(mapping(held.get("period")))
            name = word(held.get("id"))
            if name and time is not None:
                keys.append(key_of(name))
                times.append(time)
        order = np.argsort(np.array(keys, dtype=np.uint64), kind="stable")
        return np.array(keys, dtype=np.uint64)[order], np.array(times, dtype=np.int64)[order]


def named(reference: Json) -> str | None:
    """Return the code of a medication of which only its name is known."""
    display = word(reference.get("display"))
    return f"MEDICATION//{display}" if display else None


def over(period: Json) -> int | None:
    """Return the end of a period, or its start where it has none."""
    end, start = word(period.get("end")), word(period.get("start"))
    last = end_of(end) if end else None
    moment = read(start) if start else None
    return last if last is not None else (moment.time if moment else None)


def key_of(name: str) -> int:
    """Return 64 bits that stand for an id."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def identified(entry: Json) -> Json:
    """Return the resource of a bundle's entry; one without id takes it from the entry's address, as servers do."""
    resource, url = mapping(entry.get("resource")), word(entry.get("fullUrl"))
    if not resource or word(resource.get("id")) or not url:
        return resource
    return {**resource, "id": url.rsplit(":", 1)[-1].rsplit("/", 1)[-1]}


def within(entries: list[Json], resources: list[Json]) -> Links:
    """Return the links within one bundle, whose entries hold these resources."""
    urls = {
        url: (str(resource.get("resourceType")), str(resource.get("id")))
        for entry, resource in zip(entries, resources, strict=True)
        if (url := word(entry.get("fullUrl")))
    }

    def of_type(kind: str) -> Iterable[Json]:
        return (resource for resource in resources if resource.get("resourceType") == kind)

    return Links(resources=of_type, urls=urls)
