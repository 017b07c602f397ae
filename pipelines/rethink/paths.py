"""Paths of reasoning and their steps, and PATHS: JSON lines, one a path."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path as File
from typing import Any, NamedTuple

STATEMENT, DENIAL = "statement", "denial"
"""Kinds of steps: a text that is held true, and one that is held false."""


class Step(NamedTuple):
    """One step of a path, to be checked against evidence.

    Attributes:
        text: what it states.
        kind: what sort of step it is.
        time: when it happens, where steps have times.
        payload: what a scorer needs beside the text.
    """

    text: str
    kind: str = STATEMENT
    time: datetime | None = None
    payload: Any = None


class Path(NamedTuple):
    """One way to an answer.

    Attributes:
        question_id: what it answers.
        path_id: unique among the paths of a question.
        source: what made it: a model and a prompt.
        steps: in order; conclusions are left out.
        answer: None where it states none.
        logprob: of the whole path under its maker, where known.
    """

    question_id: str
    path_id: str
    source: str
    steps: tuple[Step, ...]
    answer: str | None
    logprob: float | None = None


Decomposer = Callable[[str], list[Step]]
"""What cuts a completion into steps."""


def check(paths: Sequence[Path], questions: Iterable[str], sources: Iterable[str] | None = None) -> None:
    """Refuse paths that do not fit their questions.

    Args:
        paths: all of them.
        questions: ids that there are.
        sources: those that each question must have a path of; None where questions may differ.

    Raises:
        ValueError: a path of an unknown question, two under one id, or a source missing; all are counted, the first
            ten named.
    """
    known, wrong = set(questions), list[str]()
    for (question, path), number in Counter((path.question_id, path.path_id) for path in paths).items():
        if number > 1:
            wrong.append(f"question {question}: {number} paths {path}")
    wrong += [f"unknown question {name}" for name in sorted({path.question_id for path in paths} - known)]
    if sources is not None:
        held = {(path.question_id, path.source) for path in paths}
        wrong += [f"question {q}: no path of {s}" for q in sorted(known) for s in sorted(sources) if (q, s) not in held]
    if wrong:
        shown = "; ".join(wrong[:10]) + ("; ..." if len(wrong) > 10 else "")
        raise ValueError(f"paths: {len(wrong):,} do not fit their questions ({shown}); mend the file of chains")


def write(paths: Iterable[Path], file: File) -> None:
    """Append paths to a file of JSON lines."""
    with file.open("a", encoding="utf-8") as held:
        for path in paths:
            steps = [_content(step) for step in path.steps]
            row = {**path._asdict(), "steps": steps}
            held.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")


def _content(step: Step) -> dict[str, Any]:
    made = {"text": step.text, "kind": step.kind, "payload": step.payload}
    return made | {"time": step.time.isoformat() if step.time else None}


def read(file: File) -> Iterator[Path]:
    """Yield the paths of a file.

    Raises:
        ValueError: a line is no path.
    """
    with file.open(encoding="utf-8") as held:
        for number, line in enumerate(held, 1):
            try:
                row: dict[str, Any] = json.loads(line)
                row["steps"] = tuple(
                    Step(**step | {"time": datetime.fromisoformat(step["time"]) if step["time"] else None})
                    for step in row["steps"]
                )
                yield Path(**row)
            except (ValueError, TypeError, KeyError):
                raise ValueError(
                    f"{file}, line {number}: not a path; expected a line of {', '.join(Path._fields)}"
                ) from None
