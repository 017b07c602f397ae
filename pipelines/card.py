"""The model card: one record, as JSON and as a page; a field that nobody filled reads "missing"."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ehr.outcomes.registry import Outcome, Registry

MISSING = "missing"
STATED = {
    "name": "what the model is called",
    "developer": "who is responsible for it, with an address",
    "intended_use": "which decision it informs, for whom, where",
    "intended_users": "who reads its output",
    "out_of_scope": "uses that it was not made for",
    "cautions": "what a user must know before acting on it",
    "training_population": "who the patients were that it learnt from",
    "funding": "who paid for it",
    "ethics": "approvals under which the data were used",
    "maintenance": "who watches it in use, and how often",
}
"""What only people can know; given by --card FILE."""


def stated(path: Path | None) -> dict[str, str]:
    """Read what people state of a model, from YAML.

    Raises:
        ValueError: no such file, not YAML, or an unknown field.
    """
    if path is None:
        return dict.fromkeys(STATED, MISSING)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected YAML with the fields {', '.join(STATED)}")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{path}: not YAML; expected the fields {', '.join(STATED)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected fields and text, one a line: {', '.join(STATED)}")
    given = {str(key): " ".join(str(value).split()) for key, value in content.items()}
    unknown = [key for key in given if key not in STATED]
    if unknown:
        raise ValueError(f"{path}: unknown field {unknown[0]}; expected {', '.join(STATED)}")
    return {key: given.get(key) or MISSING for key in STATED}


def performance(report: Path | None, model: str) -> list[dict[str, Any]]:
    """Return the rows of a report's scores that are of the model itself, empty without a report.

    Args:
        report: folder made by anamnesis evaluate.
        model: name of the model's rows.
    """
    if report is None:
        return []
    scores = pl.read_parquet(report / "scores.parquet")
    if "model" in scores.columns:
        scores = scores.filter(pl.col("model") == model)
    return scores.to_dicts()


def outcome_facts(outcome: Outcome) -> dict[str, Any]:
    """Return what an outcome predicts, as plain types."""
    return {
        "name": outcome.name,
        "event": list(outcome.any_of) or MISSING,
        "asked_at": outcome.index.at,
        "gap_days": outcome.gap_days,
        "horizons_days": list(outcome.horizons_days),
        "incident_only": outcome.incident_only,
    }


def record(
    registry: Registry, facts: Mapping[str, Any], texts: Mapping[str, str], scores: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the card as one record.

    Args:
        registry: outcomes.
        facts: of the manifest: parameters, opset, parity and so on.
        texts: what people state.
        scores: rows of a report.
    """
    return {
        "stated": dict(texts),
        "inputs": "coded events up to the prediction time: diagnoses, procedures, drugs, measurements, visits, sex, "
        "age; race and ethnicity are not read unless the cohort was prepared so",
        "outputs": "a calibrated probability an outcome and horizon, not falling with the horizon",
        "outcomes": [outcome_facts(outcome) for outcome in registry.outcomes],
        "facts": dict(facts),
        "performance": [dict(row) for row in scores] or MISSING,
    }


def page(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    lines = ["# Model card", ""]
    lines += [f"- **{key.replace('_', ' ')}**: {text}" for key, text in card["stated"].items()]
    lines += ["", "## What goes in and what comes out", "", f"In: {card['inputs']}.", "", f"Out: {card['outputs']}."]
    lines += ["", "## Outcomes", "", "| outcome | event | asked at | gap, days | horizons, days | first events only |"]
    lines.append("|---|---|---|---|---|---|")
    for outcome in card["outcomes"]:
        event = outcome["event"] if isinstance(outcome["event"], str) else ", ".join(f"`{e}`" for e in outcome["event"])
        days = ", ".join(map(str, outcome["horizons_days"]))
        first = "yes" if outcome["incident_only"] else "no"
        lines.append(
            f"| {outcome['name']} | {event} | {outcome['asked_at']} | {outcome['gap_days']:g} | {days} | {first} |"
        )
    lines += ["", "## Performance", "", *scores_table(card["performance"])]
    lines += ["", "## Facts", ""]
    lines += [f"- {key.replace('_', ' ')}: {text}" for key, text in card["facts"].items()]
    return "\n".join(lines) + "\n"


def scores_table(scores: Any) -> list[str]:  # noqa: ANN401  rows, or the word missing
    """Return AUROC and AUPRC by outcome and horizon as lines of Markdown."""
    if scores == MISSING:
        return ["missing: export again with --report REPORT, after anamnesis evaluate"]
    lines = ["| outcome | days | metric | value | 95 % interval | count | positives | prevalence |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in scores:
        if row["metric"] not in {"auroc", "auprc"}:
            continue
        value = "not estimable" if row["value"] is None else f"{row['value']:.3f}"
        interval = "" if row["lower"] is None else f"{row['lower']:.3f} to {row['upper']:.3f}"
        share = "" if row["prevalence"] is None else f"{row['prevalence']:.2%}"
        lines.append(
            f"| {row['outcome']} | {row['horizon_days']} | {row['metric']} | {value} | {interval} | {row['count']:,} "
            f"| {row['positives']:,} | {share} |"
        )
    return lines
