"""Memory of `anamnesis prepare` over 100 million events: `python -m tests.benchmarks.scale.prepare`."""

import argparse
import shutil
from pathlib import Path

import polars as pl

from tests.benchmarks.harness import GIB, ROOT, RUNS, Figure, events_of, measured, records, verb

COMMAND = "python -m tests.benchmarks.scale.prepare"
OUTCOMES = ROOT / "configs" / "demo" / "outcomes.yaml"
PATIENTS, SEED, EVENTS = 110_000, 1, 100_000_000


def repeated(source: Path, target: Path, events: int) -> int:
    """Write a cohort's files again and again under other subjects until there are so many events; return them."""
    (target / "data").mkdir(parents=True)
    written = number = 0
    shift = 1 + max(pl.scan_parquet(path).select(pl.col("subject_id").max()).collect().item() for path in files(source))
    while written < events:
        for path in files(source):
            moved = pl.scan_parquet(path).with_columns(pl.col("subject_id") + number * shift)
            moved.sink_parquet(target / "data" / f"{number:02d}-{path.stem}.parquet", compression="zstd")
        written += events_of(source)
        number += 1
    return written


def files(source: Path) -> list[Path]:
    """Return the files of records."""
    return sorted((source / "data").rglob("*.parquet"))


def main() -> int:
    """Measure and write the figure; what was made for it is deleted."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    source, large, cohort = records(PATIENTS, SEED), RUNS / "records-100m", RUNS / "cohort-100m"
    for folder in (large, cohort):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        events = repeated(source, large, EVENTS)
        size = sum(path.stat().st_size for path in files(large))
        run = measured(verb("prepare", large, cohort, "--outcomes", OUTCOMES))
        made = sum(path.stat().st_size for path in cohort.rglob("*") if path.is_file())
    finally:
        for folder in (large, cohort):
            shutil.rmtree(folder, ignore_errors=True)
    note = (
        f"largest proportional set size of the process tree, asked 20 times a second; {run.seconds / 60:.1f} minutes, "
        f"{events / run.seconds:,.0f} events/s; {size / GIB:.2f} GiB of records, {made / GIB:.2f} GiB of cohort; "
        f"{PATIENTS:,} simulated patients repeated under other numbers, gates and labels on"
    )
    Figure(
        name="scale.prepare_100m.peak_memory_gib", value=run.peak_bytes / GIB, unit="GiB", count=events, note=note,
        command=COMMAND, seeds=(SEED,),
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
