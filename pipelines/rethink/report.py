"""What a run found: a table on the terminal, and a page with the evidence of single questions."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, Protocol

import numpy as np
from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.table import Table

from pipelines.rethink.crossing import Arm
from pipelines.rethink.evidence import Support
from pipelines.rethink.paths import Path
from pipelines.rethink.polling import Poll

NONE_GIVEN = "no answers were given, so nothing is evaluated"
Json = dict[str, Any]


class Asked(Protocol):
    """A question."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def text(self) -> str:
        """As asked."""
        ...

    @property
    def answer(self) -> str | None:
        """The right one, where it is known."""
        ...


class Facts(Protocol):
    """A pool."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Names."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """What they say."""
        ...


class Shown(NamedTuple):
    """What a page shows evidence from.

    Attributes:
        questions: Q.
        paths: P.
        supports: of each path, by the primary evidence.
        pool: what candidates are rows of.
        poll: the paths as arrays.
        arm: whose decisions are shown.
    """

    questions: Sequence[Asked]
    paths: Sequence[Path]
    supports: Sequence[Support]
    pool: Facts
    poll: Poll
    arm: Arm


def summary(found: Mapping[str, Any]) -> None:
    """Print the arms of a report, accuracy in points; ties count half."""
    if "arms" not in found:
        return
    table = Table(
        title=f"{found['questions']:,} questions, {found['paths']:,} paths, {found['unparsed']:,} without an answer"
    )
    table.add_column("arm", no_wrap=True)
    for name in ("accuracy", "ties wrong", "over majority", "over source weights"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["arms"]:
        cells = (points(row["accuracy"]), f"{100 * row['ties_wrong']:.2f}")
        gains = (points(row.get(key), signed=True) for key in ("over_majority", "over_source_weights"))
        table.add_row(row["arm"], *cells, *gains)
    Console(width=132).print(table)
    for name, own in found["auroc"].items():
        if own["mean"] is not None:
            Console(width=132).print(f"AUROC of support within a source, {name}: {own['mean']:.3f}", highlight=False)


def points(held: Mapping[str, float] | None, *, signed: bool = False) -> str:
    """Return a share and its interval in percentage points."""
    if held is None:
        return ""
    value, lower, upper = (100 * held[name] for name in ("value", "lower", "upper"))
    return f"{value:+.2f} ({lower:+.2f} to {upper:+.2f})" if signed else f"{value:.2f} ({lower:.2f}-{upper:.2f})"


def page(found: Mapping[str, Any], shown: Shown, *, most: int) -> str:
    """Return the report as one page; it has no script and asks for nothing from outside.

    Args:
        found: the report.
        shown: what evidence is taken from.
        most: questions with their evidence.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(points=points)
    template = resources.files("pipelines.rethink").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(found=found, cards=cards(shown, most))


def cards(shown: Shown, most: int) -> list[Json]:
    """Return the first questions with their paths, each step beside the fact that was retrieved for it."""
    members = shown.poll.members()
    made: list[Json] = []
    for at, question in enumerate(shown.questions[:most]):
        paths = [path_card(shown, int(own)) for own in members[at]]
        made.append(
            {
                "id": question.id,
                "question": question.text,
                "right": question.answer,
                "decided": decision(shown.arm, shown.poll, at),
                "arm": shown.arm.name,
                "paths": paths,
                "steps": sum(len(path["steps"]) for path in paths),
                "found": sum(step["fact"] is not None for path in paths for step in path["steps"]),
            }
        )
    return made


def path_card(shown: Shown, at: int) -> Json:
    """Return one path."""
    path, support = shown.paths[at], shown.supports[at]
    steps: list[Json] = []
    for number, step in enumerate(path.steps):
        row = int(support.candidate[number])
        steps.append(
            {
                "text": step.text,
                "fact": shown.pool.texts[row] if row >= 0 else None,
                "id": shown.pool.ids[row] if row >= 0 else None,
                "similarity": float(support.similarity[number]),
                "entailment": float(support.entailment[number]),
                "contradiction": float(support.contradiction[number]),
            }
        )
    return {"source": path.source, "answer": path.answer, "steps": steps}


def decision(arm: Arm, poll: Poll, at: int) -> str:
    """Return what an arm decides on a question, in words."""
    if arm.score is not None:
        chance = 1 / (1 + float(np.exp(-abs(arm.score[at]))))
        answer = poll.options[int(arm.score[at] < 0)]
        return "a tie" if arm.score[at] == 0 else f"{answer}, probability {chance:.2f}"
    if arm.votes is None:
        return "nothing"
    own = arm.votes[at]
    return own.answer or (f"a tie of {' and '.join(own.tied)}" if own.tied else "nothing")
