"""Ternary training on the sphere against plain ternary training: `python -m tests.benchmarks.compress.ternary`.

The simulator model, cut; every arm begins with the same dense network and takes as many steps on the same batches, on
labels alone. Cosine distances are those between what training moves and its ternary form, every weight counting once.
"""

import argparse
from typing import Any

import numpy as np

from compress.hyperspherical import penalties
from compress.hyperspherical.layer import fold
from compress.hyperspherical.rivals import TernaryWeights
from compress.hyperspherical.schedules import HypersphericalQuantisation, LossAwareTernary, Schedule
from compress.packing import zstd
from compress.sizes import entropy_bytes
from tests.benchmarks.compress.cut import Cut, answers, kept, open_cut, train
from tests.benchmarks.harness import Figure, mean_of, ratio_of

COMMAND = "python -m tests.benchmarks.compress.ternary"
LAYERS = ("@blocks", "embedding")
STEPS, SEEDS, MATCHED_SEEDS = 200, (0, 1, 2, 3, 4), (0, 1, 2)
RIVAL = "twn"
ARMS: dict[str, Schedule] = {
    RIVAL: TernaryWeights(),
    "loss_aware": LossAwareTernary(drawing=0.2),
    "hq": HypersphericalQuantisation(),
    "tempered": TernaryWeights(soft=0.8),
}
MATCHED: dict[int, tuple[float, dict[str, Schedule]]] = {
    size: (zeros, {"hq": HypersphericalQuantisation(sparsity=zeros), RIVAL: TernaryWeights(zeros=zeros)})
    for size, zeros in ((30, 0.84), (40, 0.915))
}
"""By how many times smaller ternary weights and scales are at the bound of entropy: zeros that takes, and arms."""
NAMES = {
    "loss_aware": "loss-aware ternary",
    "hq": "hyperspherical quantisation",
    "tempered": "sigmoids of a rising temperature, then straight-through",
}


def measure(cut: Cut, schedule: Schedule, seed: int) -> dict[str, Any]:
    """Train one arm and ask it."""
    network = train(cut, schedule, LAYERS, steps=STEPS, seed=seed)
    distance = penalties.distance(network)
    codes = fold(network)
    found = answers(cut, network)
    weights = [network.get_submodule(name).weight.detach().numpy() for name in codes]
    raw = sum(4 * weight.size for weight in weights)
    packed = b"".join((held.codes.numpy() + 1).astype(np.uint8).tobytes() for held in codes.values())
    scales = 4 * sum(len(held.scale) for held in codes.values())
    return {
        "distance": distance,
        "loss": found.loss,
        "auroc": found.auroc,
        "zeros": float(np.mean(np.concatenate([weight.ravel() == 0 for weight in weights]))),
        "bound_ratio": raw / sum(entropy_bytes(weight) for weight in weights),
        "zstd_ratio": raw / (len(zstd(packed)) + scales),
    }


def gain(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the difference of macro-AUROC, its mean over seeds, with the interval over patients."""
    difference = np.mean(
        [np.subtract(one["auroc"], two["auroc"]) for one, two in zip(ours, theirs, strict=True)], axis=0
    )
    return float(difference[0]), *(float(value) for value in np.quantile(difference[1:], (0.025, 0.975)))


def mean(parts: list[dict[str, Any]], name: str) -> float:
    """Return the mean over seeds; of resampled values, of what was measured."""
    return float(np.mean([part[name][0] if isinstance(part[name], list) else part[name] for part in parts]))


def write(found: dict[str, list[dict[str, Any]]], dense: float) -> None:
    """Write the figures at each method's own share of zeros."""
    theirs = found[RIVAL]
    for arm, name in NAMES.items():
        ours = found[arm]
        told = (
            f"{name}; {STEPS} steps from the dense network on each side, macro-AUROC {mean(ours, 'auroc'):.4f} against "
            f"{mean(theirs, 'auroc'):.4f} (dense {dense:.4f}), loss {mean(ours, 'loss'):.4f} against "
            f"{mean(theirs, 'loss'):.4f}, zeros {mean(ours, 'zeros'):.1%} against {mean(theirs, 'zeros'):.1%}"
        )
        common: dict[str, Any] = {"count": len(ours), "seeds": SEEDS, "command": COMMAND, "note": told}
        apart = ratio_of([part["distance"] for part in ours], [part["distance"] for part in theirs])
        Figure(
            name=f"compress.ternary.{arm}.cosine_distance_ratio", value=apart.value, lower=apart.lower,
            upper=apart.upper, unit="ratio", rival="plain TWN, straight-through", ratio=apart.value,
            rival_value=mean(theirs, "distance"), **common,
        ).write()  # fmt: skip
        value, lower, upper = gain(ours, theirs)
        Figure(
            name=f"compress.ternary.{arm}.accuracy_gain", value=value, lower=lower, upper=upper, unit="AUROC",
            rival="plain TWN, straight-through", rival_value=mean(theirs, "auroc"), **common,
        ).write()  # fmt: skip


def write_matched(size: int, zeros: float, found: dict[str, list[dict[str, Any]]]) -> None:
    """Write the figures at one size."""
    ours, theirs = found["hq"], found[RIVAL]
    value, lower, upper = gain(ours, theirs)
    apart = mean_of([part["bound_ratio"] for part in ours])
    told = (
        f"hyperspherical quantisation at {mean(ours, 'zeros'):.1%} zeros: {apart.value:.1f} times smaller at the bound "
        f"of entropy, {mean(ours, 'zstd_ratio'):.1f} times in zstd; TWN with the largest {1 - zeros:.0%} of each row: "
        f"{mean(theirs, 'bound_ratio'):.1f} and {mean(theirs, 'zstd_ratio'):.1f} times; ternary layers alone; "
        f"macro-AUROC {mean(ours, 'auroc'):.4f} against {mean(theirs, 'auroc'):.4f}, "
        f"cosine distance {mean(ours, 'distance'):.4f} against {mean(theirs, 'distance'):.4f}"
    )
    Figure(
        name=f"compress.ternary.hq.{size}x.accuracy_gain", value=value, lower=lower, upper=upper, unit="AUROC",
        rival="TWN of the same share of zeros, straight-through", rival_value=mean(theirs, "auroc"),
        count=len(ours), seeds=MATCHED_SEEDS, command=COMMAND, note=told,
    ).write()  # fmt: skip


def main() -> int:
    """Measure what is not there yet, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, choices=SEEDS, help="measure one seed alone, and write no figure yet")
    given = parser.parse_args()
    cut = open_cut()
    if given.seed is not None:
        for arm, schedule in ARMS.items():
            kept(f"compress.ternary-{arm}-{given.seed}", lambda s=schedule: measure(cut, s, given.seed))
        return 0
    dense = kept("compress.ternary-dense", lambda: answers(cut, cut.network)._asdict())
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in SEEDS:
        for arm, schedule in ARMS.items():
            part = f"compress.ternary-{arm}-{seed}"
            found[arm].append(kept(part, lambda schedule=schedule, seed=seed: measure(cut, schedule, seed)))
    write(found, dense["auroc"][0])
    for size, (zeros, arms) in MATCHED.items():
        same = {
            arm: [
                kept(f"compress.ternary-{arm}-{size}x-{seed}", lambda s=schedule, seed=seed: measure(cut, s, seed))
                for seed in MATCHED_SEEDS
            ]
            for arm, schedule in arms.items()
        }
        write_matched(size, zeros, same)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
