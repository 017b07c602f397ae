"""Kill a verb at random moments, run it again, and look at what stands on disk."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def digests(folder: Path, *, skip: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its relative name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in skip for part in path.relative_to(folder).parts)
    }


def start(arguments: list[str]) -> subprocess.Popen:
    """Start one verb in a process group of its own, so that its workers die with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(arguments: list[str], *, expected: tuple[int, ...] = (0,)) -> float:
    """Run one verb to its end and return its seconds."""
    started = time.monotonic()
    process = start(arguments)
    _, errors = process.communicate(timeout=900)
    assert process.returncode in expected, errors.decode()[-2000:]
    return time.monotonic() - started


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Run one verb and kill its whole group after the given seconds; tell whether it was still running."""
    process = start(arguments)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def moments(count: int, longest: float, seed: int) -> list[float]:
    """Return random moments of a run, spread over its whole length."""
    generator = random.Random(seed)
    return [longest * (i + generator.random()) / count for i in range(count)]
