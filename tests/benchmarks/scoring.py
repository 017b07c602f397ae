"""Speed of `anamnesis score` beside bare onnxruntime: `python -m tests.benchmarks.scoring` (after `make demo`)."""

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from compress.onnx.session import open_session
from ehr.batches import bucket, pad
from ehr.events import order
from ehr.quality.profile import sift
from ehr.sources.detect import open_source
from ehr.timelines import Sample
from pipelines import artefacts, scoring, shards
from pipelines.moments import LATEST, Moments
from pipelines.release import MODEL, POSITIONS, Release, open_release
from tests.benchmarks.harness import ROOT, RUNS, Figure, in_turn, measured, ratio_of, records, verb

COMMAND = "python -m tests.benchmarks.scoring"
DEMO = ROOT / "runs" / "demo" / "release"
PATIENTS, SEED = 100_000, 2
Batch = tuple[np.ndarray, ...]


def samples_of(source: Path, release: Release) -> list[Sample]:
    """Return what `score` asks of each patient, by its own steps."""
    found: list[Sample] = []
    divided = shards.divide(open_source(source), RUNS)
    now = release.thresholds.end_of_now("meds")
    for shard in divided:
        raw = order(shards.load(shard).lazy()).collect()
        for events, times in scoring.rounds(raw, Moments(LATEST)):
            sifted = sift(events, name=shard.name, now=now)
            found += scoring.ask(sifted.events, events, times, release).samples
    return found


def batches(samples: list[Sample]) -> list[Batch]:
    """Return the arrays of every call of `score`, ready in memory."""
    lengths = np.array([bucket(len(sample.token)) for sample in samples])
    made: list[Batch] = []
    for length in np.unique(lengths).tolist():
        rows = max(1, POSITIONS // length)
        members = np.flatnonzero(lengths == length)
        for begin in range(0, len(members), rows):
            held = [samples[at] for at in members[begin : begin + rows]]
            made.append(tuple(pad(held, length=length, rows=rows)))
    return made


def run(model: Path, work: list[Batch], threads: int, barrier: Barrier | None = None) -> float:
    """Return the seconds of all calls, the making of the session left out."""
    session = open_session(model, threads=threads)
    session.run(*work[0])
    if barrier:
        barrier.wait()
    started = time.perf_counter()
    for batch in work:
        session.run(*batch)
    return time.perf_counter() - started


def run_in_processes(model: Path, work: list[Batch], processes: int) -> float:
    """Return the seconds of all calls, divided over processes of one thread that start together."""
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(processes), context.SimpleQueue()

    def member(at: int) -> None:
        queue.put(run(model, work[at::processes], 1, barrier))

    members = [context.Process(target=member, args=(at,)) for at in range(processes)]
    for process in members:
        process.start()
    longest = max(queue.get() for _ in members)
    for process in members:
        process.join()
    return longest


def described(work: list[Batch]) -> Iterator[str]:
    """Yield what the work is."""
    real = sum(int((batch[0] != 0).sum()) for batch in work)
    places = sum(batch[0].size for batch in work)
    yield f"{real:,} tokens in {len(work):,} calls of {POSITIONS:,} positions, {1 - real / places:.0%} of them padding"
    yield f"model of {(DEMO / MODEL).stat().st_size / 1e6:.1f} MB"


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if not DEMO.is_dir():
        parser.error("no release of the demo; run `make demo` first")
    source, target = records(PATIENTS, SEED), RUNS / "predictions"
    release = open_release(DEMO)
    samples = samples_of(source, release)
    work = batches(samples)
    cores = len(os.sched_getaffinity(0))
    scored: list[int] = []

    def score(_: int) -> float:
        shutil.rmtree(target, ignore_errors=True)
        # 3: the dead are listed as not scored.
        seconds = measured(verb("score", DEMO, source, target), allowed=(0, 3)).seconds
        scored.append(artefacts.read_manifest(target, "predictions")["samples"])
        shutil.rmtree(target)
        return len(samples) / seconds

    threads, processes = f"one process of {cores} threads", f"{cores} processes of one thread"
    arms = {
        "score": score,
        threads: lambda _: len(samples) / run(DEMO / MODEL, work, cores),
        processes: lambda _: len(samples) / run_in_processes(DEMO / MODEL, work, cores),
    }
    found = in_turn(arms, given.rounds)
    assert set(scored) == {len(samples)}, "score and the rival answered other samples"
    means = {name: float(np.mean(values)) for name, values in found.items()}
    rival = max(threads, processes, key=lambda name: means[name])
    ratio = ratio_of(found["score"], found[rival])
    note = "; ".join([*(f"{name}: {value:,.0f} patients/s" for name, value in means.items()), *described(work)])
    said = {"command": COMMAND, "seeds": (SEED,), "count": len(samples), "note": note}
    Figure(
        name="score.runtime_ratio", value=ratio.value, unit="ratio", rival=f"bare onnxruntime, {rival}",
        rival_value=means[rival], ratio=ratio.value, lower=ratio.lower, upper=ratio.upper, **said,
    ).write()  # fmt: skip
    size = json.loads((DEMO / "manifest.json").read_text(encoding="utf-8"))["model_bytes"]
    Figure(
        name="score.patients_per_second", value=means["score"], unit="patients/s",
        **{**said, "note": f"{note}; {size:,} bytes of model"},
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
