"""Gates held by the verbs: Great Expectations suites over profiles, and the page of results."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ehr.quality import page
from ehr.quality.drift import drifted, spread_of_counts, spread_of_cuts
from ehr.quality.sequences import measure_predictions
from ehr.quality.thresholds import Measure, Thresholds, message
from ehr.quality.thresholds import hold as violations
from ehr.vocabulary import Vocabulary, merge
from pipelines.artefacts import write_json


def preload() -> None:
    """Import Great Expectations; it takes seconds, so a thread does it while workers read."""
    importlib.import_module("ehr.quality.suites")


def hold(
    folder: Path, suite: str, measures: Mapping[str, Measure], thresholds: Thresholds, *, data_docs: bool = False
) -> None:
    """Hold one suite of gates, and add its results to quality/results.json and quality/index.html.

    Args:
        folder: the artefact being made.
        suite: events, timelines or predictions.
        measures: what was found, by gate.
        thresholds: what is borne.
        data_docs: add Great Expectations' own pages under quality/data_docs.

    Raises:
        ValueError: a gate does not hold: its name, count, first offenders, and the setting that relaxes it.
    """
    from ehr.quality import suites

    docs = folder / "quality" / "data_docs" if data_docs else None
    found = suites.check(suite, measures, thresholds, data_docs=docs)
    record(folder / "quality", [gate._asdict() for gate in found])
    suites.enforce(found)


def hold_again(folder: Path, measures: Mapping[str, Measure], thresholds: Thresholds) -> None:
    """Hold gates that stand in an artefact's results already, without Great Expectations; theirs are replaced.

    Args:
        folder: the artefact being made; one that was made without gates stays so.
        measures: what was found, by gate.
        thresholds: what is borne.

    Raises:
        ValueError: a gate does not hold (see `hold`).
    """
    path = folder / "quality" / "results.json"
    if not path.is_file():
        return
    failed = violations(measures, thresholds)
    if failed:
        raise ValueError(message(failed))
    results: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for gate in results:
        found = measures.get(gate["expectation"])
        if found is not None:
            gate.update(found=found.found, of=found.of, share=found.share)
    path.unlink()
    record(folder / "quality", results)


def record(folder: Path, found: list[dict[str, Any]]) -> None:
    """Add results to results.json and render the page anew."""
    path = folder / "results.json"
    folder.mkdir(exist_ok=True)
    held: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    held += found
    write_json(path, held)
    (folder / "index.html").write_text(page.render(held), encoding="utf-8")


def unit_drift(
    train: pl.DataFrame, others: pl.DataFrame, frozen: Vocabulary | None, thresholds: Thresholds, min_rows: int
) -> Measure:
    """Compare values of the training patients with those of the others.

    Args:
        train: COUNTS of the training patients.
        others: COUNTS of the others.
        frozen: a vocabulary made elsewhere; then all patients are held against its value bins.
        thresholds: what counts as drift.
        min_rows: codes with fewer values are not compared.
    """
    if frozen is None:
        reference, seen = spread_of_counts(merge([train])), spread_of_counts(merge([others]))
    else:
        reference, seen = spread_of_cuts(frozen.cuts), spread_of_counts(merge([train, others]))
    return drifted(reference, seen, least=min_rows, factor=thresholds.unit_drift)


def hold_predictions(folder: Path, predictions: pl.DataFrame, thresholds: Thresholds | None = None) -> None:
    """Hold the gates on predictions (see `hold`)."""
    hold(folder, "predictions", measure_predictions(predictions), thresholds or Thresholds())
