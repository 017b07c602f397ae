"""The monitor's page: alarms first, then figures; no script, no outside address, no count under 10."""

from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, StrictUndefined

from ehr.metrics.curves import reliability
from ehr.metrics.drift import Change
from ehr.metrics.measures import FEW as FEW_POSITIVES
from ehr.quality.digest import FEW
from ehr.quality.noise import Finding, Question
from pipelines.monitor import figures
from pipelines.monitor.compare import FAMILIES, Watched

ROWS, FIGURES = 40, 12
"""Alarms in the table, and figures of a family, at most."""
NAMES: Mapping[str, str] = {
    "events": "events a patient",
    "days": "days with events",
    "span_days": "days from the first event to the last",
    "quiet_days": "days from the last event to the prediction",
    "age_days": "age",
    "share": "share of events with an unknown code",
}
METRICS = {"auroc": "AUROC", "calibration_intercept": "calibration intercept", "calibration_slope": "calibration slope"}


class Content(NamedTuple):
    """What the page tells.

    Attributes:
        title: of what.
        facts: name and value.
        watched: what was found.
        labelled: predictions with boolean_value; None while there are no labels.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    watched: Watched
    labelled: pl.DataFrame | None


def render(content: Content) -> str:
    """Return the page; equal content gives equal bytes."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("pipelines.monitor").joinpath("page.html.j2").read_text(encoding="utf-8")
    watched = content.watched
    return environment.from_string(template).render(
        title=content.title,
        facts=content.facts,
        notes=watched.notes,
        crossed=len(watched.alarms) + len(watched.worse),
        alpha=f"{100 * watched.alpha:g} %",
        families=families(watched),
        alarms=[told(found) for found in watched.alarms[:ROWS]],
        more=max(0, len(watched.alarms) - ROWS),
        worse=[changed(change) for change in watched.worse],
        changes=[changed(change) for change in watched.changes],
        figures=drawn(watched),
        codes=codes(watched),
        reliabilities=[] if content.labelled is None else reliabilities(content.labelled),
    )


def families(watched: Watched) -> list[dict[str, Any]]:
    """Return how many questions each family asked, and how many tables raised an alarm."""
    raised = [FAMILIES[found.question.kind] for found in watched.alarms]
    rows = [
        {"name": name, "asked": f"{asked:,}", "alarms": raised.count(name)} for name, asked in watched.asked.items()
    ]
    if watched.now:
        rows.append({"name": "labels", "asked": f"{len(watched.changes):,}", "alarms": len(watched.worse)})
    return rows


def told(found: Finding) -> dict[str, str]:
    """Return one finding in words."""
    held = found.question
    return {
        "family": FAMILIES[held.kind],
        "what": words(held),
        "before": percent(held.of - held.below, held.of),
        "now": percent(held.seen_of - held.seen_below, held.seen_of),
        "chance": chance(found.chance),
    }


def words(held: Question) -> str:
    """Say what a question asks."""
    if held.kind == "code":
        return f"patients with {held.name}"
    cut = held.cut / 365.25 if held.name == "age_days" else held.cut
    unit = " years" if held.name == "age_days" else ""
    if held.kind == "feed":
        return f"patients with more than {figures.short(cut)} events of {held.name}" if cut else f"any {held.name}"
    named = {"value": f"last value of {held.name}", "probability": f"probability of {held.name} days"}
    return f"{named.get(held.kind, NAMES.get(held.name, held.name))} above {figures.short(cut)}{unit}"


def percent(number: int, of: int) -> str:
    """Return a share of patients; of 1 to 9 patients, or all but so many, only that it is."""
    if 0 < number < FEW:
        return f"under {FEW} patients"
    return f"all but under {FEW}" if 0 < of - number < FEW else f"{100 * number / of:.1f} %"


def chance(value: float) -> str:
    """Return a joint p-value."""
    return f"{value:.2g}" if value > 1e-12 else "under 1e-12"


def changed(change: Change) -> dict[str, str]:
    """Return one metric then and now."""
    return {
        "outcome": f"{change.outcome}, {change.horizon_days} d",
        "metric": METRICS[change.metric],
        "before": f"{change.before.value:.3f} ± {1.96 * change.before.error:.3f}",
        "now": f"{change.now.value:.3f} ± {1.96 * change.now.error:.3f}",
        "chance": chance(change.chance),
    }


def drawn(watched: Watched) -> list[tuple[str, str, str]]:
    """Return figures of tables: caption, whether it raised an alarm, SVG. Alarms first, then what is always shown."""
    raised = [(found.question.kind, found.question.name) for found in watched.alarms if found.question.kind != "code"]
    always = [("history", "events"), ("unknown", "share")]
    always += [key for key in watched.reference.tables if key[0] == "probability"]
    made: list[tuple[str, str, str]] = []
    shown: dict[str, int] = {}
    for key in dict.fromkeys([*raised, *always]):
        if key not in watched.reference.tables or key not in watched.seen.tables:
            continue
        shown[key[0]] = shown.get(key[0], 0) + 1
        if shown[key[0]] <= FIGURES:
            picture = figures.histogram(watched.reference.tables[key], watched.seen.tables[key], "Shares of patients")
            named = {"feed": f"events of {key[1]}", "value": f"last value of {key[1]}"}
            caption = named.get(key[0], NAMES.get(key[1], key[1]))
            made.append((caption, "alarm" if key in raised else "", picture))
    return made


def codes(watched: Watched) -> str:
    """Return the figure of codes, empty where none was asked about."""
    asked = [found.question for found in watched.findings if found.question.kind == "code"]
    raised = {found.question.name for found in watched.alarms if found.question.kind == "code"}
    return figures.scatter(asked, raised, "Share of patients with each code, then and now") if asked else ""


def reliabilities(labelled: pl.DataFrame) -> list[tuple[str, str]]:
    """Return reliability of each outcome that has 10 positives and negatives."""
    made: list[tuple[str, str]] = []
    for (outcome, days), rows in labelled.group_by(["outcome", "horizon_days"], maintain_order=True):
        label = rows["boolean_value"].to_numpy()
        if min(int(label.sum()), int((~label).sum())) >= FEW_POSITIVES and len(made) < FIGURES:
            found = reliability(rows["probability"].cast(pl.Float64).to_numpy(), label)
            made.append((f"{outcome}, {days} d", figures.reliability(found, "Observed over predicted frequency")))
    return made
