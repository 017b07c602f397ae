"""torchattacks on digits networks; runs in its own environment, asked by tests.benchmarks.robust.parity."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torchattacks  # pyright: ignore[reportMissingImports]  # only in its own environment
from safetensors.torch import load_file
from torch import nn

from tests.benchmarks.robust.digits import network


def attacks(net: nn.Module, asked: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the rival's attacks by name."""
    epsilon, apgd = asked["epsilon"], {"norm": "Linf", "eps": asked["epsilon"], "steps": asked["apgd_steps"]}
    return {
        "pgd": torchattacks.PGD(net, eps=epsilon, alpha=epsilon * asked["share"], steps=asked["steps"]),
        "apgd.cross_entropy": torchattacks.APGD(net, **apgd, loss="ce", seed=seed),
        "apgd.ratio": torchattacks.APGD(net, **apgd, loss="dlr", seed=seed),
        "square": torchattacks.Square(net, norm="Linf", eps=epsilon, n_queries=asked["queries"], seed=seed),
    }


def main(asked: dict[str, Any], answer: Path) -> None:
    """Attack every network with every seed, and write robust accuracies in percent."""
    folder = Path(asked["folder"])
    test = load_file(folder / "test.safetensors")
    found: dict[str, Any] = {"version": torchattacks.__version__}
    for name in asked["networks"]:
        net = network()
        net.load_state_dict(load_file(folder / f"{name}.safetensors"))
        net.eval()
        accuracy: dict[str, list[float]] = {}
        for seed in asked["seeds"]:
            for attack, made in attacks(net, asked, seed).items():
                torch.manual_seed(seed)
                moved = made(test["x"], test["label"])
                with torch.no_grad():
                    right = net(moved).argmax(1) == test["label"]
                assert float((moved - test["x"]).abs().max()) <= asked["epsilon"] + 1e-6
                accuracy.setdefault(attack, []).append(100 * float(right.double().mean()))
        found[name] = accuracy
    answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
