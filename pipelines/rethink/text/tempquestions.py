"""TempQuestions: implicit questions with one answer, from a user's own copy (its licence is unclear)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.rethink.text.splitting import normalised

IMPLICIT = "implicit"
TEMPLATES: Mapping[str, str] = {
    "start": "{subject} began to be {relation} {value} in {time}.",
    "end": "{subject} ceased to be {relation} {value} in {time}.",
    "span": "{subject} was {relation} {value} from {start} to {end}.",
    "point": "{subject} was {relation} {value} in {time}.",
    "value": "The {relation} of {subject} is {value}.",
}
"""Claims about facts with a time as sentences, in our own words."""


class Temporal(NamedTuple):
    """A question about time.

    Attributes:
        id: its number in the file.
        text: as asked.
        answers: the gold answers.
    """

    id: str
    text: str
    answers: tuple[str, ...]


def read(path: Path) -> list[Temporal]:
    """Return the implicit questions that have exactly one answer, of which the published file has 175.

    Raises:
        ValueError: the file is not the published JSON list.
    """
    try:
        rows: Any = json.loads(path.read_text(encoding="utf-8"))
        made = [
            Temporal(str(row.get("Id", at)), str(row["Question"]), tuple(map(str, row["Gold answer"])))
            for at, row in enumerate(rows)
            if IMPLICIT in {kind.strip().lower() for kind in kinds(row["Temporal signal"], row["Type"])}
        ]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected the TempQuestions JSON") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: expected a JSON list of Question, Gold answer, Temporal signal and Type") from None
    return [own for own in made if len(own.answers) == 1]


def kinds(signal: object, kind: object) -> list[str]:
    """Return what a question is, from fields that hold a text or a list."""
    return [str(part) for held in (signal, kind) for part in (held if isinstance(held, list) else [held])]


def claim(template: str, **fields: str) -> str:
    """Return a claim as a sentence.

    Raises:
        ValueError: there is no such template, or a field is missing.
    """
    try:
        return TEMPLATES[template].format(**fields)
    except KeyError as error:
        raise ValueError(
            f"claim {template}: {error} is missing; expected a template of {', '.join(TEMPLATES)}"
        ) from None


def exact(answer: str | None, gold: Sequence[str]) -> bool:
    """Tell whether an answer is one of the gold ones, by the normalisation of SQuAD."""
    return answer is not None and normalised(answer) in {normalised(own) for own in gold}
