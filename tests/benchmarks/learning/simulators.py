"""Figures of both simulated mechanisms together: the mean of differences, the worse of what is held to a bound."""

from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks.harness import Figure
from tests.benchmarks.learning.cohorts import PLANS
from tests.benchmarks.learning.parts import Replicates, over_seeds, seeds_of

COMMAND = "python -m tests.benchmarks.learning"
TRAILS = 0.03
"""By so much AUROC logistic regression must trail the oracle where the gap is judged."""
Part = dict[str, Any]


class Judged(NamedTuple):
    """One common outcome of one mechanism: means over seeds of ours, the oracle's AUROC and logistic regression's."""

    place: str
    oracle: float
    auroc: float
    logistic: float
    slope: float
    ece: float


def judged(parts: list[Part]) -> list[Judged]:
    """Return every common outcome of every simulated cohort that ours and logistic regression answered."""
    found: list[Judged] = []
    for cohort in (name for name, plan in PLANS.items() if plan.mechanism):
        whole = [part for part in parts if part["cohort"] == cohort and part["labelled"] == 100]
        ours, plain = (
            [part["held_out"]["common"] for part in whole if part["arm"] == arm] for arm in ("ours", "logistic")
        )
        for slot in ours[0] if ours and plain else ():
            mean = {key: float(np.mean([part[slot][key] for part in ours])) for key in ours[0][slot]}
            logistic = float(np.mean([part[slot]["auroc"] for part in plain]))
            found.append(
                Judged(f"{cohort} {slot}", mean["oracle"], mean["auroc"], logistic, mean["slope"], mean["ece"])
            )
    return found


def pooled(parts: list[Part]) -> None:
    """Write ours against the best rival, the mean of both mechanisms, where both have their parts."""
    held: dict[str, dict[str, list[Part]]] = {}
    for part in parts:
        if PLANS[part["cohort"]].mechanism and part["labelled"] == 100:
            held.setdefault(part["arm"], {}).setdefault(part["cohort"], []).append(part)
    whole = {arm: own for arm, own in held.items() if len(own) == sum(bool(plan.mechanism) for plan in PLANS.values())}
    rivals = [arm for arm in whole if arm not in ("ours", "scratch")]
    if "ours" not in whole or not rivals:
        return
    for name in ("macro.auroc", "macro.auprc", "macro_rare.auprc"):
        means = {arm: mean(own, name, whole["ours"]) for arm, own in whole.items()}
        best = max(rivals, key=lambda arm: means[arm][0])
        gain = means["ours"] - means[best]
        told = ", ".join(f"{arm} {means[arm][0]:.4f}" for arm in sorted(rivals, key=lambda arm: -means[arm][0]))
        seeds = sorted({part["seed"] for own in whole["ours"].values() for part in own})
        Figure(
            name=f"learning.simulator.{name}",
            value=float(means["ours"][0]),
            unit="fraction",
            command=COMMAND,
            rival=best,
            rival_value=float(means[best][0]),
            lower=float(np.nanpercentile(gain[1:], 2.5)),
            upper=float(np.nanpercentile(gain[1:], 97.5)),
            seeds=tuple(seeds),
            note=f"mean of both mechanisms; interval of the difference; rivals: {told}",
        ).write()


def mean(own: dict[str, list[Part]], name: str, ours: dict[str, list[Part]]) -> Replicates:
    """Return an arm's resamples of a mean over mechanisms, on the seeds that ours has too, f64 [1 + B]."""
    shared = {cohort: tuple(seed for seed in seeds_of(own[cohort]) if seed in seeds_of(ours[cohort])) for cohort in own}
    return np.mean([over_seeds(own[cohort], "held_out", name, shared[cohort]) for cohort in own], axis=0)


def write(parts: list[Part]) -> None:
    """Write what the parts allow: ours against rivals, the oracle's gap, and calibration against true risk."""
    pooled(parts)
    held = judged(parts)
    if not held:
        return
    seeds = tuple(sorted({part["seed"] for part in parts if part["arm"] == "ours" and PLANS[part["cohort"]].mechanism}))
    mechanisms = sorted({one.place.split()[0] for one in held})
    told = f"of {len(held)} common outcomes and horizons of {', '.join(mechanisms)}; answers of the exported file"
    hard = [one for one in held if one.oracle - one.logistic >= TRAILS]
    if len(hard) >= 5:
        worst = max(hard, key=lambda one: one.oracle - one.auroc)
        note = f"{worst.place}, the worst of {len(hard)} on which logistic regression trails by {TRAILS}, {told}"
        simple("oracle_gap", worst.oracle - worst.auroc, note, seeds)
    worst = max(held, key=lambda one: abs(one.slope - 1))
    simple("calibration_slope", worst.slope, f"{worst.place}, the worst {told}; against true risk", seeds)
    worst = max(held, key=lambda one: one.ece)
    simple("ece", worst.ece, f"{worst.place}, the worst {told}; against true risk", seeds)


def simple(name: str, value: float, note: str, seeds: tuple[int, ...]) -> None:
    """Write one of them."""
    Figure(
        name=f"learning.simulator.{name}", value=value, unit="fraction", command=COMMAND, seeds=seeds, note=note
    ).write()
