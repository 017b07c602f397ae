"""Futures weighed by evidence, on the simulator's hidden types: `python -m tests.benchmarks.rethink.patients`.

A decoder is trained with the full history of 3,500 patients, who are also the pool of neighbours. A seed is a set of
patients whom neither has seen, with futures of its own; `--sets` seeds share a decoder. Tempers are chosen on tuning
patients of the same simulation. A seed that has its part under docs/explanation/figures/parts is not run again.
`--reach N` draws at N futures what REACH needs, a set of futures an outcome, on the first `--reach-seeds` seeds.
Synthea's patients come last (tests/benchmarks/rethink/synthea.py); `--synthea` measures on them alone.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from ehr.splits import by_hash
from pipelines.rethink.patients import arms as names
from pipelines.rethink.patients.asking import Asked, asked_of
from tests.benchmarks.harness import ROOT, RUNS, Figure, measured, verb
from tests.benchmarks.rethink import synthea
from tests.benchmarks.rethink.futures import (
    MOST,
    PARTS,
    Json,
    Setting,
    averaged,
    compared,
    gathered,
    gathered_twice,
    kept,
    measured_at,
    opened,
    pretrained,
    settings_of,
    told,
    tuning,
)

COMMAND = "python -m tests.benchmarks.rethink.patients"
HERE = RUNS / "rethink-patients"
OUTCOMES = ROOT / "configs" / "rethink" / "patients-outcomes.yaml"
TRAINING, SETS, EACH, TAKEN, TUNING = 5_000, 10, 300, 100, 200
"""Patients who train, tune and calibrate; sets a decoder, patients simulated for a set, and taken; tuning patients."""
NUMBERS = (9, 20, MOST)
REACHED = 9
"""Futures at which REACH is drawn too: it takes a set of futures an outcome."""


def prepared(decoder: int) -> Path:
    """Return the folder of a decoder's cohort and run, made by the verbs where they are not there.

    Separators of visits, drugs and sites are no input: they tell nothing of the type, and cost futures twice the time.
    """
    folder = HERE / str(decoder)
    folder.mkdir(parents=True, exist_ok=True)
    patients = TRAINING + SETS * EACH
    if not (folder / "records" / "manifest.json").is_file():
        words = ("--patients", str(patients), "--seed", str(decoder), "--mechanism", "hidden_types", "--overwrite")
        measured(verb("simulate", folder / "records", *words, "--workers", "1"))
    if not (folder / "cohort" / "manifest.json").is_file():
        subject = np.arange(patients, dtype=np.int64)
        split = np.where(subject < TRAINING, by_hash(subject), "held_out")
        pl.DataFrame({"subject_id": subject, "split": split}).write_parquet(folder / "splits.parquet")
        words = ("--outcomes", OUTCOMES, "--splits", folder / "splits.parquet", "--workers", "1", "--overwrite")
        unread = ("--exclude", "VISIT//*", "--exclude", "ATC//*", "--exclude", "SITE//*", "--whole-tuning")
        measured(verb("prepare", folder / "records", folder / "cohort", *words, *unread, "--no-gates"))
    pretrained(folder, seed=decoder, tokens=512, length=96, epochs=6)
    return folder


def oracle(held: Setting, folder: Path, asked: Asked) -> np.ndarray:
    """Return the true risks of patients, f64 [Q, S]."""
    truth = pl.read_parquet(folder / "records" / "truth" / "*.parquet")
    found = np.zeros(asked.label.shape)
    for at, slot in enumerate(held.world.slots):
        own = truth.filter((pl.col("outcome") == slot.outcome) & (pl.col("horizon_days") == slot.horizon_days))
        risk = dict(own.select("subject_id", "risk").iter_rows())
        found[:, at] = [risk[subject] for subject in asked.subject.tolist()]
    return found


def asked_in(held: Setting, seed: int, sets: int) -> Asked:
    """Return the patients of a seed."""
    first = TRAINING + seed % sets * EACH
    everyone = asked_of(held.cohort, "held_out", held.world.slots)
    return everyone.take(np.flatnonzero((everyone.subject >= first) & (everyone.subject < first + EACH))[:TAKEN])


def part(seed: int, sets: int) -> Json:
    """Measure one seed."""
    folder = prepared(seed // sets)
    held = opened(folder)
    own, asked = tuning(held, folder, TUNING), asked_in(held, seed, sets)
    stored, reached = gathered_twice(held, asked, max(NUMBERS), REACHED, seed)
    truth = oracle(held, folder, asked)
    found: Json = {"seed": seed, "decoder": seed // sets, "patients": len(asked.subject), "samples": {}}
    for number in NUMBERS:
        reach = number <= REACHED
        others = (asked, reached if reach else stored)
        settings = settings_of(number, seed, reach=reach)
        found["samples"][str(number)] = measured_at(held, own, others, settings, truth=truth)
    return found


def part_with_reach(number: int, seed: int, sets: int) -> Json:
    """Measure one seed at one number of futures, REACH among the arms; else as `part`."""
    folder = prepared(seed // sets)
    held = opened(folder)
    own, asked = tuning(held, folder, TUNING), asked_in(held, seed, sets)
    settings = settings_of(number, seed, reach=True)
    others = (asked, gathered(held, asked, settings))
    found = {str(number): measured_at(held, own, others, settings, truth=oracle(held, folder, asked))}
    return {"seed": seed, "decoder": seed // sets, "patients": len(asked.subject), "samples": found}


def figures(parts: list[Json], reached: dict[int, list[Json]]) -> None:
    """Write the figures: gains over Monte-Carlo, and over each other arm.

    Args:
        parts: one a seed.
        reached: parts of some seeds with REACH, by number of futures.
    """
    seeds = tuple(own["seed"] for own in parts)
    decoders = len({own["decoder"] for own in parts})
    count = sum(own["patients"] for own in parts)
    for number in NUMBERS:
        tempers = ", ".join(f"{own['samples'][str(number)]['temper']['indicator']:g}" for own in parts)
        for metric, name in (("auroc", "auroc_gain"), ("brier", "brier_change")):
            value, lower, upper = averaged(parts, number, metric, names.WEIGHTED, names.MONTE_CARLO)
            Figure(
                name=f"rethink.patients.{name}.{number}", value=value, unit="AUROC" if metric == "auroc" else "Brier",
                command=COMMAND, rival=f"Monte-Carlo of the same {number} futures",
                rival_value=averaged(parts, number, metric, names.MONTE_CARLO)[0], lower=lower, upper=upper,
                count=count, seeds=seeds,
                note=f"before calibration, mean of four outcomes; decoders trained: {decoders}, each seed a set of new "
                f"patients; tempers {tempers}; {told(parts, number, metric)}"
                + beside(reached.get(number, []), number, metric),
            ).write()  # fmt: skip
        compared(parts, number)
        if reached.get(number):
            print(f"the {len(reached[number])} seeds with REACH:")
            compared(reached[number], number)


def beside(parts: list[Json], number: int, metric: str) -> str:
    """Return what the arms reached on the seeds that have REACH, in words; empty without."""
    if not parts:
        return ""
    seeds = ", ".join(str(own["seed"]) for own in parts)
    return f"; with REACH, seeds {seeds} alone ({len(parts)}): {told(parts, number, metric)}"


def main() -> int:
    """Measure the seeds that have no part yet, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", type=int, default=SETS, help=f"seeds a decoder, {SETS} at most")
    parser.add_argument("--reach", type=int, choices=NUMBERS[1:], help="draw REACH at so many futures too")
    parser.add_argument("--reach-seeds", type=int, default=10, help="on the first so many seeds")
    parser.add_argument("--synthea", action="store_true", help="measure on Synthea's patients alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.synthea:
        return synthea.main()
    parts = [kept(f"rethink.patients-{seed}", partial(part, seed, given.sets)) for seed in range(given.seeds)]
    if given.reach:
        for seed in range(given.reach_seeds):
            kept(reach_name(given.reach, seed), partial(part_with_reach, given.reach, seed, given.sets))
    figures(parts, {number: reach_parts(number, given.seeds) for number in NUMBERS[1:]})
    return synthea.main()


def reach_name(number: int, seed: int) -> str:
    """Return the name of a part with REACH."""
    return f"rethink.patients-reach-{number}-{seed}"


def reach_parts(number: int, seeds: int) -> list[Json]:
    """Return those parts with REACH that are there."""
    paths = [PARTS / f"{reach_name(number, seed)}.json" for seed in range(seeds)]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


if __name__ == "__main__":
    sys.exit(main())
