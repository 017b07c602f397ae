"""What a report says of the model and of its training."""

import csv
from pathlib import Path

import polars as pl

from ehr.report.figures import Curve
from pipelines import artefacts
from pipelines.answering import Model
from pipelines.cohort import Cohort
from pipelines.samples import Questions

CURVES = "metrics.csv"
SCHEMA = pl.Schema({"step": pl.Int64(), "epoch": pl.Int64(), "metric": pl.String(), "value": pl.Float64()})


def facts(model: Model, cohort: Cohort, asked: Questions, bootstrap: int, seed: int) -> list[tuple[str, str]]:
    """Return name and value of what the head of a report says; no dates and no paths."""
    found = [
        ("Model", f"{model.kind} {model.digest[:12]}"),
        ("Cohort", artefacts.digest(cohort.path / artefacts.MANIFEST)[:12]),
        ("Samples", f"{len(asked.subject):,}"),
        ("Outcomes", f"{len(cohort.registry.names)}"),
        ("Tokens known", f"{model.vocabulary.size:,}"),
        ("Longest history read", f"{model.max_length:,} tokens"),
        ("Intervals", f"{bootstrap:,} resamples, seed {seed}"),
    ]
    if "parameters" in model.manifest:
        found.insert(1, ("Parameters", f"{model.manifest['parameters']:,}"))
    if "patients" in cohort.manifest:
        found.insert(3, ("Patients of all splits", f"{cohort.manifest['patients']:,}"))
    return found


def learning_curves(model: Model) -> list[Curve]:
    """Return the learning curves of a run, and of the run it was pretrained in where that stands beside it."""
    if model.kind != "run":
        return []
    origin = model.manifest.get("pretrained")
    beside = sorted(path.parent for path in model.path.absolute().parent.glob(f"*/{artefacts.MANIFEST}"))
    found = [folder for folder in beside if origin and artefacts.digest(folder / artefacts.MANIFEST) == origin]
    named = [*(("Pretraining", folder) for folder in found[:1]), ("Fine-tuning", model.path)]
    return [Curve(name, read(folder / CURVES)) for name, folder in named if (folder / CURVES).is_file()]


def read(path: Path) -> pl.DataFrame:
    """Read a learning curve: step, epoch, metric, value.

    Raises:
        ValueError: a line is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(r["step"]), int(r["epoch"]), r["metric"], float(r["value"])) for r in csv.DictReader(file)]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: a line is damaged; copy the run again, or delete this file") from None
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
