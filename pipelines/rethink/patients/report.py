"""What a run on patients found: a table on the terminal, and a page with evidence cards."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.table import Table

Json = dict[str, Any]
SHOWN = 20
"""Patients on the page; all are in the file of cards."""
NOTHING = "no outcome has 10 patients with and 10 without it, so nothing is evaluated"


def summary(found: Mapping[str, Any]) -> None:
    """Print the arms of a report."""
    console = Console(width=156)
    arms = found["evaluation"].get("arms", [])
    title = (
        f"{found['patients']:,} patients, {found['futures_each']} futures each over {found['window_days']:g} days, "
        f"{found['neighbours_each']} neighbours of {found['pool']:,}"
    )
    if not arms:
        console.print(title, NOTHING, sep="\n", highlight=False)
        return
    table = Table(title=title)
    table.add_column("arm", no_wrap=True)
    for name in ("AUROC", "over Monte-Carlo", "Brier score", "over Monte-Carlo"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in arms:
        cells = (
            number(row["auroc"]),
            change(row["auroc_change"]),
            number(row["brier"], 4),
            change(row["brier_change"], 4),
        )
        table.add_row(row["arm"], *cells)
    console.print(table)


def number(held: Mapping[str, float], digits: int = 3) -> str:
    """Return a value and its interval."""
    value, lower, upper = (held[name] for name in ("value", "lower", "upper"))
    return f"{value:.{digits}f} ({lower:.{digits}f}-{upper:.{digits}f})"


def change(held: Mapping[str, float], digits: int = 3) -> str:
    """Return a signed change and its interval; nothing where there is none."""
    value, lower, upper = (held[name] for name in ("value", "lower", "upper"))
    if value == lower == upper == 0:
        return ""
    return f"{value:+.{digits}f} ({lower:+.{digits}f} to {upper:+.{digits}f})"


def percent(value: float) -> str:
    """Return a probability as a percentage."""
    return f"{100 * value:.1f} %"


def when(days: float) -> str:
    """Return days after the prediction time in words."""
    return "within a day" if days < 1 else f"day {days:.0f}"


def page(found: Mapping[str, Any], cards: Sequence[Sequence[Json]]) -> str:
    """Return the report as one page; it has no script and asks for nothing from outside.

    Args:
        found: the report.
        cards: of each patient; the first 20 patients are shown.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, change=change, percent=percent, when=when)
    template = resources.files("pipelines.rethink.patients").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(found=found, patients=cards[:SHOWN], total=len(cards))
