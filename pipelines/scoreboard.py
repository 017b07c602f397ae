"""The scores of a report as people read them on a terminal."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from ehr.metrics.scores import MACRO
from pipelines import artefacts

SHORT: Mapping[str, str] = {
    "anamnesis": "Anamnesis",
    "as_released": "as released",
    "logistic_regression": "logistic",
    "gradient_boosting": "boosting",
}
Row = Mapping[str, Any]


def show(report: Path) -> None:
    """Print a table of a report's scores, and the means over outcomes."""
    manifest = artefacts.read_manifest(report, "report")
    scores = pl.read_parquet(report / "scores.parquet")
    models: list[str] = manifest["models"]
    # A log file has no width of its own; names are worth more than a narrow table.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    title = f"Scores on split {manifest['split']}: {manifest['patients']:,} patients, 95 % intervals by patient"
    console.print(table(scores, models, title))
    for line in macro_lines(scores, models):
        console.print(line, highlight=False)


def table(scores: pl.DataFrame, models: Sequence[str], title: str) -> Table:
    """Return one line an outcome and horizon: AUROC and AUPRC of every model."""
    made = Table(title=title, title_justify="left")
    made.add_column("outcome")
    columns = [f"{metric}\n{SHORT.get(model, model)}" for model in models for metric in ("AUROC", "AUPRC")]
    for column in ("days", "positives", "prevalence", *columns):
        made.add_column(column, justify="right")
    for (outcome, days), rows in scores.filter(pl.col("outcome") != MACRO).group_by(
        ["outcome", "horizon_days"], maintain_order=True
    ):
        held = {(row["model"], row["metric"]): row for row in rows.iter_rows(named=True)}
        first = held[models[0], "auroc"]
        facts = (f"{first['positives']:,}", "-" if first["prevalence"] is None else f"{first['prevalence']:.2%}")
        cells = [
            cell(held[model, metric], wide=model == models[0]) for model in models for metric in ("auroc", "auprc")
        ]
        made.add_row(str(outcome), str(days), *facts, *cells)
    return made


def cell(row: Row, *, wide: bool) -> str:
    """Return a value, with its interval where there is room."""
    if row["value"] is None:
        return "not estimable" if wide else "-"
    if not wide or row["lower"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['lower']:.3f}-{row['upper']:.3f})"


def macro_lines(scores: pl.DataFrame, models: Sequence[str]) -> list[str]:
    """Return the macro-AUROC of every model, and the differences, as lines."""
    held = {(row["model"], row["metric"]): row for row in scores.filter(outcome=MACRO).iter_rows(named=True)}
    if not held:
        return ["macro-AUROC: not estimable, no outcome has 10 positives and 10 negatives"]
    names = {model: SHORT.get(model, model) for model in models}
    values = [f"{names[model]} {held[model, 'auroc']['value']:.3f}" for model in models]
    lines = [f"macro-AUROC: {', '.join(values)}"]
    for rival in models[1:]:
        row = held[models[0], f"auroc_over_{rival}"]
        ends = "" if row["lower"] is None else f" ({row['lower']:+.3f} to {row['upper']:+.3f})"
        lines.append(f"{names[models[0]]} minus {names[rival]}: {row['value']:+.3f}{ends}")
    return lines
