"""robust.digits.trades_ema.*: TRADES with averaged weights on digits, under the full ensemble; resumable by seed.

With --finished figures are written of the seeds that are done.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from robust.aims import Target
from robust.attacks.apgd import Apgd
from robust.attacks.ensemble import Ensemble, full, quick
from robust.attacks.gradient import Pgd
from robust.draws import Draws
from robust.examples import apart
from robust.heads import Classes
from robust.objectives import Trades
from tests.benchmarks.harness import FIGURES, Figure, mean_of
from tests.benchmarks.robust.digits import EPOCHS, THREAT, Digits, digits, train

COMMAND = "python -m tests.benchmarks.robust.trades"
SEEDS = (0, 1, 2, 3, 4)
NAME = "robust.digits.trades_ema"
OBJECTIVE = Trades(beta=6.0, attack=Pgd(steps=5, size=1 / 3, aim="divergence", keep="last"))
GRADIENTS = Ensemble({"cross-entropy": Apgd(steps=100, aim="cross_entropy"), "margin": Apgd(steps=100)})


def judged(net: nn.Module, test: Digits, ensemble: Ensemble) -> tuple[float, float]:
    """Return clean and robust accuracy in percent."""
    target = Target(Classes(), test.label)
    record = ensemble.run(net, test.x, target, threat=THREAT, examples=apart(test.x), draws=Draws(0))
    return 100 * record.clean, 100 * record.robust


def path_of(seed: int) -> Path:
    """Return the file of a seed."""
    return FIGURES / "parts" / f"{NAME}-{seed}.json"


def part(seed: int) -> dict[str, Any]:
    """Return what a seed came to, from its file where there is one."""
    path = path_of(seed)
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    training, test = digits()
    made = train(OBJECTIVE, training, seed=seed)
    made.network.requires_grad_(requires_grad=False)
    live = judged(made.network, test, GRADIENTS)
    with made.averaged.swap():
        averaged = judged(made.network, test, GRADIENTS)
        clean, robust = judged(made.network, test, Ensemble(full()))
        alarms = Ensemble(quick()).alarms(
            made.network, test.x[:100], Target(Classes(), test.label[:100]), threat=THREAT
        )
    found = {
        "seed": seed,
        "clean": clean,
        "robust": robust,
        "alarms": alarms,
        "live_clean": live[0],
        "live_robust_gradients": live[1],
        "robust_gradients": averaged[1],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    temporary.rename(path)
    print(found, flush=True)
    return found


def write(name: str, values: Sequence[float], unit: str, note: str, seeds: Sequence[int]) -> None:
    """Write a figure that is a mean over seeds."""
    mean = mean_of(values)
    Figure(
        name=name,
        value=mean.value,
        unit=unit,
        command=COMMAND,
        lower=mean.lower,
        upper=mean.upper,
        count=len(digits()[1].x),
        seeds=tuple(seeds),
        note=note,
    ).write()


def main() -> int:
    """Measure and write the figures; 1 where an alarm says that they are not to be trusted."""
    seeds = [seed for seed in SEEDS if "--finished" not in sys.argv or path_of(seed).is_file()]
    found = [part(seed) for seed in seeds]
    alarms = [alarm for one in found for alarm in one["alarms"]]
    if alarms:
        print("\n".join(alarms))
        return 1
    how = f"TRADES, beta 6, 5 steps of a third of the radius, {EPOCHS} epochs, averaged weights; L-inf 0.1"
    write(f"{NAME}.clean", [one["clean"] for one in found], "%", f"{how}. Accuracy before any attack.", seeds)
    ensemble = "APGD-100 on the loss, APGD-100 on the margin from five starts, Square with 5,000 questions"
    write(
        f"{NAME}.robust",
        [one["robust"] for one in found],
        "%",
        f"{how}. Accuracy under the worst of {ensemble}.",
        seeds,
    )
    write(
        "robust.digits.averaging_change",
        [one["robust_gradients"] - one["live_robust_gradients"] for one in found],
        "points",
        f"{how}, minus the live weights of the same runs; robust accuracy under APGD-100 on the loss and the margin.",
        seeds,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
