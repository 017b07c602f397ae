"""The report on documents as one page: scores beside baselines, and passages with their evidence marked."""

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, StrictUndefined

from pipelines.documents.catalogue import Catalogue
from pipelines.documents.predictions import KEY

METRICS: Mapping[str, str] = {
    "minority_aupr": "Minority AUPR",
    "minority_aupr_tasks": "over tasks",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "accuracy": "Accuracy",
    "ece": "ECE",
}
AROUND = 240
"""Characters shown on each side of a mark; what lies between is left out, and said to be."""
SHOWN = 0.5
"""Attention that a piece of evidence has at least where it is marked, as a share of its answer's heaviest: in a short
passage three pieces would be all of it."""
UNMARKED = 1_200
"""Characters shown of a passage without any mark."""


class Answer(NamedTuple):
    """What a reader answered to one question of a passage.

    Attributes:
        number: by which its marks are known, from 1.
        question: in words, with the option of a sub-question.
        option: chosen.
        probability: of it, 0 to 1.
        right: the label's option where it is known, else None.
        abstain: whether it is below the threshold.
        truncated: whether the passage's end was not read.
        evidence: start and end in characters, and weight.
    """

    number: int
    question: str
    option: str
    probability: float
    right: str | None
    abstain: bool
    truncated: bool
    evidence: Sequence[tuple[int, int, float]]


class Piece(NamedTuple):
    """A stretch of a passage.

    Attributes:
        text: as given; empty where characters are left out.
        numbers: of the answers whose evidence covers it.
        begins: of those, the answers whose evidence begins with it.
        left_out: characters not shown here.
    """

    text: str
    numbers: tuple[int, ...] = ()
    begins: tuple[int, ...] = ()
    left_out: int = 0


class Shown(NamedTuple):
    """A passage to be shown."""

    document_id: str
    text_type: str
    pieces: Sequence[Piece]
    answers: Sequence[Answer]


class Content(NamedTuple):
    """What a report tells.

    Attributes:
        title: what was evaluated on what.
        facts: name and value, for the head of the page.
        notes: sentences that a reader must know.
        scores: SCORES, the first model being the one evaluated.
        passages: some of them, see `passages`.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    scores: pl.DataFrame
    passages: Sequence[Shown]


def render(content: Content) -> str:
    """Return the page; equal content gives equal bytes. It has no script and asks for nothing from outside."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, signed=signed, within=within)
    template = resources.files("pipelines.documents").joinpath("report.html.j2").read_text(encoding="utf-8")
    scores = content.scores
    levels = scores.filter(pl.col("level") != "task")
    return environment.from_string(template).render(
        content=content,
        metrics=METRICS,
        models=scores["model"].unique(maintain_order=True).to_list(),
        data_types=scores["data_type"].unique(maintain_order=True).to_list(),
        categories=scores.filter(level="category")["name"].unique(maintain_order=True).to_list(),
        table={
            (row["data_type"], row["name"], row["model"], row["metric"]): row for row in levels.iter_rows(named=True)
        },
        verdict=verdict,
    )


def passages(rows: pl.DataFrame, predictions: pl.DataFrame, catalogue: Catalogue, *, most: int = 6) -> list[Shown]:
    """Return passages with the answers to them and their evidence: the first of each text type, then the next.

    Args:
        rows: DOCUMENTS, labelled or not.
        predictions: PREDICTIONS of them.
        catalogue: the questions.
        most: passages at most.
    """
    chosen = predictions.filter("chosen").select(*KEY, "option", "probability", "abstain", "truncated", "evidence")
    known = rows.join(chosen, on=list(KEY), how="inner", maintain_order="left")
    firsts = known.unique(["document_id", "text_type"], keep="first", maintain_order=True)
    turn = firsts.with_columns(pl.int_range(pl.len()).over("text_type").alias("turn")).sort("turn", maintain_order=True)
    made: list[Shown] = []
    for document, kind, text in turn.head(most).select("document_id", "text_type", "text").iter_rows():
        own = known.filter(document_id=document, text_type=kind)
        answers = [answer(at, row, catalogue) for at, row in enumerate(own.iter_rows(named=True), 1)]
        spans = [(start, end, held.number) for held in answers for start, end, _ in held.evidence]
        made.append(Shown(document, kind, clip(pieces(text, spans)), answers))
    return made


def answer(number: int, row: Mapping[str, Any], catalogue: Catalogue) -> Answer:
    """Return one joined row as an answer."""
    question = catalogue.questions[catalogue.place()[row["id"]]]
    words = f"{question.question} ({question.subquestion})" if question.multi else question.question
    held = row["evidence"] or []
    least = SHOWN * max((part["weight"] for part in held), default=0)
    evidence = [(part["start"], part["end"], part["weight"]) for part in held if part["weight"] >= least]
    right = None if row["label"] is None else question.options[row["label"]]
    told = (row["option"], row["probability"], right, row["abstain"], row["truncated"])
    return Answer(number, words, *told, evidence)


def pieces(text: str, spans: Sequence[tuple[int, int, int]]) -> list[Piece]:
    """Cut a text wherever a span begins or ends; put together, the pieces are the text.

    Args:
        text: as given.
        spans: start, end and number; they may overlap. What lies outside the text is cut off.
    """
    inside = [(max(0, start), min(len(text), end), number) for start, end, number in spans]
    inside = [span for span in inside if span[0] < span[1]]
    edges = sorted({0, len(text), *(edge for start, end, _ in inside for edge in (start, end))})
    made: list[Piece] = []
    for begin, end in pairwise(edges):
        over = {number for start, stop, number in inside if start <= begin and end <= stop}
        begins = {number for start, _, number in inside if start == begin}
        made.append(Piece(text[begin:end], tuple(sorted(over)), tuple(sorted(begins))))
    return made


def clip(held: Sequence[Piece]) -> list[Piece]:
    """Leave out the middle of long unmarked pieces, and say how much of it."""
    made: list[Piece] = []
    marked = any(piece.numbers for piece in held)
    for at, piece in enumerate(held):
        # At the ends of a text there is a mark on one side only.
        before = 0 if at == 0 and marked else AROUND if marked else UNMARKED
        after = 0 if at == len(held) - 1 else AROUND
        if piece.numbers or len(piece.text) <= before + after + AROUND:
            made.append(piece)
            continue
        parts = (piece.text[:before], piece.text[len(piece.text) - after :])
        gap = Piece("", left_out=len(piece.text) - before - after)
        made += [part for part in (Piece(parts[0]), gap, Piece(parts[1])) if part.text or part.left_out]
    return made


def verdict(row: Mapping[str, Any] | None) -> str:
    """Return better, worse or level: where the interval of a difference lies."""
    if row is None or row["lower"] is None:
        return ""
    return "better" if row["lower"] > 0 else "worse" if row["upper"] < 0 else "level"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed digits, a dash where there is none."""
    # Adding zero makes of minus zero a plain one.
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign."""
    return "–" if value is None else f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def within(row: Mapping[str, Any] | None) -> str:
    """Return the ends of an interval."""
    return "" if row is None or row["lower"] is None else f"{number(row['lower'])} to {number(row['upper'])}"
