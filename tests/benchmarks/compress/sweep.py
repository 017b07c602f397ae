"""How far pruning goes, and on how many samples: `python -m tests.benchmarks.compress.sweep [sparsity|samples]`."""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from compress.sparsity.settings import SparseGPT
from ehr.metrics.resampling import draw
from ehr.metrics.scores import MACRO, slot, table
from pipelines.cohort import Cohort, open_cohort
from pipelines.compression import OneShot, Work
from pipelines.export import read_run
from pipelines.predict import logits
from pipelines.samples import Questions, samples_and_labels
from tests.benchmarks.compress.models import NAMES, Trained, trained
from tests.benchmarks.harness import FIGURES, Figure

COMMAND = "python -m tests.benchmarks.compress.sweep"
PARTS = FIGURES / "parts"
SPLIT, SEED = "held_out", 0
SPARSITIES = tuple(part / 10 for part in range(1, 9))
METHODS = ("sparsegpt", "wanda", "magnitude")
SAMPLES = (8, 32, 128, 512, 2048)
ALLOWED = 0.005
"""What 50 % pruning may cost in macro-AUROC."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One compression of a sweep."""

    method: str = "sparsegpt"
    sparsity: float = 0.5
    samples: int = 512

    @property
    def name(self) -> str:
        """The name of its part."""
        return f"{self.method}-{round(100 * self.sparsity)}-{self.samples}"


class Measured(NamedTuple):
    """Macro-AUROC before and after."""

    before: float
    after: float


def macro(cohort: Cohort, asked: Questions, given: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the macro-AUROC of several answers; raw logits do, each outcome's calibration keeps their order."""
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=0, seed=SEED)
    place = draws.places(asked.subject)
    slots = [
        slot(outcome, int(days), asked.label[:, k, h], {arm: p[:, k, h] for arm, p in given.items()}, place, draws)
        for k, outcome in enumerate(cohort.registry.names)
        for h, days in enumerate(cohort.registry.horizons[k])
        if days >= 0
    ]
    found = table(slots, list(given)).filter(outcome=MACRO, metric="auroc")
    return dict(zip(found["model"], found["value"], strict=True))


def measure(model: Trained, point: Point) -> Measured:
    """Compress a copy of the network and ask both."""
    cohort, read = open_cohort(model.cohort), read_run(model.run)
    asked, samples = samples_and_labels(cohort, SPLIT, int(read.manifest["max_length"]))
    before = sigmoid(logits(read.network, samples))
    settings = SparseGPT(method=point.method, sparsity=point.sparsity)  # pyright: ignore[reportArgumentType]
    with tempfile.TemporaryDirectory() as folder:
        OneShot(settings=settings, samples=point.samples).compress(Work(read.network, cohort, Path(folder)))
    found = macro(cohort, asked, {"before": before, "after": sigmoid(logits(read.network, samples))})
    return Measured(found["before"], found["after"])


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Return probabilities before calibration."""
    return 1 / (1 + np.exp(-logit.astype(np.float64)))


def kept(name: str, point: Point) -> Measured:
    """Return a point that an earlier run left, or measure it and leave it."""
    part = PARTS / f"compress.sweep.{name}-{point.name}.json"
    if not part.is_file():
        found = measure(trained(name), point)
        part.parent.mkdir(parents=True, exist_ok=True)
        temporary = part.with_suffix(".partial")
        temporary.write_text(json.dumps(found._asdict()) + "\n", encoding="utf-8")
        temporary.rename(part)
        print(f"{point.name}: {found.after - found.before:+.4f}", flush=True)
    return Measured(**json.loads(part.read_text(encoding="utf-8")))


def sparsity(name: str) -> None:
    """Sweep 10 to 80 %."""
    found = {
        method: {share: kept(name, Point(method=method, sparsity=share)) for share in SPARSITIES} for method in METHODS
    }
    reached = {
        method: max([share for share, held in points.items() if held.before - held.after <= ALLOWED] or [0.0])
        for method, points in found.items()
    }
    rival = max(METHODS[1:], key=lambda method: reached[method])
    Figure(
        name=f"compress.sweep.{name}.sparsity", value=reached["sparsegpt"], unit="share of zeros", rival=rival,
        rival_value=reached[rival], seeds=(SEED,), command=f"{COMMAND} sparsity",
        note=f"the most that costs {ALLOWED} macro-AUROC at most, held-out patients, no retraining; change at 10, 20, "
        f"... 80 %: {told(found)}",
    ).write()  # fmt: skip


def samples(name: str) -> None:
    """Sweep the number of calibration samples at 50 and 70 %."""
    found = {
        f"{round(100 * share)} %": {count: kept(name, Point(sparsity=share, samples=count)) for count in SAMPLES}
        for share in (0.5, 0.7)
    }
    points = found["70 %"]
    Figure(
        name=f"compress.sweep.{name}.samples", value=points[SAMPLES[0]].after - points[SAMPLES[-1]].after,
        unit="AUROC", rival=f"{SAMPLES[-1]:,} samples", rival_value=0.0, seeds=(SEED,), command=f"{COMMAND} samples",
        note=f"macro-AUROC at 70 % of {SAMPLES[0]} calibration samples minus that of {SAMPLES[-1]:,}, held-out "
        f"patients; change against dense at {', '.join(map(str, SAMPLES))} samples: {told(found)}",
    ).write()  # fmt: skip


def told(found: Mapping[str, Mapping[float, Measured]]) -> str:
    """Return changes in words."""
    return "; ".join(
        f"{arm} {', '.join(f'{held.after - held.before:+.4f}' for held in points.values())}"
        for arm, points in found.items()
    )


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", nargs="?", choices=("sparsity", "samples"), help="(default: both)")
    parser.add_argument("--model", choices=NAMES, default="demo")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        trained(given.model)
    except ValueError as missing:
        parser.error(str(missing))
    for name, sweep in (("sparsity", sparsity), ("samples", samples)):
        if given.sweep in (None, name):
            sweep(given.model)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
