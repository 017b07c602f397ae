"""robust.parity.*: attacks against torchattacks' on the same digits networks, budgets and seeds.

torchattacks stands in an environment of its own: `make runs/venvs/torchattacks`.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import nn

from robust.aims import Target, broken
from robust.attacks.apgd import Apgd
from robust.attacks.gradient import Pgd
from robust.attacks.protocol import Attack
from robust.attacks.square import Square
from robust.draws import Draws
from robust.examples import apart
from robust.heads import Classes
from robust.objectives import Clean, Objective, Trades
from tests.benchmarks.harness import ROOT, RUNS, Figure, mean_of
from tests.benchmarks.robust.digits import THREAT, Digits, digits, train

COMMAND = "python -m tests.benchmarks.robust.parity"
RIVAL = ROOT / "runs" / "venvs" / "torchattacks" / "bin" / "python"
FOLDER = RUNS / "robust"
SEEDS = (0, 1, 2, 3, 4)
STEPS, SHARE, APGD_STEPS, QUERIES = 20, 0.25, 50, 500
ATTACKS: dict[str, Attack] = {
    "pgd": Pgd(steps=STEPS, size=SHARE),
    "apgd.cross_entropy": Apgd(steps=APGD_STEPS, aim="cross_entropy"),
    "apgd.ratio": Apgd(steps=APGD_STEPS, aim="ratio"),
    "square": Square(queries=QUERIES),
}
"""Ours by the rival's name; `ratio` is what it calls DLR."""
TRAINED: dict[str, Objective] = {
    "standard": Clean(),
    "adversarial": Trades(attack=Pgd(steps=5, size=1 / 3, aim="divergence", keep="last")),
}


def ours(net: nn.Module, test: Digits, name: str, seed: int) -> float:
    """Return robust accuracy in percent under one of our attacks."""
    target, examples = Target(Classes(), test.label), apart(test.x)
    moved = ATTACKS[name].perturb(net, test.x, target, threat=THREAT, examples=examples, draws=Draws(seed))
    assert float(THREAT.magnitude(moved, test.x, examples).max()) <= THREAT.epsilon + 1e-6
    return 100 - 100 * float(broken(net, moved, target, examples).double().mean())


def theirs(nets: dict[str, nn.Module], test: Digits) -> dict[str, dict[str, list[float]]]:
    """Return robust accuracy in percent under the rival's attacks, by network and attack, a number a seed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({"x": test.x.contiguous(), "label": test.label}, FOLDER / "test.safetensors")
    for name, net in nets.items():
        save_file(net.state_dict(), FOLDER / f"{name}.safetensors")
    asked = {
        "folder": str(FOLDER),
        "networks": list(nets),
        "seeds": list(SEEDS),
        "epsilon": THREAT.epsilon,
        "share": SHARE,
        "steps": STEPS,
        "apgd_steps": APGD_STEPS,
        "queries": QUERIES,
    }
    answer = FOLDER / "theirs.json"
    command = [RIVAL, "-m", "tests.benchmarks.robust.rival", json.dumps(asked), str(answer)]
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads(Path(answer).read_text(encoding="utf-8"))


def main() -> int:
    """Measure and write the figures."""
    if not RIVAL.exists():
        print("torchattacks is not there; run make runs/venvs/torchattacks first", file=sys.stderr)
        return 2
    training, test = digits()
    nets = {name: train(objective, training, seed=0).network for name, objective in TRAINED.items()}
    for net in nets.values():
        net.requires_grad_(requires_grad=False)
    rival = theirs(nets, test)
    version = rival.pop("version")
    found = {net: {name: [ours(nets[net], test, name, seed) for seed in SEEDS] for name in ATTACKS} for net in nets}
    for attack in ("pgd", "apgd", "square"):
        names = [name for name in ATTACKS if name.split(".")[0] == attack]
        cells = {
            (net, name): mean_of([a - b for a, b in zip(found[net][name], rival[net][name], strict=True)])
            for net in nets
            for name in names
        }
        (net, name), worst = max(cells.items(), key=lambda item: item[1].value)
        stated = "; ".join(
            f"{net}, {name}: ours {np.mean(found[net][name]):.2f}, theirs {np.mean(rival[net][name]):.2f}"
            for net, name in cells
        )
        Figure(
            name=f"robust.parity.{attack}",
            value=worst.value,
            unit="points",
            command=COMMAND,
            rival=f"torchattacks {version}",
            rival_value=float(np.mean(rival[net][name])),
            lower=worst.lower,
            upper=worst.upper,
            count=len(test.x),
            seeds=SEEDS,
            note=(
                f"Robust accuracy under ours minus under theirs, mean over seeds, worst of the networks: {net}. "
                f"Percent: {stated}. L-inf 0.1; PGD {STEPS} steps of a quarter of the radius, one start; "
                f"APGD {APGD_STEPS} steps, one start; Square {QUERIES} questions."
            ),
        ).write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
