"""One checkpoint pruned at 30 to 90 %, without training afterwards: `python -m tests.benchmarks.compress.recoverable`.

The simulator model, cut: trained on with the penalty, or as long without it, then pruned. The figure is of pruning with
no recovery on either side; recoveries chosen by layer, SparseGPT and a few steps of fine-tuning stand in its note.
"""

import argparse
import copy
from typing import Any

import numpy as np

from compress.hyperspherical import recovery
from compress.hyperspherical.layer import fold, held
from compress.hyperspherical.schedules import LossAwareTernary, RecoverablePruning
from compress.layers import DEFAULT, as_matrix, find
from compress.sparsity.driver import prune
from compress.sparsity.settings import SparseGPT
from ehr.model import Anamnesis
from pipelines.compression import Adapter
from tests.benchmarks.compress.cut import Cut, answers, batches, go_on, kept, open_cut, train
from tests.benchmarks.harness import Figure, mean_of

COMMAND = "python -m tests.benchmarks.compress.recoverable"
STEPS, TUNED_STEPS, SEEDS, CALIBRATION = 200, 50, (0, 1, 2), 32
SHARES = (30, 50, 70, 90)
BESIDE = (70, 90)
"""Shares at which nothing, SparseGPT and fine-tuning stand beside."""
OTHERS = ("sparsegpt", "fine-tuned")
ARMS = {"penalty": RecoverablePruning(), "control": RecoverablePruning(penalty_weight=0.0)}


def measure(cut: Cut, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm and prune copies of it."""
    network = train(cut, ARMS[arm], DEFAULT, steps=STEPS, seed=seed)
    fold(network)
    stream, adapter = batches(cut, seed + 100), Adapter()
    given = [next(stream) for _ in range(CALIBRATION)]
    how: dict[str, Any] = {"forward": adapter.forward, "token_mask": adapter.token_mask}
    inputs = recovery.inputs_of(network, given, find(network), **how)
    found: dict[str, Any] = {"dense": answers(cut, network).loss}
    for share in SHARES:
        pruned = copy.deepcopy(network)
        told = recovery.prune(find(pruned), inputs, share / 100, new_biases=True)
        found[f"recovered {share}"] = answers(cut, pruned).loss
        found[f"chosen {share}"] = [layer.recovery for layer in told.layers]
        if share in BESIDE:
            zero = copy.deepcopy(network)
            recovery.prune(find(zero), inputs, share / 100, ("zero",))
            found[f"zero {share}"] = answers(cut, zero).loss
            tune(zero, cut, seed)
            found[f"fine-tuned {share}"] = answers(cut, zero).loss
            other = copy.deepcopy(network)
            prune(other, given, settings=SparseGPT(sparsity=share / 100), **how)
            found[f"sparsegpt {share}"] = answers(cut, other).loss
    return found


def tune(network: Anamnesis, cut: Cut, seed: int) -> None:
    """Train a pruned network on, its zeros where they are."""
    schedule = LossAwareTernary(penalty_weight=0, drawing=1.0, rescale=False)
    masks = {name: as_matrix(module) != 0 for name, module in find(network).items()}
    schedule.begin(find(network))
    for name, layer in held(network):
        layer.weights.mask &= masks[name]
    go_on(network.train(), batches(cut, seed + 200), schedule, TUNED_STEPS)
    fold(network)


def rises(parts: list[dict[str, Any]], name: str) -> list[float]:
    """Return by how much each seed's loss rose above its own dense one."""
    return [part[name] - part["dense"] for part in parts]


def write(found: dict[str, list[dict[str, Any]]]) -> None:
    """Write the figures: what the penalty is worth by itself, and in the note what recoveries leave of that."""
    dense = {arm: mean_of([part["dense"] for part in parts]).value for arm, parts in found.items()}
    left = "; ".join(
        f"{share} %: {np.mean(rises(found['penalty'], f'recovered {share}')):+.5f} against "
        f"{np.mean(rises(found['control'], f'recovered {share}')):+.5f}"
        for share in SHARES
    )
    chosen = [name for share in SHARES for part in found["penalty"] for name in part[f"chosen {share}"]]
    counts = ", ".join(f"{chosen.count(name)} {name}" for name in recovery.RECOVERIES if name in chosen)
    for share in BESIDE:
        mine, other = (rises(found[arm], f"zero {share}") for arm in ARMS)
        both = {name: [np.mean(rises(found[arm], f"{name} {share}")) for arm in ARMS] for name in OTHERS}
        beside = "; ".join(f"{name} {one:+.5f} against {two:+.5f}" for name, (one, two) in both.items())
        seeds = ", ".join(f"{a:+.5f} / {b:+.5f}" for a, b in zip(mine, other, strict=True))
        Figure(
            name=f"compress.recoverable.{share}.loss_increase_ratio", value=float(np.mean(mine) / np.mean(other)),
            unit="ratio", rival="the same training without the penalty", rival_value=float(np.mean(other)),
            count=len(SEEDS), seeds=SEEDS, command=COMMAND,
            note=f"{STEPS} steps, then pruned once, no recovery on either side: the loss rises by {np.mean(mine):+.5f} "
            f"against {np.mean(other):+.5f} from {dense['penalty']:.4f} and {dense['control']:.4f}, by seed {seeds}; "
            f"{beside} ({TUNED_STEPS} steps); recoveries chosen by layer ({counts}) at {left}",
        ).write()  # fmt: skip


def main() -> int:
    """Measure what is not there yet, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, choices=SEEDS, help="measure one seed alone, and write no figure yet")
    given = parser.parse_args()
    cut = open_cut()
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in SEEDS if given.seed is None else (given.seed,):
        for arm in ARMS:
            part = f"compress.recoverable-{arm}-{seed}"
            found[arm].append(kept(part, lambda arm=arm, seed=seed: measure(cut, arm, seed)))
    if given.seed is None:
        write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
