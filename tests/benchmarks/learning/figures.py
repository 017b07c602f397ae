"""Figures of the learning benchmark from its parts."""

from typing import Any

import numpy as np

from tests.benchmarks.harness import Figure
from tests.benchmarks.learning import simulators
from tests.benchmarks.learning.cohorts import BUDGETS, PLANS
from tests.benchmarks.learning.parts import over_seeds, parts, seeds_of

OURS, SCRATCH = "ours", "scratch"
COMMAND = "python -m tests.benchmarks.learning"
SINGLE = {"physionet2012": "death", "diabetes130": "readmission"}
"""Cohorts of one outcome, whose macro mean is that outcome."""


def by_arm(cohort: str, labelled: int) -> dict[str, list[dict[str, Any]]]:
    """Return the parts of a cohort by arm."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in parts():
        if part["cohort"] == cohort and part["labelled"] == labelled:
            found.setdefault(part["arm"], []).append(part)
    return found


def write() -> None:
    """Write the figures of which the parts stand there."""
    for cohort, plan in PLANS.items():
        held = by_arm(cohort, 100)
        rivals = {arm: own for arm, own in held.items() if arm not in (OURS, SCRATCH)}
        mine = held.get(OURS) or held.get(SCRATCH)
        if mine and rivals:
            for split in plan.tests:
                for name in mine[0][split]["replicates"]:
                    contest(cohort, split, name, mine, rivals)
        for labelled in BUDGETS:
            some = by_arm(cohort, labelled)
            if OURS in some and SCRATCH in some:
                pretraining(cohort, labelled, some)
    simulators.write(parts())


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
    how = "" if ours[0]["arm"] == OURS else "ours without pretraining; "
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
        note=f"{how}interval of the difference, {ours[0][split]['patients']:,} patients resampled; rivals: {others}",
    ).write()


def pretraining(cohort: str, labelled: int, held: dict[str, list[dict[str, Any]]]) -> None:
    """Write how much pretraining gains with few labels."""
    shared = tuple(seed for seed in seeds_of(held[OURS]) if seed in seeds_of(held[SCRATCH]))
    mine, theirs = (over_seeds(held[arm], "held_out", "macro.auroc", shared) for arm in (OURS, SCRATCH))
    gain = mine - theirs
    Figure(
        name=f"learning.{cohort.partition('.')[0]}.pretraining_gain.{labelled}",
        value=float(gain[0]),
        unit="fraction",
        command=COMMAND,
        rival="the same network from scratch",
        lower=float(np.nanpercentile(gain[1:], 2.5)),
        upper=float(np.nanpercentile(gain[1:], 97.5)),
        count=held[OURS][0]["held_out"]["samples"],
        seeds=shared,
        note=f"macro-AUROC {mine[0]:.4f} pretrained, {theirs[0]:.4f} from scratch; {cohort}",
    ).write()
