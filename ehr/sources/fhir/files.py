"""FHIR files: NDJSON line by line, bundles and single resources in JSON, plain or gzip."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from ehr.events import first_line
from ehr.sources.fhir.codings import Json, listed, mapping, word
from ehr.sources.fhir.links import Links, identified, within

SUFFIXES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz")
HEAD = 1 << 16
UNREADABLE = (OSError, EOFError, zlib.error)
TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')


class File(NamedTuple):
    """One file: its place, its name in messages, the type it begins with, and whether each line is one object."""

    path: Path
    name: str
    first: str
    lines: bool


class Row(NamedTuple):
    """One resource, the number of its line or entry, the links it stands among, and why it cannot be read."""

    number: int
    resource: Json
    links: Links
    reject: str | None = None


def place_of(kind: object) -> int:
    """Return the place of a resource type among events of one time: patients, encounters, then all others."""
    return {"Patient": 0, "Encounter": 1}.get(str(kind), 2)


def candidates(path: Path) -> list[Path]:
    """Return files that may hold FHIR by their name, in a fixed order."""
    found = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    return [file for file in found if file.name.lower().endswith(SUFFIXES) and not file.name.startswith(".")]


def reader(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file for reading bytes, unpacked."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def look(path: Path, name: str) -> File | None:
    """Return what a file is by its beginning; None where it holds no FHIR.

    Raises:
        OSError, EOFError, zlib.error: it cannot be opened, unpacked, or is cut off.
    """
    with reader(path) as file:
        head = file.read(HEAD)
    line = head.split(b"\n", 1)[0]
    found = TYPE.search(head)
    # NDJSON whose first line is broken is still NDJSON, and says so when read.
    declared = ".ndjson" in path.name.lower() or ".jsonl" in path.name.lower()
    lines = declared or whole(line)
    if found is None:
        return File(path, name, "", lines=True) if declared and head.strip() and not whole(line) else None
    return File(path, name, found[1].decode(), lines)


def whole(line: bytes) -> bool:
    """Tell whether a line is one JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def rows(file: File, links: Links) -> Iterator[Row]:
    """Yield the resources of a file, those of bundles one by one; memory holds a line, or one object that is the file.

    Args:
        file: what to read.
        links: of the set, for resources that stand in no bundle.

    Raises:
        ValueError: the file is cut off, or is no JSON.
    """
    try:
        with reader(file.path) as stream:
            if file.lines:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        yield from of_line(number, line, links)
            else:
                yield from of_object(None, parse(stream.read()), links)
    except UNREADABLE as error:
        raise damaged(file.name, error) from None
    except (ValueError, RecursionError):
        raise ValueError(f"{file.name}: not JSON; expected a bundle, a resource or NDJSON; write it again") from None


def damaged(name: str, error: BaseException) -> ValueError:
    """Return the error for a file that cannot be read to its end."""
    return ValueError(f"{name}: cannot be read ({first_line(error)}); expected whole JSON; copy it again")


def parse(data: bytes) -> object:
    """Return what JSON says; halves of characters, which JSON can spell and no table can hold, are replaced."""
    return mended(json.loads(data), data)


def mended(held: object, data: bytes) -> object:
    """Return what was read from JSON with halves of characters replaced (see `parse`)."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return held
    return json.loads(json.dumps(held, ensure_ascii=False).encode("utf-8", "replace"))


def of_line(number: int, line: bytes, links: Links) -> Iterator[Row]:
    """Yield the resources of one line of NDJSON."""
    try:
        held = parse(line)
    except (ValueError, RecursionError):
        # Among them bytes that are no UTF-8.
        yield Row(number, {}, links, "the line is not JSON")
        return
    yield from of_object(number, held, links)


def of_object(number: int | None, held: object, links: Links) -> Iterator[Row]:
    """Yield the resources of one JSON value: a bundle's entries, a list's items, or itself.

    Args:
        number: of its line; entries count from 1 where it is the whole file.
        held: the value.
        links: of the set.
    """
    resource = mapping(held)
    if resource.get("resourceType") == "Bundle":
        entries = [mapping(entry) for entry in listed(resource.get("entry"))]
        inner = [identified(entry) for entry in entries]
        own = within(entries, inner)
        # Visits begin before what happened at the same moment in them, wherever the bundle puts them.
        for at in sorted(range(len(inner)), key=lambda at: place_of(inner[at].get("resourceType"))):
            if inner[at]:
                yield Row(number or at + 1, inner[at], own)
    elif isinstance(held, list):
        for at, item in enumerate(held, start=1):
            yield Row(number or at, mapping(item), links)
    else:
        reject = None if word(resource.get("resourceType")) else "no resourceType"
        yield Row(number or 1, resource, links, reject)
