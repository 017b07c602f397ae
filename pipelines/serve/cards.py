"""CDS cards: one an outcome whose probability reaches the site's threshold."""

import uuid
from typing import Any, NamedTuple

import polars as pl

from pipelines.release import Release
from pipelines.serve.alerts import INDICATORS, Alert, Alerts
from pipelines.serve.question import Question, iso

LONGEST = 139
"""Letters of a summary: CDS Hooks asks for fewer than 140."""
SOURCE = "Anamnesis"


class Reached(NamedTuple):
    """A horizon of an outcome whose probability reaches its threshold."""

    days: int
    probability: float
    alert: Alert


def cards(
    question: Question, table: pl.DataFrame, release: Release, alerts: Alerts
) -> list[tuple[str, dict[str, Any]]]:
    """Return outcome and card, of one patient, those that reach farthest beyond their threshold first.

    Args:
        question: what was asked.
        table: PREDICTIONS of one patient.
        release: opened.
        alerts: above which probability a card is shown.
    """
    learnt = [name for name in release.registry.names if name not in release.manifest.get("disabled", ())]
    found = [
        (reached, outcome, card(outcome, reached, rows, question, release))
        for outcome in learnt
        if (reached := reach(outcome, rows := table.filter(pl.col("outcome") == outcome), alerts))
    ]
    found.sort(key=lambda made: -max(held.probability / held.alert.threshold for held in made[0]))
    return [made[1:] for made in found]


def reach(outcome: str, rows: pl.DataFrame, alerts: Alerts) -> list[Reached]:
    """Return the horizons of an outcome that reach their threshold, the shortest first."""
    pairs = rows.sort("horizon_days").select("horizon_days", "probability").iter_rows()
    held = [(days, probability, alerts.get((outcome, days))) for days, probability in pairs]
    return [Reached(days, p, alert) for days, p, alert in held if alert is not None and p >= alert.threshold]


def card(
    outcome: str, reached: list[Reached], rows: pl.DataFrame, question: Question, release: Release
) -> dict[str, Any]:
    """Return one card.

    Args:
        outcome: its name.
        reached: horizons that reach their threshold, at least one.
        rows: PREDICTIONS of this outcome.
        question: what was asked.
        release: opened.
    """
    first = reached[0]
    window = f" within {first.days} days" if first.days else ""
    share = f"{first.probability:.1%}, at or above this site's {first.alert.threshold:.1%}"
    summary = f"{words(outcome)}{window}: {share}"
    return {
        "uuid": str(uuid.uuid4()),
        "summary": summary[:LONGEST],
        "indicator": max((held.alert.indicator for held in reached), key=INDICATORS.index),
        "source": {"label": SOURCE},
        "detail": detail(reached, rows, question, release),
    }


def detail(reached: list[Reached], rows: pl.DataFrame, question: Question, release: Release) -> str:
    """Return what a card says beneath its summary, in Markdown: every horizon, from what, by which model."""
    bounds = {held.days: held.alert.threshold for held in reached}
    lines = ["| days | probability | threshold reached |", "|---:|---:|---:|"]
    for days, probability in rows.sort("horizon_days").select("horizon_days", "probability").iter_rows():
        bound = f"{bounds[days]:.1%}" if days in bounds else ""
        lines.append(f"| {days} | {probability:.1%} | {bound} |")
    time = iso(rows["prediction_time"].to_physical()[0])[:16].replace("T", " ")
    unknown = f", {question.unknown:,} of them unknown to the model" if question.unknown else ""
    told = f"From {question.codes:,} coded events{unknown}, as of {time} UTC. Model {release.model[:12]}."
    return "\n".join([*lines, "", told, "An estimate from coded records; it says nothing of causes."])


def words(name: str) -> str:
    """Return an outcome's name as words."""
    return name.replace("_", " ").capitalize()
