"""Training killed at random steps, resumed by other numbers of processes: `python -m tests.benchmarks.scale.resume`."""

import argparse
import shutil

from tests.benchmarks.harness import RUNS, Figure
from tests.scale import curves

COMMAND = "python -m tests.benchmarks.scale.resume"
# Processes before and after each kill, by seed of the step.
KILLS = ((11, 2, 1), (12, 1, 2), (13, 2, 4))


def main() -> int:
    """Measure and write the figure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = RUNS / "resume"
    shutil.rmtree(folder, ignore_errors=True)
    curves.prepare(folder)
    curves.finish(curves.command(folder, folder / "whole", 1))
    expected = curves.losses(folder / "whole" / "metrics.csv")
    apart: dict[str, float] = {}
    for seed, before, after in KILLS:
        output, step = folder / f"run-{seed}", curves.random_step(seed)
        curves.kill_at(curves.command(folder, output, before), output, step)
        said = curves.finish(curves.command(folder, output, after))
        assert "going on from step" in said
        found = curves.losses(output / "metrics.csv")
        apart[f"{before} to {after} processes, killed at step {step}"] = curves.apart(expected, found)
    each = "; ".join(f"{name}: {value:.2g}" for name, value in apart.items())
    Figure(
        name="scale.resume.loss_max_abs", value=max(apart.values()), unit="nats", command=COMMAND,
        seeds=tuple(seed for seed, _, _ in KILLS), count=len(expected), rival="undisturbed", rival_value=0.0,
        note=f"{each}; SIGKILL to the whole group, a checkpoint every 5 steps; gloo, float32, no dropout",
    ).write()  # fmt: skip
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
