"""Parts of the learning benchmark: what one cohort, arm and seed reached, small enough to be kept with the code.

A part holds AUROC and average precision of every outcome, and of each macro mean 1,000 resamples of patients. Equal
cohorts give equal draws, so the difference of two parts' resamples is a paired one.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.metrics.measures import Answers, ranking
from ehr.metrics.resampling import draw
from pipelines.cohort import Cohort
from pipelines.samples import Questions
from tests.benchmarks.harness import FIGURES
from tests.benchmarks.learning import oracle
from tests.benchmarks.learning.arms import Floats, Job, answers, matches
from tests.benchmarks.learning.cohorts import PLANS, RUNS, rare_outcomes, ready

PARTS = FIGURES / "parts"
RESAMPLES, SEED = 1_000, 0
METRICS = ("auroc", "auprc")
DIGITS = 5
Replicates = npt.NDArray[np.float64]


class Slot(NamedTuple):
    """One outcome and horizon: how many are asked, how many have it, and both metrics with their resamples."""

    name: str
    count: int
    positives: int
    replicates: dict[str, npt.NDArray[np.float64]]


def path_of(job: Job) -> Path:
    """Return where a part stands."""
    return PARTS / f"learning-{job.cohort}-{job.name}.json"


def make(job: Job) -> dict[str, Any]:
    """Run an arm where its part is not there, and return the part."""
    path = path_of(job)
    if not path.is_file():
        cohort = ready(job.cohort, job.labelled)
        found: dict[str, Any] = {"cohort": job.cohort, "arm": job.arm, "seed": job.seed, "labelled": job.labelled}
        for split in PLANS[job.cohort].tests:
            held, asked, probability = answers(job, cohort, split)
            keep(job, split, asked, probability)
            found[split] = measured(job, held, asked, probability)
            found[split]["common"] = oracle.compared(job.cohort, held, asked, probability)
        PARTS.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial")
        temporary.write_text(json.dumps(found) + "\n", encoding="utf-8")
        temporary.rename(path)
    return json.loads(path.read_text(encoding="utf-8"))


def keep(job: Job, split: str, asked: Questions, probability: Floats) -> None:
    """Keep the predictions themselves, untracked."""
    folder = RUNS / job.cohort / "answers"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{job.name}-{split}.npz", probability=probability, **asked._asdict())


def measured(job: Job, cohort: Cohort, asked: Questions, probability: Floats) -> dict[str, Any]:
    """Return metrics by outcome and the resamples of their means."""
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=RESAMPLES, seed=SEED)
    place, slots, rare = draws.places(asked.subject), list[Slot](), rare_outcomes(job.cohort)
    for held in matches(cohort):
        at = (slice(None), *held.cohort)
        known = ~np.isnan(asked.label[at])
        label = asked.label[at][known] == 1
        given = Answers(probability[at][known].astype(np.float64), label, place[known])
        if given.estimable:
            # A resample may leave out every patient of a class: its value is NaN, and the mean does without it.
            with np.errstate(divide="ignore", invalid="ignore"):
                both = dict(zip(METRICS, ranking(given, draws.weight), strict=True))
            slots.append(Slot(f"{held.outcome}.{held.horizon_days}", len(label), int(label.sum()), both))
    told = {
        slot.name: {"n": slot.count, "positives": slot.positives}
        | {metric: round(float(values[0]), DIGITS) for metric, values in slot.replicates.items()}
        for slot in slots
    }
    means = {"macro": slots, "macro_rare": [slot for slot in slots if slot.name.rpartition(".")[0] in rare]}
    macro = {
        f"{name}.{metric}": np.round(np.nanmean([slot.replicates[metric] for slot in some], 0), DIGITS).tolist()
        for name, some in means.items()
        if some
        for metric in METRICS
    }
    return {"patients": len(draws.subject), "samples": len(asked.subject), "outcomes": told, "replicates": macro}


def parts() -> list[dict[str, Any]]:
    """Read every part."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(PARTS.glob("learning-*.json"))]


def over_seeds(held: list[dict[str, Any]], split: str, name: str, seeds: tuple[int, ...]) -> Replicates:
    """Return resamples of a mean, averaged over seeds, f64 [1 + B]."""
    chosen = [part for part in held if part["seed"] in seeds and name in part[split]["replicates"]]
    return np.mean([part[split]["replicates"][name] for part in chosen], axis=0)


def seeds_of(held: list[dict[str, Any]]) -> tuple[int, ...]:
    """Return the seeds of some parts."""
    return tuple(sorted(part["seed"] for part in held))
