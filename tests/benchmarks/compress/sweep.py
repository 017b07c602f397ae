"""How far pruning goes, and on how many samples: `python -m tests.benchmarks.compress.sweep [sparsity|samples]`.

Both are drawn in docs/images.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Panel

from compress.sparsity.settings import SparseGPT
from ehr.metrics.resampling import draw
from ehr.metrics.scores import MACRO, slot, table
from ehr.model import Anamnesis
from ehr.timelines import Sample
from pipelines.cohort import Cohort, open_cohort
from pipelines.compression import OneShot, Work
from pipelines.export import read_run
from pipelines.predict import logits
from pipelines.samples import Questions, samples_and_labels
from tests.benchmarks.compress.models import NAMES, trained
from tests.benchmarks.harness import FIGURES, ROOT, Figure

COMMAND = "python -m tests.benchmarks.compress.sweep"
PARTS, IMAGES = FIGURES / "parts", ROOT / "docs" / "images"
SPLIT, SEED = "held_out", 0
SPARSITIES = tuple(part / 10 for part in range(1, 9))
METHODS = ("sparsegpt", "wanda", "magnitude")
SAMPLES, SHARES = (8, 32, 128, 512, 2048), (0.5, 0.7)
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


class Opened(NamedTuple):
    """A model with the questions of held-out patients and its own answers, f64 [N, K, H]."""

    cohort: Cohort
    network: Anamnesis
    asked: Questions
    samples: list[Sample]
    before: np.ndarray


@cache
def opened(name: str) -> Opened:
    """Open a model and ask it, once for all points."""
    model = trained(name)
    cohort, read = open_cohort(model.cohort), read_run(model.run)
    asked, samples = samples_and_labels(cohort, SPLIT, int(read.manifest["max_length"]))
    return Opened(cohort, read.network, asked, samples, sigmoid(logits(read.network, samples)))


def measure(held: Opened, point: Point) -> Measured:
    """Compress a copy of the network and ask it too."""
    network = copy.deepcopy(held.network)
    settings = SparseGPT(method=point.method, sparsity=point.sparsity)  # pyright: ignore[reportArgumentType]
    with tempfile.TemporaryDirectory() as folder:
        OneShot(settings=settings, samples=point.samples).compress(Work(network, held.cohort, Path(folder)))
    after = sigmoid(logits(network, held.samples))
    found = macro(held.cohort, held.asked, {"before": held.before, "after": after})
    return Measured(found["before"], found["after"])


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Return probabilities before calibration."""
    return 1 / (1 + np.exp(-logit.astype(np.float64)))


def kept(name: str, point: Point) -> Measured:
    """Return a point that an earlier run left, or measure it and leave it."""
    part = part_of(name, point)
    if not part.is_file():
        found = measure(opened(name), point)
        part.parent.mkdir(parents=True, exist_ok=True)
        temporary = part.with_suffix(".partial")
        temporary.write_text(json.dumps(found._asdict()) + "\n", encoding="utf-8")
        temporary.rename(part)
        print(f"{point.name}: {found.after - found.before:+.4f}", flush=True)
    return read_part(part)


def part_of(name: str, point: Point) -> Path:
    """Return the file of a point."""
    return PARTS / f"compress.sweep.{name}-{point.name}.json"


def read_part(part: Path) -> Measured:
    """Read a point."""
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
        for share in SHARES
    }
    points = found["70 %"]
    Figure(
        name=f"compress.sweep.{name}.samples", value=points[SAMPLES[0]].after - points[SAMPLES[-1]].after,
        unit="AUROC", rival=f"{SAMPLES[-1]:,} samples", rival_value=0.0, seeds=(SEED,), command=f"{COMMAND} samples",
        note=f"macro-AUROC at 70 % of {SAMPLES[0]} calibration samples minus that of {SAMPLES[-1]:,}, held-out "
        f"patients; change against dense at {', '.join(map(str, SAMPLES))} samples: {told(found)}",
    ).write()  # fmt: skip


def draw_curves(name: str, folder: Path = IMAGES) -> Path:
    """Draw both sweeps as far as they were measured."""
    panel = Panel(figsize=(9, 3.4), layout="constrained")
    left, right = panel.subplots(1, 2, sharey=True)
    for method in METHODS:
        points = [Point(method=method, sparsity=share) for share in SPARSITIES]
        curve(left, method, SPARSITIES, points, name)
    for share in SHARES:
        points = [Point(sparsity=share, samples=count) for count in SAMPLES]
        curve(right, f"{share:.0%} zeros", SAMPLES, points, name)
    left.axhline(-ALLOWED, color="grey", linewidth=0.8, linestyle=":")
    left.set(xlabel="share of zeros", ylabel="change of macro-AUROC", title="without retraining")
    right.set(xscale="log", xlabel="calibration samples", title="SparseGPT")
    for axes in (left, right):
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sweep-{name}.png"
    panel.savefig(path, dpi=110)
    return path


def curve(axes: Axes, label: str, at: Sequence[float], points: Sequence[Point], name: str) -> None:
    """Draw the points that there are."""
    there = [
        (x, read_part(part)) for x, point in zip(at, points, strict=True) if (part := part_of(name, point)).is_file()
    ]
    axes.plot([x for x, _ in there], [held.after - held.before for _, held in there], marker="o", label=label)


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
    print(draw_curves(given.model))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
