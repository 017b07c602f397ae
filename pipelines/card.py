"""The model card: one record, as JSON and as a page; a field that nobody filled reads "missing"."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ehr.outcomes.registry import Outcome, Registry
from pipelines import artefacts

MISSING, MODEL = "missing", "anamnesis"
DIGEST = re.compile(r"[0-9a-f]{64}")
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
    given = {str(key): " ".join(str(value or "").split()) for key, value in content.items()}
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


def measured(report: Path | None) -> dict[str, Any]:
    """Return on whom a report measured, empty without a report."""
    if report is None:
        return {}
    manifest = artefacts.read_manifest(report, "report")
    return {key: manifest[key] for key in ("split", "patients", "samples", "cohort")}


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
    registry: Registry,
    facts: Mapping[str, Any],
    texts: Mapping[str, str],
    report: Path | None = None,
    *,
    disabled: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the card as one record.

    Args:
        registry: outcomes.
        facts: of the manifest: parameters, opset, parity and so on.
        texts: what people state.
        report: made by anamnesis evaluate.
        disabled: outcomes without a positive label in training, which were not learnt.
    """
    return {
        "stated": dict(texts),
        "inputs": "coded events up to the prediction time: diagnoses, procedures, drugs, measurements, visits, sex, "
        "age; race and ethnicity are not read unless the cohort was prepared so",
        "outputs": "a calibrated probability an outcome and horizon, not falling with the horizon",
        "outcomes": [outcome_facts(outcome) for outcome in registry.outcomes],
        "not_learnt": list(disabled),
        "facts": dict(facts),
        "measured": measured(report) or MISSING,
        "performance": performance(report, MODEL) or MISSING,
    }


def recalibrated(card: Mapping[str, Any], facts: Mapping[str, Any], report: Path) -> dict[str, Any]:
    """Return the card of a model whose calibration was fitted elsewhere: its figures are those from there."""
    return {
        "not_learnt": [],
        **card,
        "facts": {**card["facts"], "recalibrated": dict(facts)},
        "measured": measured(report),
        "performance": performance(report, MODEL),
    }


def page(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    lines = ["# Model card", ""]
    lines += [f"- **{words(key)}**: {text}" for key, text in card["stated"].items()]
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
    if card["not_learnt"]:
        lines += ["", f"**Not learnt**, for want of a positive label in training: {', '.join(card['not_learnt'])}."]
        lines.append("Their probabilities mean nothing.")
    lines += ["", "## Performance", "", *performance_lines(card["measured"], card["performance"])]
    lines += ["", "## Facts", "", "| | |", "|---|---|"]
    lines += [f"| {words(key)} | {plain(value)} |" for key, value in card["facts"].items()]
    return "\n".join(lines) + "\n"


def performance_lines(on: Any, scores: Any) -> list[str]:  # noqa: ANN401  records, or the word missing
    """Return scores as lines of Markdown, one an outcome and horizon, the mean over them first."""
    if scores == MISSING:
        return ["missing: export again with --report REPORT, after anamnesis evaluate"]
    lines = [
        f"On {on['patients']:,} patients ({on['samples']:,} samples) of the split {on['split']}; 95 % intervals by "
        "patient; under 10 positives nothing is estimated. AUPRC of chance is the prevalence; slope 1 is right.",
        "",
        "| outcome | days | positives | prevalence | AUROC | AUPRC | calibration slope | ECE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    held: dict[tuple[str, int | None], dict[str, Mapping[str, Any]]] = {}
    for row in scores:
        held.setdefault((row["outcome"], row["horizon_days"]), {})[row["metric"]] = row
    for (outcome, days), rows in sorted(held.items(), key=lambda item: item[0][1] is not None):
        first = rows["auroc"]
        share = "" if first["prevalence"] is None else f"{first['prevalence']:.2%}"
        cells = [score(rows.get(metric)) for metric in ("auroc", "auprc", "calibration_slope", "ece")]
        name, window = (f"**mean of {len(held) - 1}**", "") if days is None else (outcome, str(days))
        lines.append(
            f"| {name} | {window} | {first['positives']:,} of {first['count']:,} | {share} | {' | '.join(cells)} |"
        )
    return lines


def score(row: Mapping[str, Any] | None) -> str:
    """Return a value with its interval."""
    if row is None:
        return ""
    if row["value"] is None:
        return "not estimable"
    ends = "" if row["lower"] is None else f" ({row['lower']:.3f} to {row['upper']:.3f})"
    return f"{row['value']:.3f}{ends}"


def words(key: str) -> str:
    """Return a key as words."""
    return key.replace("_", " ")


def plain(value: Any) -> str:  # noqa: ANN401  whatever a manifest holds
    """Return a fact as people read it: lists and records without brackets."""
    if isinstance(value, Mapping):
        held: Mapping[str, Any] = value
        if set(held) == {"type", "shape"}:
            return f"{held['type']} [{', '.join(map(str, held['shape']))}]"
        named = {key if isinstance(part, Mapping) else words(key): part for key, part in held.items()}
        return "; ".join(f"{key} {plain(part)}" for key, part in named.items())
    if isinstance(value, list):
        return ", ".join(plain(part) for part in value) or "none"
    return atom(value)


def atom(value: str | float | None) -> str:
    """Return a single fact: numbers with separators, digests by their first letters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return (value[:12] if DIGEST.fullmatch(value) else value) if value else "none"
