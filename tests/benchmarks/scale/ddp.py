"""Loss curves of 2 and 4 processes beside that of one: `python -m tests.benchmarks.scale.ddp`."""

import argparse
import shutil

from tests.benchmarks.harness import RUNS, Figure
from tests.scale import curves

COMMAND = "python -m tests.benchmarks.scale.ddp"


def main() -> int:
    """Measure and write the figure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = RUNS / "ddp"
    shutil.rmtree(folder, ignore_errors=True)
    curves.prepare(folder)
    found: dict[int, list[float]] = {}
    for processes in (1, 2, 4):
        output = folder / f"run-{processes}"
        curves.finish(curves.command(folder, output, processes))
        found[processes] = curves.losses(output / "metrics.csv")
    apart = {processes: curves.apart(found[1], found[processes]) for processes in (2, 4)}
    each = ", ".join(f"{processes} processes: {value:.2g}" for processes, value in apart.items())
    Figure(
        name="scale.ddp.loss_max_abs", value=max(apart.values()), unit="nats", command=COMMAND, seeds=(3,),
        count=len(found[1]), rival="one process, the same batches", rival_value=0.0,
        note=f"{each}; gloo, float32, no dropout; loss from {found[1][0]:.3f} to {found[1][-1]:.3f}; "
        "network of width 16, batches of 512 positions, learning rate 1e-3",
    ).write()  # fmt: skip
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
