"""What can be watched: predictions of `score`, or the audit of `serve`; and labels, once they arrive."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ehr import predictions
from ehr.predictions import KEY
from ehr.quality.digest import Digest
from pipelines import artefacts, digests
from pipelines.digests import INDEX

ANSWERS = pl.Schema(
    {"patient": pl.String(), "outcome": pl.String(), "horizon_days": pl.Int32(), "probability": pl.Float32()}
)
LABELLED = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "boolean_value": pl.Boolean(),
    }
)


class Seen(NamedTuple):
    """Who was scored.

    Attributes:
        moment: when patients were scored: latest, date or index.
        digest: counts of their records; without tables where only answers are known.
        answers: ANSWERS, the latest of each patient.
        predictions: PREDICTIONS, all; None where only answers are known.
        notes: what a reader must know.
    """

    moment: str
    digest: Digest
    answers: pl.DataFrame
    predictions: pl.DataFrame | None
    notes: tuple[str, ...] = ()


def of_predictions(folder: Path, model: str) -> Seen:
    """Read what anamnesis score left.

    Args:
        folder: predictions.
        model: digest of the release's model.

    Raises:
        ValueError: no whole predictions, of another model, or made before there were digests.
    """
    manifest = artefacts.read_manifest(folder, "predictions")
    artefacts.verify(folder, manifest)
    if manifest["model"] != model:
        raise ValueError(f"{folder}: was scored with another model than the release holds; give its own release")
    held = digests.read(folder)
    table = predictions.read(folder / "predictions")
    latest = table.filter(pl.col("prediction_time") == pl.col("prediction_time").max().over("subject_id"))
    answers = latest.select(pl.col("subject_id").cast(pl.String).alias("patient"), *ANSWERS.names()[1:])
    moment, counted = next(iter(held.moments.items()))
    return Seen(moment, counted, answers, table)


def of_audit(path: Path, model: str) -> Seen:
    """Read the answers of an audit: probabilities alone, the last of each patient.

    Args:
        path: JSON lines of anamnesis serve.
        model: digest of the release's model.

    Raises:
        ValueError: a line is none of an audit, or none is an answer of this model.
    """
    rows: dict[str, list[tuple[str, int, float]]] = {}
    others = unnamed = 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            entry = parsed(path, number, line)
            if "probability" not in entry:
                continue
            if entry["model"] != model:
                others += 1
                continue
            for row in entry["probability"]:
                unnamed += entry["patient"] is None
                key = entry["patient"] or f"line {number}, {len(rows)}"
                rows.pop(key, None)
                rows[key] = [(*slot(name), float(value)) for name, value in zip(entry["outcomes"], row, strict=True)]
    if not rows:
        raise ValueError(f"{path}: holds no answer of the release's model ({others:,} of others); give its own release")
    notes = ["An audit holds no records: only probabilities are compared."]
    if others:
        notes.append(f"{others:,} requests were answered by another model and are left out.")
    if unnamed:
        notes.append(f"{unnamed:,} answers name no patient; each is taken as a patient of its own.")
    flat = [(patient, *held) for patient, answered in rows.items() for held in answered]
    return Seen(INDEX, Digest({}, len(rows)), pl.DataFrame(flat, schema=ANSWERS, orient="row"), None, tuple(notes))


def parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    """Return one line of an audit."""
    try:
        entry: Any = json.loads(line)
        assert {"model", "patient", "status"} <= set(entry)
        assert "probability" not in entry or len(entry["outcomes"]) == len(entry["probability"][0])
    except (ValueError, AssertionError, TypeError, KeyError, IndexError):
        raise ValueError(
            f"{path}:{number}: not a line of an audit; expected what anamnesis serve --audit wrote"
        ) from None
    return entry


def slot(name: str) -> tuple[str, int]:
    """Return outcome and days of outcome@days."""
    outcome, _, days = name.rpartition("@")
    return outcome, int(days)


def labels(path: Path) -> pl.DataFrame:
    """Read labels: a table with the columns of LABELLED, or a folder of such tables.

    Raises:
        ValueError: it cannot be read, lacks a column, or labels a sample twice.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{path}: no such table; expected parquet or CSV with {', '.join(LABELLED)}")
    frames: list[pl.DataFrame] = []
    for file in files:
        try:
            frame = pl.read_csv(file, try_parse_dates=True) if file.suffix == ".csv" else pl.read_parquet(file)
            frames.append(frame.select(pl.col(name).cast(kind) for name, kind in LABELLED.items()))
        except pl.exceptions.PolarsError:
            wanted = ", ".join(f"{name} ({kind})" for name, kind in LABELLED.items())
            raise ValueError(f"{file}: not a table of labels; expected {wanted}") from None
    held = pl.concat(frames)
    if held.select(KEY).is_duplicated().any():
        raise ValueError(f"{path}: labels a sample twice; expected one row by {', '.join(KEY)}")
    return held.drop_nulls("boolean_value")
