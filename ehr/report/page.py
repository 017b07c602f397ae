"""The report as one page: tables of scores, figures, and how to read them; no script, no outside address."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from itertools import groupby
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, StrictUndefined

from ehr.metrics.scores import MACRO, Slot
from ehr.report import figures, svg
from ehr.report.figures import Curve
from ehr.report.names import words
from ehr.report.panels import detail

MOST_FIGURES = 60
"""Outcomes and horizons that get a figure of their own; the tables hold all."""
OPEN = 1
"""Of the outcomes, how many stand open."""
MARKS: Mapping[str, tuple[str, str]] = {"better": ("▲", "the model is better"), "worse": ("▼", "the model is worse")}
"""What stands beside a rival's score. A shape, since not everyone sees colours apart."""
Row = Mapping[str, Any]


class Content(NamedTuple):
    """What a report tells.

    Attributes:
        title: what was evaluated on what.
        facts: name and value, for the head of the page.
        notes: sentences that a reader must know, such as which outcomes a model does not know.
        models: names as in the scores, the one evaluated first.
        slots: outcomes and horizons with their answers.
        scores: SCORES.
        subgroups: SUBGROUPS of the first model.
        curves: learning curves; may be empty.
        attrition: of the cohort.
        prevalence: of the cohort.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[str]
    models: Sequence[str]
    slots: Sequence[Slot]
    scores: pl.DataFrame
    subgroups: pl.DataFrame
    curves: Sequence[Curve]
    attrition: pl.DataFrame
    prevalence: pl.DataFrame


def render(content: Content, done: Callable[[], None] = lambda: None) -> str:
    """Return the page; equal content gives equal bytes.

    Args:
        content: what to tell.
        done: called after each figure of an outcome.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(words=words, number=number, percent=percent, interval=interval, signed=signed)
    template = resources.files("ehr.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    table = {(row["outcome"], row["horizon_days"], row["model"], row["metric"]): row for row in rows(content.scores)}
    return environment.from_string(template).render(
        content=content,
        colours=svg.ORDER,
        score=lambda outcome, days, model, metric: table[outcome, days, model, metric],
        mean=MACRO,
        verdict=verdict,
        marks=MARKS,
        outcomes=[list(slots) for _, slots in groupby(content.slots, key=lambda slot: slot.outcome)],
        figures=details(content, done),
        open=OPEN,
        most=MOST_FIGURES,
        overview=figures.overview(content.scores, content.models),
        learning=figures.learning(content.curves),
        attrition=figures.attrition(content.attrition),
        groups=groups(content.subgroups),
        splits=splits(content.prevalence),
        estimable=sum(slot.estimable for slot in content.slots),
        baselines="logistic_regression" in content.models,
    )


def rows(frame: pl.DataFrame) -> Iterable[Row]:
    """Return rows as mappings."""
    return frame.iter_rows(named=True)


def details(content: Content, done: Callable[[], None]) -> dict[tuple[str, int], str]:
    """Return figures by outcome and horizon, empty where not estimable or where there are too many."""
    found: dict[tuple[str, int], str] = {}
    drawn = 0
    for slot in content.slots:
        place = (slot.outcome, slot.horizon_days)
        found[place] = ""
        if slot.estimable and drawn < MOST_FIGURES:
            own = content.subgroups.filter(outcome=slot.outcome, horizon_days=slot.horizon_days)
            found[place] = detail(slot, content.models, own)
            drawn += 1
        done()
    return found


def groups(subgroups: pl.DataFrame) -> dict[str, Any]:
    """Return the table of subgroups: columns (attribute, group), and per outcome and horizon the cells."""
    columns = subgroups.select("attribute", "group").unique(maintain_order=True).rows()
    cells: dict[tuple[str, int], dict[tuple[str, str], dict[str, Row]]] = {}
    for row in rows(subgroups):
        slot = cells.setdefault((row["outcome"], row["horizon_days"]), {})
        slot.setdefault((row["attribute"], row["group"]), {})[row["metric"]] = row
    spans: dict[str, int] = {}
    first: dict[str, list[str]] = {}
    for attribute, group in columns:
        spans[attribute] = spans.get(attribute, 0) + 1
        first.setdefault(attribute, [group])
    return {"columns": columns, "spans": spans, "first": first, "cells": cells}


def splits(prevalence: pl.DataFrame) -> dict[str, Any]:
    """Return prevalence by outcome and horizon (rows) and split (columns)."""
    names = prevalence["split"].unique(maintain_order=True).to_list()
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows(prevalence):
        cells.setdefault((row["outcome"], row["horizon_days"]), {})[row["split"]] = row
    return {"names": names, "cells": cells}


def verdict(row: Row | None) -> str:
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


def percent(value: float | None) -> str:
    """Return a share as a percentage with two figures at least."""
    return "–" if value is None else f"{100 * value:.{2 if value < 0.01 else 1}f} %"


def interval(row: Row, digits: int = 3) -> str:
    """Return the ends of an interval."""
    if row["lower"] is None:
        return ""
    return f"{number(row['lower'], digits)} to {number(row['upper'], digits)}"
