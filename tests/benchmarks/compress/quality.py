"""What 50 % pruning costs, exported file against exported file: `python -m tests.benchmarks.compress.quality`."""

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import calibration as calibrations
from ehr.metrics.resampling import draw
from ehr.metrics.scores import MACRO, slot, table
from pipelines.answering import ask, open_model
from pipelines.cohort import Cohort, open_cohort
from pipelines.samples import Questions, questions_of
from tests.benchmarks.compress.models import NAMES, RUNS, trained
from tests.benchmarks.harness import ROOT, Figure, verb

COMMAND = "python -m tests.benchmarks.compress.quality"
HOW = "50 % of the weights in encoder and decoder blocks, without retraining, both files f32"
METHODS = {"sparsegpt50": ROOT / "configs" / "compress" / "sparsegpt.yaml"}
SPLIT, RESAMPLES, SEED = "held_out", 1000, 0


class Compared(NamedTuple):
    """SCORES of both files on the same patients, and what the note says of the compressed run.

    Attributes:
        scores: by outcome, horizon and file.
        asked: what was asked.
        probability: of each file, f32 [N, K, H].
        patients: how many.
        told: of both files.
    """

    scores: pl.DataFrame
    asked: Questions
    probability: Mapping[str, npt.NDArray[Any]]
    patients: int
    told: str


def made(command: list[str], folder: Path) -> Path:
    """Run a verb whose artefact is not there."""
    if not (folder / "manifest.json").is_file():
        subprocess.run(command, cwd=ROOT, check=True)
    return folder


def compared(name: str, method: str, *, anew: bool) -> Compared:
    """Compress, export and ask both files."""
    model, folder = trained(name), RUNS / f"{name}-{method}"
    again = ("--overwrite",) if anew else ()
    words = ("--config", METHODS[method], *again)
    run, release = folder / "run", folder / "release"
    if anew:
        subprocess.run(verb("compress", model.run, model.cohort, run, *words), cwd=ROOT, check=True)
    made(verb("compress", model.run, model.cohort, run, *words), run)
    if anew:
        subprocess.run(verb("export", run, release, *again), cwd=ROOT, check=True)
    files = {
        "compressed": made(verb("export", run, release), release),
        # The demo leaves one.
        "dense": made(verb("export", model.run, model.run.parent / "release"), model.run.parent / "release"),
    }
    return answered(files, model.cohort)


def answered(files: dict[str, Path], folder: Path) -> Compared:
    """Ask both files of the same held-out patients.

    Args:
        files: releases, `compressed` and `dense`.
        folder: the cohort.
    """
    cohort = open_cohort(folder)
    asked = questions_of(cohort, SPLIT)
    opened = {arm: open_model(path) for arm, path in files.items()}
    probability = {}
    for arm, held in opened.items():
        logit = ask(held, cohort, asked, f"{arm}, samples").logit
        probability[arm] = calibrations.apply(held.calibration, logit)
    scores = scored(cohort, asked, probability)
    facts = opened["compressed"].manifest
    size = {arm: held.manifest["model_bytes"] for arm, held in opened.items()}
    told = f"{facts['parameters']:,} parameters; files of {size['compressed']:,} and {size['dense']:,} bytes"
    return Compared(scores, asked, probability, len(np.unique(asked.subject)), told)


def scored(cohort: Cohort, asked: Questions, probability: Mapping[str, npt.NDArray[Any]]) -> pl.DataFrame:
    """Return SCORES of several answers to the same questions, with paired resamples of patients."""
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=RESAMPLES, seed=SEED)
    place = draws.places(asked.subject)
    slots = [
        slot(
            outcome, int(days), asked.label[:, k, h], {arm: p[:, k, h] for arm, p in probability.items()}, place, draws
        )
        for k, outcome in enumerate(cohort.registry.names)
        for h, days in enumerate(cohort.registry.horizons[k])
        if days >= 0
    ]
    return table(slots, list(probability))


def write(name: str, method: str, found: Compared, how: str, command: str = COMMAND) -> None:
    """Write the figures of one model and method; `how` tells of the method in the note."""
    for metric in ("auroc", "auprc"):
        macro = found.scores.filter(outcome=MACRO)
        change = macro.filter(metric=f"{metric}_over_dense").row(0, named=True)
        arms = {arm: macro.filter(model=arm, metric=metric)["value"].item() for arm in ("compressed", "dense")}
        Figure(
            name=f"compress.quality.{name}.{method}.{metric}_change", value=change["value"], lower=change["lower"],
            upper=change["upper"], unit=metric.upper(), rival="the exported fp32 file", rival_value=0.0,
            count=found.patients, seeds=(SEED,), command=command,
            note=f"macro {arms['compressed']:.4f} against {arms['dense']:.4f}; {how}; {found.told}; paired resamples "
            "of patients",
        ).write()  # fmt: skip


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=NAMES, action="append", help="(default: those that are trained)")
    parser.add_argument("--method", choices=METHODS, default="sparsegpt50")
    parser.add_argument("--anew", action="store_true", help="compress and export again")
    given = parser.parse_args()
    for name in given.model or NAMES:
        try:
            found = compared(name, given.method, anew=given.anew)
        except ValueError as missing:
            if given.model:
                parser.error(str(missing))
            print(f"note: {missing}")
            continue
        write(name, given.method, found, HOW)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
