"""INFOTABS: tables as sentences, and pairs of table and hypothesis with their label."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LABELS = ("E", "N", "C")
SPLITS = ("train", "dev", "test_alpha1")


class Pair(NamedTuple):
    """A hypothesis about a table.

    Attributes:
        table_id: of the table.
        hypothesis: a sentence.
        label: 0 entailment, 1 neutral, 2 contradiction.
    """

    table_id: str
    hypothesis: str
    label: int


def read_tables(folder: Path) -> dict[str, Mapping[str, Sequence[str]]]:
    """Return the tables by id: keys with their values, `title` among them.

    Raises:
        ValueError: the folder has none.
    """
    file = folder / "tables.jsonl.gz"
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected the INFOTABS tables")
    with gzip.open(file, "rt", encoding="utf-8") as held:
        return {row["table_id"]: row["table"] for row in map(json.loads, held)}


def read_pairs(folder: Path, split: str, *, neutral: bool = True) -> list[Pair]:
    """Return the pairs of a split.

    Args:
        folder: of INFOTABS.
        split: train, dev or test_alpha1.
        neutral: whether pairs that the table neither entails nor contradicts are kept.

    Raises:
        ValueError: there is no such split, or a label is unknown.
    """
    file = folder / f"infotabs_{split}.tsv.gz"
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected one of the splits {', '.join(SPLITS)}")
    with gzip.open(file, "rt", encoding="utf-8", newline="") as held:
        rows = list(csv.DictReader(held, delimiter="\t", quoting=csv.QUOTE_NONE))
    if wrong := [row for row in rows if row["label"] not in LABELS]:
        raise ValueError(f"{file}: {len(wrong):,} rows have another label than {', '.join(LABELS)}")
    made = [Pair(row["table_id"], row["hypothesis"], LABELS.index(row["label"])) for row in rows]
    return [pair for pair in made if neutral or pair.label != LABELS.index("N")]


def described(table: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a table as sentences, a row each, by templates in our own words."""
    title = ", ".join(table["title"])
    return [f"{title}.", *(row(title, key, values) for key, values in table.items() if key != "title")]


def row(title: str, key: str, values: Sequence[str]) -> str:
    """Return one row as a sentence."""
    said, word = ", ".join(" ".join(value.split()) for value in values), key.strip()
    low = word.lower()
    if low.endswith(" by"):
        return f"{title} was {low} {said}."
    if low in {"born", "died", "released", "recorded", "founded", "opened", "established", "published"}:
        return f"{title} {'' if low == 'died' else 'was '}{low} {said}."
    if low == "starring":
        return f"{title} is starring {said}."
    if low.endswith("(s)"):
        low = low.removesuffix("(s)") + ("s" if "," in said else "")
    number = "are" if len(values) > 1 or (low.endswith("s") and "," in said) else "is"
    return f"The {low} of {title} {number} {said}."


def passage(table: Mapping[str, Sequence[str]]) -> str:
    """Return a table as one text, the premise."""
    return " ".join(described(table))
