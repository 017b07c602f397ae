"""Speed and memory of `anamnesis prepare`: `python -m tests.benchmarks.prepare`."""

import argparse
import shutil
from pathlib import Path

from tests.benchmarks.harness import GIB, ROOT, RUNS, Figure, Run, events_of, mean_of, measured, ratio_of, records, verb

COMMAND = "python -m tests.benchmarks.prepare"
OUTCOMES = ROOT / "configs" / "demo" / "outcomes.yaml"
# About 91 events a patient: 10 and 40 million.
PATIENTS, MORE_PATIENTS = 110_000, 440_000
SEED = 1


def prepare(source: Path) -> Run:
    """Run the verb with gates and labels and throw the cohort away."""
    cohort = RUNS / "cohort"
    shutil.rmtree(cohort, ignore_errors=True)
    try:
        return measured(verb("prepare", source, cohort, "--outcomes", OUTCOMES))
    finally:
        shutil.rmtree(cohort, ignore_errors=True)


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs over 10 million events")
    parser.add_argument("--more-rounds", type=int, default=1, help="runs over 40 million events; 0 leaves them out")
    given = parser.parse_args()
    source = records(PATIENTS, SEED)
    events = events_of(source)
    runs = [prepare(source) for _ in range(given.rounds)]
    said = {"command": COMMAND, "seeds": (SEED,)}
    speed = mean_of([events / run.seconds for run in runs])
    note = f"{given.rounds} runs of {events:,} events of {PATIENTS:,} simulated patients, start of the program included"
    Figure(
        name="prepare.events_per_second", value=speed.value, unit="events/s", lower=speed.lower, upper=speed.upper,
        count=events, note=note, **said,
    ).write()  # fmt: skip
    peak = mean_of([run.peak_bytes / GIB for run in runs])
    Figure(
        name="prepare.peak_memory_gib", value=peak.value, unit="GiB", lower=peak.lower, upper=peak.upper,
        count=events, note="largest proportional set size of the process tree, asked 20 times a second", **said,
    ).write()  # fmt: skip
    if not given.more_rounds:
        return 0
    large = records(MORE_PATIENTS, SEED)
    more = [prepare(large).peak_bytes / GIB for _ in range(given.more_rounds)]
    growth = ratio_of([mean_of(more).value], [peak.value])
    Figure(
        name="prepare.memory_growth_ratio", value=growth.value, unit="ratio", rival=f"{events:,} events",
        rival_value=peak.value, ratio=growth.value, count=events_of(large),
        note=f"peak memory over {events_of(large):,} events: {mean_of(more).value:.2f} GiB", **said,
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
