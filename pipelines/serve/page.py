"""The page at `/`: model card, outcomes, health, and a form that scores a pasted bundle; nothing comes from outside."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipelines import card
from pipelines.release import Release
from pipelines.serve.alerts import Alerts
from pipelines.serve.service import Service

FOLDER = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"
SCORES = ("auroc", "auprc", "calibration_slope", "ece")


def routes(service: Service) -> list[Route]:
    """Return the page's route; the page is made once."""
    text = render(service.release, service.alerts)
    said = headers()

    async def show(_: Request) -> Response:
        return HTMLResponse(text, headers=said)

    return [Route("/", show)]


def render(release: Release, alerts: Alerts) -> str:
    """Return the page.

    Args:
        release: opened.
        alerts: thresholds to be shown beside the outcomes.
    """
    held: dict[str, Any] = json.loads((release.path / "card.json").read_text(encoding="utf-8"))
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    stated: Mapping[str, str] = held["stated"]
    name = stated.get("name", card.MISSING)
    return environment.get_template(TEMPLATE).render(
        title="Anamnesis" if name == card.MISSING else name,
        version=version("anamnesis"),
        model=release.model,
        style=(FOLDER / STYLE).read_text(encoding="utf-8"),
        script=(FOLDER / SCRIPT).read_text(encoding="utf-8"),
        stated={card.words(key): text for key, text in stated.items() if key != "name"},
        missing=card.MISSING,
        inputs=held["inputs"],
        outputs=held["outputs"],
        facts={card.words(key): card.plain(value) for key, value in held["facts"].items()},
        not_learnt=held.get("not_learnt", ()),
        rows=outcome_rows(release, held["performance"], alerts),
        thresholds=thresholds(alerts),
        on=None if held["measured"] == card.MISSING else held["measured"],
    )


def outcome_rows(release: Release, performance: Any, alerts: Alerts) -> list[dict[str, Any]]:  # noqa: ANN401  card's
    """Return a row an outcome and horizon: what it means, where cards begin, what was measured.

    Args:
        release: opened.
        performance: of the card: rows of scores, or the word missing.
        alerts: thresholds.
    """
    measured = {
        (row["outcome"], row["horizon_days"], row["metric"]): row
        for row in (() if performance == card.MISSING else performance)
    }
    return [
        {
            "outcome": card.words(outcome.name),
            "days": days,
            "asked": card.words(outcome.index.at),
            "first": outcome.incident_only,
            "alert": alerts.get((outcome.name, days)),
            "scores": [told(measured.get((outcome.name, days, metric))) for metric in SCORES],
        }
        for outcome in release.registry.outcomes
        for days in outcome.horizons_days
    ]


def told(row: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return a value and its interval as text, empty where there is none."""
    value, _, interval = card.score(row).partition(" (")
    return value, interval.rstrip(")")


def thresholds(alerts: Alerts) -> dict[str, dict[int, float]]:
    """Return thresholds by outcome and days, for the script."""
    found: dict[str, dict[int, float]] = {}
    for (outcome, days), alert in alerts.items():
        found.setdefault(outcome, {})[days] = alert.threshold
    return found


def headers() -> dict[str, str]:
    """Return headers that let the page run its own script, use its own style, ask its own server, and nothing else."""
    script, style = (digest((FOLDER / name).read_text(encoding="utf-8")) for name in (SCRIPT, STYLE))
    policy = {
        "default-src": "'none'",
        "script-src": script,
        "style-src": style,
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {source}" for name, source in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def digest(text: str) -> str:
    """Return the source expression that lets one inline text through."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
