"""What every benchmark shares: figures as files, runs in turn, intervals, and the memory of a process tree."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
FIGURES = ROOT / "docs" / "explanation" / "figures"
RUNS = ROOT / "runs" / "benchmarks"
GIB = 2**30
POLL_SECONDS = 0.05
PACKAGES = ("anamnesis", "numpy", "polars", "pyarrow", "torch", "onnxruntime", "onnxruntime-gpu", "great-expectations")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that bear on speed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor_flags() -> list[str]:
    """Return those instruction sets of this processor that bear on speed."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return [flag for flag in FLAGS if flag in line.split()]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure, as it stands in its file."""

    name: str
    """Fixed, so that it can be followed over time; also the file's name."""
    value: float
    """What was measured."""
    unit: str
    """Its unit, or `ratio`."""
    command: str
    """What measures it again."""
    rival: str | None = None
    """What it is compared with."""
    rival_value: float | None = None
    """What the rival reached, in the unit of `ours` or of the value."""
    ratio: float | None = None
    """value / rival_value."""
    lower: float | None = None
    """Lower end of the 95 % interval."""
    upper: float | None = None
    """Upper end of the 95 % interval."""
    count: int | None = None
    """Patients, events or samples in one run."""
    seeds: tuple[int, ...] = ()
    """Of what was drawn."""
    note: str = ""
    """What has to be known to read it."""
    versions: Mapping[str, str] = field(default_factory=versions)
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    processor_flags: Sequence[str] = field(default_factory=processor_flags)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    def write(self, folder: Path = FIGURES) -> Path:
        """Write NAME.json, print one line, and return the path."""
        content = asdict(self)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        temporary = path.with_suffix(".partial")
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.rename(path)
        interval = "" if self.lower is None else f" [{self.lower:,.4g}, {self.upper:,.4g}]"
        print(f"{self.name}: {self.value:,.4g} {self.unit}{interval}", flush=True)
        return path


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    lower: float
    upper: float


# Student's t at 97.5 %, by degrees of freedom; beyond the table the normal distribution is near enough.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def mean_of(values: Sequence[float]) -> Interval:
    """Return the mean of repeated runs with Student's interval; of one run the interval is the value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    t = T_975[len(values) - 2] if len(values) - 2 < len(T_975) else 1.96
    half = t * statistics.stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the mean ratio of runs that stood side by side, on the logarithmic scale, ours / theirs."""
    logs = [float(np.log(a / b)) for a, b in zip(ours, theirs, strict=True)]
    return Interval(*(float(np.exp(part)) for part in mean_of(logs)))


def in_turn(arms: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Run all arms once a round, beginning with another one each round, so that a busy machine hurts all alike.

    Args:
        arms: by name; each takes the number of the round and returns its measurement.
        rounds: how often.
    """
    names = list(arms)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found[name].append(arms[name](number))
        last = ", ".join(f"{name} {values[-1]:,.4g}" for name, values in found.items())
        print(f"round {number + 1} of {rounds}: {last}", file=sys.stderr, flush=True)
    return found


class Run(NamedTuple):
    """What a command took."""

    seconds: float
    peak_bytes: int
    output: str


def tree_bytes(process: psutil.Process) -> int:
    """Return the proportional set size of a process and all below it: shared pages count once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            text = Path(f"/proc/{member.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total


def measured(command: Sequence[str], *, allowed: Sequence[int] = (0,)) -> Run:
    """Run a command and return its seconds, the peak memory of its process tree and what it printed.

    Raises:
        RuntimeError: it ended with a code that is not allowed.
    """
    started = time.perf_counter()
    peak = 0
    # A file rather than a pipe, which would fill while nobody reads.
    RUNS.mkdir(parents=True, exist_ok=True)
    with (RUNS / "output.txt").open("w+", encoding="utf-8") as output:
        process = psutil.Popen(list(command), stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            while True:
                try:
                    process.wait(timeout=POLL_SECONDS)
                    break
                except psutil.TimeoutExpired:
                    try:
                        peak = max(peak, tree_bytes(process))
                    except psutil.NoSuchProcess:
                        continue
        finally:
            if process.is_running():
                process.kill()
                process.wait()
        seconds = time.perf_counter() - started
        output.seek(0)
        said = output.read()
    if process.returncode not in allowed:
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}:\n{said[-2000:]}")
    return Run(seconds, peak, said)


def verb(*arguments: str | Path) -> list[str]:
    """Return the command of a verb in an interpreter of its own."""
    return [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]


def records(patients: int, seed: int) -> Path:
    """Return simulated records without truth, made where an earlier benchmark did not leave them."""
    folder = RUNS / f"records-{patients}-{seed}"
    manifest = folder / "manifest.json"
    if not manifest.is_file() or json.loads(manifest.read_text())["patients"] != patients:
        arguments = ("--patients", str(patients), "--seed", str(seed), "--no-truth", "--overwrite")
        measured(verb("simulate", folder, *arguments))
    return folder


def events_of(folder: Path) -> int:
    """Return the number of events of simulated records."""
    return int(json.loads((folder / "manifest.json").read_text())["events"])
