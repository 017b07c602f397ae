"""A scheduler of one machine: srun starts tasks and passes signals on, scontrol writes down what it is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words and words[0].startswith("-"):
    words.pop(0)
tasks = []
def forward(number, frame):
    for task in tasks:
        if task.poll() is None:
            task.send_signal(number)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, forward)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1, signal.SIGTERM))
for place in range(int(os.environ.get("SLURM_NTASKS", "1"))):
    ranks = {{"SLURM_PROCID": str(place), "SLURM_LOCALID": str(place), "SLURM_NODEID": "0"}}
    tasks.append(subprocess.Popen(words, env={{**os.environ, **ranks}}, preexec_fn=lambda: [
        signal.signal(number, signal.SIG_DFL) for number in (signal.SIGUSR1, signal.SIGTERM)]))
# A step's code is the highest of its tasks; one that a signal ended counts 128 more than the signal.
sys.exit(max(code if code >= 0 else 128 - code for code in [task.wait() for task in tasks]))
"""
SCONTROL = """#!/usr/bin/env bash
echo "$*" >> "$SCONTROL_LOG"
exit "${SCONTROL_CODE:-0}"
"""


def write(folder: Path, anamnesis: str) -> Path:
    """Write srun, scontrol and the program into a folder of commands."""
    commands = folder / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("anamnesis", anamnesis)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return commands


def environment(commands: Path, log: Path, **more: str) -> dict[str, str]:
    """Return what SLURM tells a job of one machine and one task."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    told = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "anamnesis",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_JOB_NODELIST": "127.0.0.1",
        "SLURM_NODELIST": "127.0.0.1",
    }
    return {**kept, **told, "SCONTROL_LOG": str(log), "PATH": f"{commands}:{os.environ['PATH']}", **more}


def start(body: Path, arguments: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
    """Start the body of a job as a batch shell does, in a session of its own."""
    words = ["bash", str(body), *arguments]
    return subprocess.Popen(words, env=settings, start_new_session=True, stderr=subprocess.PIPE, text=True)


def step(job: subprocess.Popen[str], seconds: float = 30) -> int:
    """Return the process of a job's srun."""
    import psutil

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for child in psutil.Process(job.pid).children():
            if child.children():
                return child.pid
        time.sleep(0.02)
    raise AssertionError("the job started no step")


def preempt(job: subprocess.Popen[str], grace: float = 0.2) -> None:
    """Do what preemption does: SIGTERM to step and shell, after some grace SIGKILL to all."""
    os.kill(step(job), signal.SIGTERM)
    os.kill(job.pid, signal.SIGTERM)
    try:
        job.communicate(timeout=grace)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate(timeout=30)
