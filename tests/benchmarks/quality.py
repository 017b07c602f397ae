"""What the gates cost: `python -m tests.benchmarks.quality`."""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.harness import ROOT, RUNS, Figure, events_of, in_turn, mean_of, records
from tests.benchmarks.prepare import OUTCOMES, PATIENTS, SEED

COMMAND = "python -m tests.benchmarks.quality"
ARMS = ("gates", "bare", "import")


def import_seconds() -> float:
    """Return the seconds that importing Great Expectations takes in a fresh interpreter."""
    started = time.perf_counter()
    from pipelines import gates

    gates.preload()
    return time.perf_counter() - started


def prepare_seconds(arm: str, source: Path) -> float:
    """Return the seconds of preparing, with or without gates, imports done before."""
    import_seconds()
    from pipelines.passes import Plan
    from pipelines.prepare import prepare

    cohort = RUNS / f"cohort-{arm}"
    shutil.rmtree(cohort, ignore_errors=True)
    started = time.perf_counter()
    try:
        prepare(source, cohort, outcomes=OUTCOMES, plan=Plan(gates=arm == "gates"))
        return time.perf_counter() - started
    finally:
        shutil.rmtree(cohort, ignore_errors=True)


def run(arm: str) -> float:
    """Run one arm in an interpreter of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.quality", "--arm", arm]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"arm {arm} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> int:
    """Measure and write the figure; with --arm, run one arm and print its seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    source = records(PATIENTS, SEED)
    if given.arm:
        print(import_seconds() if given.arm == "import" else prepare_seconds(given.arm, source))
        return 0
    found = in_turn({arm: lambda _, arm=arm: run(arm) for arm in ARMS}, given.rounds)
    bare = mean_of(found["bare"]).value
    cost = mean_of([(gates - without) / without for gates, without in zip(found["gates"], found["bare"], strict=True)])
    importing = mean_of(found["import"]).value
    Figure(
        name="quality.cost_ratio", value=cost.value, unit="ratio", command=COMMAND, rival="preparation without gates",
        rival_value=bare, ratio=cost.value, lower=cost.lower, upper=cost.upper, count=events_of(source), seeds=(SEED,),
        note=f"with gates {mean_of(found['gates']).value:.1f} s, without {bare:.1f} s; importing Great Expectations, "
        f"left out here, takes {importing:.1f} s, most of it while records are read",
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
