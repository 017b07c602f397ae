"""Learning curves of the same training by any number of processes, stopped and resumed or not."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.pipelines import cohorts

PATIENTS, STEPS = 400, 200
CONFIG = """seed_everything: 3
model:
  network: {width: 16, heads: 2, encoder_layers: 2, decoder_layers: 1, dropout: 0.0}
data: {tokens: 512, max_length: 64}
trainer: {max_epochs: -1, accelerator: cpu, log_every_n_steps: 1, precision: 32-true}
"""
SECONDS = 300


def prepare(folder: Path) -> Path:
    """Write a cohort and settings where they do not stand yet; return the folder."""
    if not (folder / "cohort").is_dir():
        cohorts.write(folder / "cohort", PATIENTS)
        (folder / "pretrain.yaml").write_text(CONFIG)
    return folder


def command(folder: Path, output: Path, processes: int, *, steps: int = STEPS, strategy: str = "ddp") -> list[str]:
    """Return the training of so many steps by so many processes."""
    words = ["pretrain", "--config", f"{folder}/pretrain.yaml", "--cohort", f"{folder}/cohort", "--output", str(output)]
    words += ["--no-estimate", "--checkpoint-steps", "5", "--trainer.max_steps", str(steps)]
    if processes > 1:
        words += ["--trainer.devices", str(processes), "--trainer.strategy", strategy]
    return [sys.executable, "-m", "pipelines.cli", *words]


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start a training in a process group of its own, one thread a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment)


def finish(words: list[str], *, expected: int = 0) -> str:
    """Train to the end and return what was said."""
    process = start(words)
    try:
        _, said = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == expected, said[-2000:]
    return said


def losses(path: Path) -> list[float]:
    """Return the training loss of every step from a table of curves."""
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    found = {int(step): float(value) for step, _, metric, value in rows if metric == "train/loss"}
    assert sorted(found) == list(range(len(found))), f"steps {sorted(found)}"
    return [found[step] for step in range(len(found))]


def apart(one: list[float], other: list[float]) -> float:
    """Return the largest difference of two curves of one length."""
    assert len(one) == len(other)
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def kill_at(words: list[str], output: Path, step: int, *, number: int = signal.SIGKILL) -> None:
    """Start a training and, once its curve has reached a step, send its whole group a signal."""
    process = start(words)
    table = output.with_name(f".{output.name}.partial") / "metrics.csv"
    until = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < until:
        if table.is_file() and len(re.findall("train/loss", table.read_text(encoding="utf-8"))) > step:
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1][-2000:]
    os.killpg(process.pid, number)
    process.communicate(timeout=120)


def random_step(seed: int, steps: int = STEPS) -> int:
    """Return a step to be killed at, neither the first nor near the last."""
    return random.Random(seed).randint(steps // 10, steps * 7 // 10)
