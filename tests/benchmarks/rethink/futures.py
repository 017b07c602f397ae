"""What the benchmarks of futures weighed by evidence share: a decoder with its cohort, arms, and means over parts."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ehr.metrics.resampling import interval
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
from tests.benchmarks.harness import FIGURES, measured, verb

PARTS = FIGURES / "parts"
MOST = 100
"""Futures drawn of a patient; fewer are the first of them."""
RESAMPLES = 200
PRETRAIN = """seed_everything: {seed}
model:
  network: {{width: 64, heads: 4, encoder_layers: 2, decoder_layers: 2, dropout: 0.1}}
  objective: permuted_ce
  optimizer: {{learning_rate: 3.0e-3}}
data: {{tokens: {tokens}, max_length: {length}}}
trainer: {{max_epochs: {epochs}, accelerator: cpu, enable_progress_bar: false}}
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


def pretrained(folder: Path, *, seed: int, tokens: int, length: int, epochs: int) -> None:
    """Train a folder's decoder on its cohort by the verb, where it is not there.

    Args:
        folder: has the cohort; gets the settings and the run.
        seed: of the training.
        tokens: positions of a batch.
        length: tokens of a record, at most.
        epochs: of training.
    """
    if (folder / "run" / "manifest.json").is_file():
        return
    settings = PRETRAIN.format(seed=seed, tokens=tokens, length=length, epochs=epochs)
    (folder / "pretrain.yaml").write_text(settings, encoding="utf-8")
    words = ("--config", folder / "pretrain.yaml", "--cohort", folder / "cohort", "--output", folder / "run")
    measured(verb("pretrain", *words))


def opened(folder: Path) -> Setting:
    """Open a decoder and its cohort."""
    cohort = open_cohort(folder / "cohort")
    model = gathering.model_of(folder / "run", cohort)
    world, _ = gathering.world_of(cohort, model, settings_of(MOST, 0))
    return Setting(cohort, model, world)


def gathered(held: Setting, asked: Asked, settings: Rethinking) -> Stored:
    """Draw futures and find neighbours of some patients."""
    samples = gathering.samples_of(asked, held.world.source, held.model.max_length)
    return gathering.gathered(held.model, samples, held.world, settings)


def gathered_twice(held: Setting, asked: Asked, most: int, few: int, seed: int) -> tuple[Stored, Stored]:
    """Draw futures of some patients; then fewer with what REACH needs, beside the same neighbours."""
    stored = gathered(held, asked, settings_of(most, seed))
    samples = gathering.samples_of(asked, held.world.source, held.model.max_length)
    again = drawn(held.model.network, samples, held.world.slots, held.world.days, settings_of(few, seed, reach=True))
    return stored, Stored(*again, stored.neighbours)


def tuning(held: Setting, folder: Path, most: int) -> tuple[Asked, Stored]:
    """Return so many tuning patients and their futures, drawn once a decoder."""
    asked = gathering.chosen(asked_of(held.cohort, "tuning", held.world.slots), most, 0)
    kept = folder / "tuning"
    if not kept.is_dir():
        found = gathered(held, asked, settings_of(MOST, 0))
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


def measured_at(
    held: Setting,
    own: tuple[Asked, Stored],
    others: tuple[Asked, Stored],
    settings: Rethinking,
    *,
    truth: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> Json:
    """Return AUROC and Brier score of every arm, and of each resample of the patients, with what was tuned."""
    values, tuned = arms_at(held, own, others, settings)
    if truth is not None:
        values["true risk"] = truth
    found = measure(values, others[0], held.world.slots, resamples=resamples, seed=settings.seed)
    return {
        "temper": tuned.temper,
        "share": tuned.share,
        "auroc": {name: np.round(value, 5).tolist() for name, value in found.auroc.items()},
        "brier": {name: np.round(value, 6).tolist() for name, value in found.brier.items()},
    }


def kept(name: str, make: Callable[[], Json]) -> Json:
    """Return a part, made and written where it is not there."""
    PARTS.mkdir(parents=True, exist_ok=True)
    path = PARTS / f"{name}.json"
    if not path.is_file():
        temporary = path.with_suffix(".partial")
        temporary.write_text(json.dumps(make()) + "\n", encoding="utf-8")
        temporary.rename(path)
    print(f"{name} is done", file=sys.stderr, flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


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


def compared(parts: list[Json], number: int) -> None:
    """Print every arm with what differs from Monte-Carlo, and what the evidence weights gain over it."""
    for arm in parts[0]["samples"][str(number)]["auroc"]:
        words: list[str] = []
        for metric in ("auroc", "brier"):
            own, change = averaged(parts, number, metric, arm), averaged(parts, number, metric, arm, names.MONTE_CARLO)
            words.append(f"{metric} {own[0]:.4f} ({change[1]:+.4f} to {change[2]:+.4f})")
        gain = averaged(parts, number, "auroc", names.WEIGHTED, arm)
        print(f"N = {number}, {arm}: {', '.join(words)}; evidence weights over it: AUROC {gain[0]:+.4f} "
              f"[{gain[1]:+.4f}, {gain[2]:+.4f}]")  # fmt: skip
