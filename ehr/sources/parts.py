"""What a reader hands on: parts of EVENTS, lazy, with what is known of each."""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import polars as pl

# A plain dict, since a source's parents are sent to other processes.
NONE: Mapping[str, tuple[str, ...]] = {}


class Part(NamedTuple):
    """One piece of a source.

    Attributes:
        name: the file or files it comes from, for messages.
        events: EVENTS; optional extra columns `row` (row number in the file, from 1) and `reject` (why this
            row cannot be used, null where it can): preparation lists such rows and leaves them out.
        ordered: in canonical order, and no subject of it stands in another part.
        rows: number of rows where it is known without reading.
        split: the split that the source gives its subjects.
        first_row: row number in the file of the part's first row, from 1.
    """

    name: str
    events: pl.LazyFrame
    ordered: bool = False
    rows: int | None = None
    split: str | None = None
    first_row: int = 1


class Source(NamedTuple):
    """A detected source.

    Attributes:
        format: meds, omop, fhir, mimic or table.
        version: of that format.
        parts: in a fixed order.
        patients: subject_id (i64) and patient (the source's own id, str); None where the two are the same.
        parents: parent codes that the source's own metadata give, by code.
        notes: what a reader should know (tables absent, ages capped), one line each.
        splits: a table of subject_id and split that the source brings, where its parts do not name theirs.
    """

    format: str
    version: str
    parts: tuple[Part, ...]
    patients: pl.LazyFrame | None = None
    parents: Mapping[str, tuple[str, ...]] = NONE
    notes: tuple[str, ...] = ()
    splits: Path | None = None


def subject_of(patient: pl.Series) -> pl.Series:
    """Turn string ids into subject ids: the first 8 bytes of BLAKE2b, sign bit cleared; null stays null.

    Stable across versions and machines, unlike a library's own hash.
    """

    def number(text: str) -> int:
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & (2**63 - 1)

    unique = patient.unique(maintain_order=True).drop_nulls()
    numbers = pl.Series([number(text) for text in unique.to_list()], dtype=pl.Int64)
    return patient.replace_strict(unique, numbers, default=None, return_dtype=pl.Int64).alias("subject_id")
