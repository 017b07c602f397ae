"""SparseGPT beside llm-compressor's in one interpreter, which has that package: prints JSON.

`make runs/llmcompressor` makes such an interpreter; tests and benchmarks call it.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from llmcompressor.modifiers.pruning.sparsegpt.sgpt_sparsify import (
    accumulate_hessian,
    make_empty_hessian,
    sparsify_weight,
)
from torch import Tensor

from compress.sparsity.hessians import Hessian, factor
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import factored, prune_matrix
from tests.benchmarks.compress.inputs import Inputs, draw

CASES = {"50": (None, 0), "2of4": ("2:4", 2)}
SPARSITY, BLOCK, DAMPING = 0.5, 128, 0.01


class Rival:
    """One layer in llm-compressor."""

    def __init__(self, layer: Inputs) -> None:
        """Take the weights."""
        self.weight = layer.weight
        self.module = torch.nn.Linear(*reversed(layer.weight.shape), bias=False).requires_grad_(False)
        self.module.weight.copy_(layer.weight)

    def hessian(self, x: Tensor) -> Tensor:
        """Return its Hessian of one sample."""
        return accumulate_hessian(x[None], self.module, make_empty_hessian(self.module), 0)[0]

    def prune(self, hessian: Tensor, groups: int) -> Tensor:
        """Return its pruned weights; the Hessian is used up."""
        held = {self.module: hessian}
        return sparsify_weight(self.module, held, SPARSITY, groups, 4 if groups else 0, BLOCK, DAMPING, False)[1]


def agree(layer: Inputs) -> dict[str, dict[str, float | bool]]:
    """Compare weights from the same Hessian, and masks from the same activations."""
    rival, found = Rival(layer), {}
    for name, (pattern, groups) in CASES.items():
        settings = SparseGPT(pattern=pattern, threshold="reference", update_block=BLOCK)
        hessian = rival.hessian(layer.calibration)
        ours = prune_matrix(layer.weight, factor(hessian, damping=DAMPING, reference=True), settings)
        theirs = rival.prune(hessian.clone(), groups)
        own = Hessian(layer.weight.shape[1])
        own.update(layer.calibration)
        defaults = prune_matrix(layer.weight, own, SparseGPT(pattern=pattern))
        found[name] = {
            "equal": torch.equal(ours.weight, theirs),
            "masks": float((prune_matrix(layer.weight, own, settings).mask == (theirs != 0)).double().mean()),
            "masks_by_default": float((defaults.mask == (theirs != 0)).double().mean()),
        }
    return found


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call: one thread, so that a busy machine is left out."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def race(layer: Inputs, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time both from a Hessian to pruned weights, turn by turn."""
    rival, found = Rival(layer), {}
    own = Hessian(layer.weight.shape[1])
    own.update(layer.calibration)
    theirs = rival.hessian(layer.calibration)
    for name, (pattern, groups) in CASES.items():
        settings = SparseGPT(pattern=pattern, refit_steps=0)
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        arms = {
            "ours": lambda chosen=settings: prune_matrix(layer.weight, factored(own, chosen), chosen),
            "theirs": lambda zeros=groups: rival.prune(theirs.clone(), zeros),
        }
        # The first round warms up.
        for number in range(rounds + 1):
            for arm in sorted(arms, reverse=bool(number % 2)):
                taken = seconds(arms[arm])
                if number:
                    times[arm].append(taken)
        found[name] = times
    return found


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", help="columns x rows, such as 768x3072")
    parser.add_argument("--rounds", type=int, default=0, help="to time; 0: compare alone")
    parser.add_argument("--tokens", type=int, default=8192)
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns, rows = map(int, given.shape.split("x"))
    layer = draw(columns, rows, seed=0, tokens=given.tokens, held_out=1)
    found = {"agreement": agree(layer), "seconds": race(layer, given.rounds) if given.rounds else {}}
    print(f"\n{json.dumps(found)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
