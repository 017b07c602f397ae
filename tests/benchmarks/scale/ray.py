"""Scoring on Ray, its speed and what it loses: `python -m tests.benchmarks.scale.ray`, after `make demo`."""

import argparse
import functools
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl

from pipelines import artefacts, score, shards
from tests.benchmarks.harness import ROOT, RUNS, Figure, in_turn, measured, ratio_of, records, verb
from tests.scale import nodes

COMMAND = "python -m tests.benchmarks.scale.ray"
DEMO = ROOT / "runs" / "demo" / "release"
PATIENTS, SEED, FILES = 20_000, 2, 24


def divided(source: Path, target: Path, patients: int) -> Path:
    """Write some patients of records as many small files of whole patients."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "data").mkdir(parents=True)
    events = pl.scan_parquet(sorted((source / "data").rglob("*.parquet"))).collect()
    subjects = events["subject_id"].unique().sort().head(patients)
    for at in range(FILES):
        own = subjects.gather_every(FILES, at).to_list()
        events.filter(pl.col("subject_id").is_in(own)).write_parquet(target / "data" / f"{at:02d}.parquet")
    return target


def losses(source: Path) -> dict[str, Any]:
    """Score with the local pool, and on three nodes of which a worker and then one are lost; compare."""
    whole, target = RUNS / "whole", RUNS / "scores"
    for folder in (whole, target):
        shutil.rmtree(folder, ignore_errors=True)
    with patch.object(shards, "divide", functools.partial(shards.divide, shard_events=1)):
        score.score(DEMO, source, whole, workers=1)
        with nodes.nodes(3) as cluster:
            thread = nodes.Losses(cluster, nodes.parts_in(artefacts.partial(target) / "predictions"), 4, 10)
            thread.start()
            score.score(DEMO, source, target, engine="ray")
    lost, doubled = nodes.lost_and_doubled(whole, target)
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    same = all(artefacts.digest(whole / name) == artefacts.digest(target / name) for name in names)
    found = {"lost": lost, "doubled": doubled, "rows": len(nodes.read(whole)), "killed": thread.lost, "same": same}
    for folder in (whole, target):
        shutil.rmtree(folder)
    return found


def speed(source: Path, rounds: int) -> dict[str, list[float]]:
    """Return patients a second of both engines on all processors of this machine, in turn."""
    cores = len(os.sched_getaffinity(0))
    target = RUNS / "predictions"

    def run(*more: str) -> float:
        shutil.rmtree(target, ignore_errors=True)
        # 3: the dead are listed as not scored.
        seconds = measured(verb("score", DEMO, source, target, *more), allowed=(0, 3)).seconds
        scored = int(artefacts.read_manifest(target, "predictions")["samples"])
        shutil.rmtree(target)
        return scored / seconds

    with nodes.nodes(1, cores) as cluster, nodes.settings({"RAY_ADDRESS": cluster.address}):
        return in_turn({"ray": lambda _: run("--engine", "ray"), "local": lambda _: run()}, rounds)


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("losses", "speed"), help="measure one of the two alone")
    given = parser.parse_args()
    if not DEMO.is_dir():
        parser.error("no release of the demo; run `make demo` first")
    source = records(PATIENTS, SEED)
    same = given.part == "speed" or report_losses(source)
    if given.part != "losses":
        report_speed(source, given.rounds)
    return 0 if same else 1


def report_losses(source: Path) -> bool:
    """Measure what is lost and doubled and write the figures; tell whether all bytes are those of the local engine."""
    small = divided(source, RUNS / "divided", PATIENTS // 4)
    found = losses(small)
    shutil.rmtree(small)
    assert found["killed"] == ["worker", "node"], found["killed"]
    same = "all files have the same bytes" if found["same"] else "FILES DIFFER"
    note = f"three nodes of one processor; lost in mid-run: {' and '.join(found['killed'])}; {FILES} shards; {same}"
    for name in ("lost", "doubled"):
        Figure(
            name=f"scale.ray.rows_{name}", value=found[name], unit="rows", count=found["rows"], note=note,
            rival="the local engine", rival_value=0.0, command=COMMAND, seeds=(SEED,),
        ).write()  # fmt: skip
    return bool(found["same"])


def report_speed(source: Path, rounds: int) -> None:
    """Measure both engines in turn and write the figure."""
    rates = speed(source, rounds)
    ratio = ratio_of(rates["ray"], rates["local"])
    means = {name: float(np.mean(values)) for name, values in rates.items()}
    each = "; ".join(f"{name}: {value:,.0f} patients/s" for name, value in means.items())
    Figure(
        name="scale.ray.engine_ratio", value=ratio.value, unit="ratio", rival="the local pool", ratio=ratio.value,
        rival_value=means["local"], lower=ratio.lower, upper=ratio.upper, count=PATIENTS,
        note=f"{each}; start of the program included, of the cluster not; release of the demo; "
        "Ray's workers at the priority of all else", command=COMMAND, seeds=(SEED,),
    ).write()  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
