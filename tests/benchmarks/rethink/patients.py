"""Futures weighed by evidence, on the simulator's hidden types: `python -m tests.benchmarks.rethink.patients`.

A decoder is trained with the full history of 3,500 patients, who are also the pool of neighbours. A seed is a set of
patients whom neither has seen, with futures of its own; `--sets` seeds share a decoder. Tempers are chosen on tuning
patients of the same simulation. A seed that has its part under docs/explanation/figures/parts is not run again.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from ehr.metrics.resampling import interval
from ehr.splits import by_hash
from pipelines.cohort import Cohort, open_cohort
from pipelines.rethink.patients import arms as names
from pipelines.rethink.patients import gathering
from pipelines.rethink.patients.arms import Tuned, all_arms, tune
from pipelines.rethink.patients.asking import Asked, asked_of
from pipelines.rethink.patients.cases import Case, Stored, World, cases_of
from pipelines.rethink.patients.drawing import drawn
from pipelines.rethink.patients.gathering import Model
from pipelines.rethink.patients.scoring import measured as measure
from pipelines.rethink.patients.settings import Rethinking
from tests.benchmarks.harness import FIGURES, ROOT, RUNS, Figure, measured, verb

COMMAND = "python -m tests.benchmarks.rethink.patients"
HERE = RUNS / "rethink-patients"
PARTS = FIGURES / "parts"
OUTCOMES = ROOT / "configs" / "rethink" / "patients-outcomes.yaml"
TRAINING, SETS, EACH, TAKEN, TUNING = 5_000, 10, 300, 100, 200
"""Patients who train, tune and calibrate; sets a decoder, patients simulated for a set, and taken; tuning patients."""
NUMBERS = (9, 20, 100)
REACHED = 9
"""Futures at which REACH is drawn too: it takes a set of futures an outcome."""
RESAMPLES = 200
PRETRAIN = """seed_everything: 0
model:
  network: {width: 64, heads: 4, encoder_layers: 2, decoder_layers: 2, dropout: 0.1}
  objective: permuted_ce
  optimizer: {learning_rate: 3.0e-3}
data: {tokens: 512, max_length: 96}
trainer: {max_epochs: 6, accelerator: cpu, enable_progress_bar: false}
"""
Json = dict[str, Any]


class Setting(NamedTuple):
    """One decoder with its cohort."""

    cohort: Cohort
    model: Model
    world: World


def settings_of(samples: int, seed: int, *, reach: bool = False) -> Rethinking:
    """Return the shipped settings with so many futures."""
    return Rethinking(samples=samples, seed=seed, reach=reach, max_tokens=96)


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
    if not (folder / "run" / "manifest.json").is_file():
        (folder / "pretrain.yaml").write_text(PRETRAIN.replace("everything: 0", f"everything: {decoder}"))
        words = ("--config", folder / "pretrain.yaml", "--cohort", folder / "cohort", "--output", folder / "run")
        measured(verb("pretrain", *words))
    return folder


def opened(folder: Path) -> Setting:
    """Open a decoder and its cohort."""
    cohort = open_cohort(folder / "cohort")
    model = gathering.model_of(folder / "run", cohort)
    world, _ = gathering.world_of(cohort, model, settings_of(max(NUMBERS), 0))
    return Setting(cohort, model, world)


def gathered(held: Setting, asked: Asked, settings: Rethinking) -> Stored:
    """Draw futures and find neighbours of some patients."""
    samples = gathering.samples_of(asked, held.world.source, held.model.max_length)
    return gathering.gathered(held.model, samples, held.world, settings)


def tuning(held: Setting, folder: Path) -> tuple[Asked, Stored]:
    """Return tuning patients and their futures, drawn once a decoder."""
    asked = gathering.chosen(asked_of(held.cohort, "tuning", held.world.slots), TUNING, 0)
    kept = folder / "tuning"
    if not kept.is_dir():
        found = gathered(held, asked, settings_of(max(NUMBERS), 0))
        kept.mkdir()
        gathering.write(found, kept)
    return asked, gathering.read(kept)


def arms_at(
    held: Setting, own: tuple[Asked, Stored], others: tuple[Asked, Stored], settings: Rethinking
) -> tuple[dict[str, np.ndarray], Tuned]:
    """Tune on some patients, and return every arm on others.

    REACH is not drawn for tuning patients: its weights take the temper of the plain ones.
    """

    def cases(asked: Asked, stored: Stored, how: Rethinking) -> list[Case]:
        samples = gathering.samples_of(asked, held.world.source, held.model.max_length)
        return cases_of(asked, samples, stored.first(how.samples), held.world, how)

    plain = replace(settings, reach=False)
    tuned = tune(cases(*own, plain), own[0].label, held.world.slots, plain)
    tuned.temper["reach"] = tuned.temper["indicator"]
    return all_arms(cases(*others, settings), held.world.slots, tuned, settings), tuned


def oracle(held: Setting, folder: Path, asked: Asked) -> np.ndarray:
    """Return the true risks of patients, f64 [Q, S]."""
    truth = pl.read_parquet(folder / "records" / "truth" / "*.parquet")
    found = np.zeros(asked.label.shape)
    for at, slot in enumerate(held.world.slots):
        own = truth.filter((pl.col("outcome") == slot.outcome) & (pl.col("horizon_days") == slot.horizon_days))
        risk = dict(own.select("subject_id", "risk").iter_rows())
        found[:, at] = [risk[subject] for subject in asked.subject.tolist()]
    return found


def part(seed: int, sets: int) -> Json:
    """Measure one seed."""
    folder = prepared(seed // sets)
    held = opened(folder)
    own, first = tuning(held, folder), TRAINING + seed % sets * EACH
    everyone = asked_of(held.cohort, "held_out", held.world.slots)
    asked = everyone.take(np.flatnonzero((everyone.subject >= first) & (everyone.subject < first + EACH))[:TAKEN])
    stored = gathered(held, asked, settings_of(max(NUMBERS), seed))
    samples = gathering.samples_of(asked, held.world.source, held.model.max_length)
    with_reach = settings_of(REACHED, seed, reach=True)
    again = drawn(held.model.network, samples, held.world.slots, held.world.days, with_reach)
    reached = Stored(*again, stored.neighbours)
    found: Json = {"seed": seed, "decoder": seed // sets, "patients": len(asked.subject), "samples": {}}
    for number in NUMBERS:
        reach = number <= REACHED
        settings = settings_of(number, seed, reach=reach)
        values, tuned = arms_at(held, own, (asked, reached if reach else stored), settings)
        values["true risk"] = oracle(held, folder, asked)
        measures = measure(values, asked, held.world.slots, resamples=RESAMPLES, seed=seed)
        found["samples"][str(number)] = {
            "temper": tuned.temper,
            "share": tuned.share,
            "auroc": {name: np.round(value, 5).tolist() for name, value in measures.auroc.items()},
            "brier": {name: np.round(value, 6).tolist() for name, value in measures.brier.items()},
        }
    return found


def averaged(parts: list[Json], number: int, metric: str, arm: str, base: str | None = None) -> tuple[float, ...]:
    """Return a mean over seeds and its 95 % interval: patients resampled within seeds, then averaged over them."""
    held = [np.array(own["samples"][str(number)][metric][arm]) for own in parts]
    if base is not None:
        held = [
            value - np.array(own["samples"][str(number)][metric][base]) for value, own in zip(held, parts, strict=True)
        ]
    return interval(np.mean(held, axis=0))


def told(parts: list[Json], number: int, metric: str) -> str:
    """Return what every arm reached, in words."""
    arms = parts[0]["samples"][str(number)][metric]
    return "; ".join(f"{name} {averaged(parts, number, metric, name)[0]:.4f}" for name in arms)


def figures(parts: list[Json]) -> None:
    """Write the figures: gains over Monte-Carlo, and over each other arm."""
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
                f"patients; tempers {tempers}; {told(parts, number, metric)}",
            ).write()  # fmt: skip
        for arm in parts[0]["samples"][str(number)]["auroc"]:
            gain = averaged(parts, number, "auroc", names.WEIGHTED, arm)
            print(f"N = {number}, evidence weights over {arm}: AUROC {gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]")


def main() -> int:
    """Measure the seeds that have no part yet, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", type=int, default=SETS, help=f"seeds a decoder, {SETS} at most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    PARTS.mkdir(parents=True, exist_ok=True)
    for seed in range(given.seeds):
        path = PARTS / f"rethink.patients-{seed}.json"
        if not path.is_file():
            temporary = path.with_suffix(".partial")
            temporary.write_text(json.dumps(part(seed, given.sets)) + "\n", encoding="utf-8")
            temporary.rename(path)
        print(f"seed {seed} is done", file=sys.stderr, flush=True)
    figures([json.loads((PARTS / f"rethink.patients-{seed}.json").read_text()) for seed in range(given.seeds)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
