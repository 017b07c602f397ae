"""robust.cost.*: seconds of a hardened step over a plain step, on the same batch, in turn."""

import time
from collections.abc import Callable

import torch
from torch import nn

from robust.ada.guard import ssim
from robust.ada.objective import Ada
from robust.ada.perturbation import WeightPerturbation
from robust.draws import Draws
from robust.objectives import Clean, Free, Objective, Trades, training_attack
from tests.benchmarks.harness import Figure, in_turn, ratio_of
from tests.benchmarks.robust.digits import BATCH, Corrupting, digits, loss_of, network

COMMAND = "python -m tests.benchmarks.robust.cost"
STEPS, ROUNDS = 4, 31


def arm(objective: Objective) -> Callable[[int], float]:
    """Return what takes some steps with an objective and returns the seconds of one."""
    torch.manual_seed(0)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    training, _ = digits()
    x, label = training.x[:BATCH], training.label[:BATCH]

    def run(number: int) -> float:
        # Time of this process: others on the machine are not this step's cost.
        begun = time.process_time()
        for step in range(STEPS):
            loss = loss_of(net, objective, x, label, Draws(number).fork(step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (time.process_time() - begun) / STEPS

    return run


def frozen() -> nn.Module:
    """Return a corruption network with random weights: what it costs does not hang on them."""
    torch.manual_seed(1)
    return Corrupting().requires_grad_(requires_grad=False).eval()


def main() -> int:
    """Measure and write the figures."""
    ada = Ada(networks=(frozen(),), similarity=ssim, perturbation=WeightPerturbation(steps=3), low=0, high=1)
    arms: dict[str, Objective] = {
        "plain": Clean(),
        "trades3": Trades(attack=training_attack("divergence", 3)),
        "free": Free(steps=3),
        "ada": ada,
    }
    found = in_turn({name: arm(objective) for name, objective in arms.items()}, ROUNDS)
    # The first round warms up.
    seconds = {name: values[1:] for name, values in found.items()}
    notes = {
        "trades3": "TRADES, three steps of ascent.",
        "free": "FreeLB, three steps.",
        "ada": "AdA, three steps, the guard with nine points, a move for each example.",
    }
    for name, note in notes.items():
        ratio = ratio_of(seconds[name], seconds["plain"])
        Figure(
            name=f"robust.cost.{name}_ratio",
            value=ratio.value,
            unit="ratio",
            command=COMMAND,
            rival="a plain step",
            rival_value=sum(seconds["plain"]) / len(seconds["plain"]),
            lower=ratio.lower,
            upper=ratio.upper,
            count=BATCH,
            seeds=(0,),
            note=f"{note} Processor seconds of a step of the digits network, batches of {BATCH}, {ROUNDS - 1} rounds.",
        ).write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
