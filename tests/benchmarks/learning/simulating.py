"""How long it takes to simulate 100,000 patients with their true risks, by either mechanism."""

import shutil

from ehr.simulator.cohort import MECHANISMS
from tests.benchmarks.harness import RUNS, Figure, measured, verb

PATIENTS, SEED = 100_000, 1


def main() -> int:
    """Measure."""
    for mechanism in MECHANISMS:
        folder = RUNS / f"simulated-{mechanism}"
        shutil.rmtree(folder, ignore_errors=True)
        arguments = ("--patients", str(PATIENTS), "--seed", str(SEED), "--mechanism", mechanism)
        run = measured(verb("simulate", folder, *arguments))
        shutil.rmtree(folder)
        Figure(
            name=f"simulate.minutes_100k.{mechanism}",
            value=run.seconds / 60,
            unit="minutes",
            command="python -m tests.benchmarks.learning.simulating",
            count=PATIENTS,
            seeds=(SEED,),
            note=f"events and true risks as MEDS; peak memory {run.peak_bytes / 2**30:.2f} GiB",
        ).write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
