"""Figures of the learning benchmark from its parts."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.harness import Figure
from tests.benchmarks.learning.cohorts import PLANS
from tests.benchmarks.learning.parts import PARTS

OURS, SCRATCH = "ours", "scratch"
COMMAND = "python -m tests.benchmarks.learning"
SINGLE = {"physionet2012": "death", "diabetes130": "readmission"}
"""Cohorts of one outcome, whose macro mean is that outcome."""
Floats = npt.NDArray[np.float64]


def parts() -> list[dict[str, Any]]:
    """Read every part."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(PARTS.glob("learning-*.json"))]


def over_seeds(held: list[dict[str, Any]], split: str, name: str, seeds: tuple[int, ...]) -> Floats:
    """Return resamples of a mean, averaged over seeds, f64 [1 + B]."""
    chosen = [part for part in held if part["seed"] in seeds and name in part[split]["replicates"]]
    return np.mean([part[split]["replicates"][name] for part in chosen], axis=0)


def seeds_of(held: list[dict[str, Any]]) -> tuple[int, ...]:
    """Return the seeds of some parts."""
    return tuple(sorted(part["seed"] for part in held))


def by_arm(cohort: str, labelled: int) -> dict[str, list[dict[str, Any]]]:
    """Return the parts of a cohort by arm."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in parts():
        if part["cohort"] == cohort and part["labelled"] == labelled:
            found.setdefault(part["arm"], []).append(part)
    return found


def write() -> None:
    """Write the figures of which the parts stand there."""
    for cohort in PLANS:
        held = by_arm(cohort, 100)
        rivals = {arm: own for arm, own in held.items() if arm not in (OURS, SCRATCH)}
        if OURS in held and rivals:
            for split in PLANS[cohort].tests:
                for name in held[OURS][0][split]["replicates"]:
                    contest(cohort, split, name, held[OURS], rivals)
        for labelled in (1, 10):
            some = by_arm(cohort, labelled)
            if OURS in some and SCRATCH in some:
                pretraining(cohort, labelled, some)


def contest(
    cohort: str, split: str, name: str, ours: list[dict[str, Any]], rivals: dict[str, list[dict[str, Any]]]
) -> None:
    """Write ours against the best rival on one mean."""
    values = {arm: over_seeds(own, split, name, seeds_of(own))[0] for arm, own in rivals.items()}
    best = max(values, key=lambda arm: values[arm])
    # Where both have several seeds the same ones stand against each other; a rival without chance has one.
    shared = tuple(seed for seed in seeds_of(ours) if seed in seeds_of(rivals[best]))
    mine = over_seeds(ours, split, name, shared)
    gain = mine - over_seeds(rivals[best], split, name, shared)
    outcome, metric = name.split(".")
    if outcome == "macro" and cohort in SINGLE:
        outcome = SINGLE[cohort]
    place = "" if split == "held_out" else f"{split}."
    others = ", ".join(f"{arm} {value:.4f}" for arm, value in sorted(values.items(), key=lambda item: -item[1]))
    Figure(
        name=f"learning.{cohort}.{place}{outcome}.{metric}",
        value=float(mine[0]),
        unit="fraction",
        command=COMMAND,
        rival=best,
        rival_value=float(mine[0] - gain[0]),
        lower=float(np.nanpercentile(gain[1:], 2.5)),
        upper=float(np.nanpercentile(gain[1:], 97.5)),
        count=ours[0][split]["samples"],
        seeds=shared,
        note=f"interval of the difference, {ours[0][split]['patients']:,} patients resampled; rivals: {others}",
    ).write()


def pretraining(cohort: str, labelled: int, held: dict[str, list[dict[str, Any]]]) -> None:
    """Write how much pretraining gains with few labels."""
    shared = tuple(seed for seed in seeds_of(held[OURS]) if seed in seeds_of(held[SCRATCH]))
    mine, theirs = (over_seeds(held[arm], "held_out", "macro.auroc", shared) for arm in (OURS, SCRATCH))
    gain = mine - theirs
    Figure(
        name=f"learning.{cohort}.pretraining_gain.{labelled}",
        value=float(gain[0]),
        unit="fraction",
        command=COMMAND,
        rival="the same network from scratch",
        lower=float(np.nanpercentile(gain[1:], 2.5)),
        upper=float(np.nanpercentile(gain[1:], 97.5)),
        count=held[OURS][0]["held_out"]["samples"],
        seeds=shared,
        note=f"macro-AUROC {mine[0]:.4f} pretrained, {theirs[0]:.4f} from scratch",
    ).write()
