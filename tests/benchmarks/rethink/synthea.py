"""Futures weighed by evidence, on Synthea's patients: `python -m tests.benchmarks.rethink.patients --synthea`.

Records are cut to what Synthea calls disorders and findings, with birth, sex and death: a decoder of the size of the
other part learns them in minutes. It is trained on the training patients of the shared data set, who are the pool of
neighbours too; tempers are chosen on tuning patients; and 200 held-out patients are asked about one year.
"""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from pipelines.rethink.patients import arms as names
from pipelines.rethink.patients import gathering
from pipelines.rethink.patients.asking import asked_of
from tests.benchmarks.harness import ROOT, RUNS, Figure, measured, verb
from tests.benchmarks.rethink.futures import (
    MOST,
    Json,
    averaged,
    compared,
    gathered_twice,
    kept,
    measured_at,
    opened,
    pretrained,
    settings_of,
    told,
    tuning,
)

COMMAND = "python -m tests.benchmarks.rethink.patients --synthea"
SOURCE = ROOT.parent / "shared" / "data" / "synthea_large"
HERE = RUNS / "rethink-synthea"
OUTCOMES = Path(__file__).with_suffix(".yaml")
PART = "rethink.patients-synthea_large"
SPLITS = ("train", "tuning", "held_out")
KEPT = r"\((?:disorder|finding)\)$"
"""Of the end of a code's description."""
NUMBERS = (20, MOST)
REACHED = 20
"""Futures at which REACH is drawn too."""
TAKEN, TUNING, RESAMPLES = 200, 200, 1_000
"""Patients asked and tuning patients, by a hash; resamples of those asked."""


def shortened(folder: Path) -> None:
    """Write the records with disorders and findings alone."""
    codes = pl.read_parquet(SOURCE / "metadata" / "codes.parquet")
    listed = codes.filter(pl.col("description").str.contains(KEPT))["code"].to_list()
    wanted = pl.col("code").is_in([*listed, "MEDS_BIRTH", "MEDS_DEATH"]) | pl.col("code").str.starts_with("SEX//")
    for split in SPLITS:
        found = pl.scan_parquet(SOURCE / "data" / split / "*.parquet").filter(wanted).collect()
        (folder / "data" / split).mkdir(parents=True, exist_ok=True)
        found.write_parquet(folder / "data" / split / "0.parquet")
    # Copied last: without it the records do not count as made.
    shutil.copytree(SOURCE / "metadata", folder / "metadata", dirs_exist_ok=True)


def prepared() -> Path:
    """Return the folder of the cohort and the run, made by the verbs where they are not there."""
    if not (HERE / "records" / "metadata").is_dir():
        shortened(HERE / "records")
    if not (HERE / "cohort" / "manifest.json").is_file():
        words = ("--outcomes", OUTCOMES, "--workers", "1", "--whole-tuning", "--no-gates", "--overwrite")
        measured(verb("prepare", HERE / "records", HERE / "cohort", *words))
    pretrained(HERE, seed=0, tokens=1024, length=128, epochs=4)
    return HERE


def part(seed: int) -> Json:
    """Measure one set of patients, with one set of futures."""
    folder = prepared()
    held = opened(folder)
    own = tuning(held, folder, TUNING)
    asked = gathering.chosen(asked_of(held.cohort, "held_out", held.world.slots), TAKEN, seed)
    stored, reached = gathered_twice(held, asked, MOST, REACHED, seed)
    positives = {slot.outcome: int((asked.label[:, at] == 1).sum()) for at, slot in enumerate(held.world.slots)}
    found: Json = {"seed": seed, "patients": len(asked.subject), "positives": positives, "samples": {}}
    for number in NUMBERS:
        reach = number <= REACHED
        others = (asked, reached if reach else stored)
        settings = settings_of(number, seed, reach=reach)
        found["samples"][str(number)] = measured_at(held, own, others, settings, resamples=RESAMPLES)
    return found


def figures(found: Json) -> None:
    """Write the figures: what the weights gain over Monte-Carlo."""
    positives: Mapping[str, int] = found["positives"]
    counted = ", ".join(f"{name} {count}" for name, count in positives.items())
    for number in NUMBERS:
        held = found["samples"][str(number)]
        for metric, name in (("auroc", "auroc_gain"), ("brier", "brier_change")):
            value, lower, upper = averaged([found], number, metric, names.WEIGHTED, names.MONTE_CARLO)
            Figure(
                name=f"rethink.patients.synthea_large.{name}.{number}",
                value=value, unit="AUROC" if metric == "auroc" else "Brier", command=COMMAND,
                rival=f"Monte-Carlo of the same {number} futures",
                rival_value=averaged([found], number, metric, names.MONTE_CARLO)[0], lower=lower, upper=upper,
                count=found["patients"], seeds=(found["seed"],),
                note="before calibration, mean of the disorders with ten positives at least, one year; records of "
                f"disorders and findings alone; one decoder, one set of futures; positives: {counted}; temper "
                f"{held['temper']['indicator']:g}; {told([found], number, metric)}",
            ).write()  # fmt: skip
        compared([found], number)


def main() -> int:
    """Measure where the data is there, then write the figures."""
    if not SOURCE.is_dir():
        print("synthea_large: not among the shared data sets here; nothing is measured")
        return 0
    figures(kept(PART, partial(part, 0)))
    return 0
