"""Gates held by the verbs: Great Expectations suites over profiles, and the page of results."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ehr.quality import page
from ehr.quality.profile import Violation, first_offenders, message, shares
from ehr.quality.thresholds import Thresholds
from pipelines.artefacts import write_json


def preload() -> None:
    """Import Great Expectations; it takes seconds, so a thread does it while workers read."""
    importlib.import_module("ehr.quality.suites")


def hold_events(folder: Path, profile: pl.DataFrame, thresholds: Thresholds, rejected: pl.DataFrame) -> None:
    """Hold the gates on raw events.

    Raises:
        ValueError: a gate does not hold: its name, count, first offenders, and the setting that relaxes it.
    """
    from ehr.quality import suites

    measured = shares(profile)
    found = suites.check("events", measured, suites.bounds_of(thresholds, suites.EVENT_GATES))
    record(folder, found)
    for gate in found:
        if not gate.success:
            where = first_offenders(gate.expectation, profile, rejected)
            raise ValueError(message(Violation(gate.expectation, gate.share, gate.bound, gate.count, where)))


def hold_timelines(folder: Path, measured: Mapping[str, tuple[float, int]], thresholds: Thresholds) -> None:
    """Hold the gates on prepared timelines and labels (see `hold_events`)."""
    from ehr.quality import suites

    found = suites.check("timelines", dict(measured), suites.bounds_of(thresholds, suites.TIMELINE_GATES))
    record(folder, found)
    for gate in found:
        if not gate.success:
            where = "the whole cohort"
            raise ValueError(message(Violation(gate.expectation, gate.share, gate.bound, gate.count, where)))


def record(folder: Path, found: list[Any]) -> None:
    """Add results to quality/results.json and render the page anew."""
    path = folder / "quality" / "results.json"
    held: list[dict[str, Any]] = []
    if path.is_file():
        import json

        held = json.loads(path.read_text(encoding="utf-8"))
    held += [gate._asdict() for gate in found]
    write_json(path, held)
    (folder / "quality" / "index.html").write_text(page.render(held), encoding="utf-8")


def drift(train: pl.DataFrame, others: pl.DataFrame, min_rows: int, most: float) -> tuple[int, int]:
    """Compare medians of values between training patients and the others.

    A unit that changed (mg/dL to mmol/L) moves a median by a factor; another population does not.

    Args:
        train: merged counts of the training split.
        others: merged counts of the other splits.
        min_rows: codes with fewer values on either side are not compared.
        most: largest ratio of medians, either way.

    Returns:
        Number of codes compared, and of those that drifted.
    """
    both = train.join(others, on="code", suffix="_others").filter(
        (pl.col("valued") >= min_rows) & (pl.col("valued_others") >= min_rows)
    )
    drifted = 0
    for row in both.iter_rows(named=True):
        a, b = median(row["value"], row["weight"]), median(row["value_others"], row["weight_others"])
        ratio = abs(a / b) if a and b else 1.0
        drifted += ratio > most or ratio < 1 / most
    return len(both), drifted


def median(value: list[float], weight: list[float]) -> float:
    """Return the weighted median of sorted values."""
    mass = np.cumsum(weight)
    return float(value[int(np.searchsorted(mass, mass[-1] / 2))])
