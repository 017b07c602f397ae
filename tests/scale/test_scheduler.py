"""Job files for a scheduler: they are bash, name no site, and come back from signals, kills and preemption."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from tests.docs import ROOT
from tests.scale import curves, fakes

FILES = sorted((ROOT / "configs" / "cluster").iterdir())
PRETRAIN, FINETUNE, SCORE = (
    ROOT / "configs" / "cluster" / f"{n}.sbatch" for n in ("pretrain", "finetune-array", "score-array")
)
# Writes down what it is told; says it is ready, and ends by what its first argument's file says.
PROGRAM = """#!/usr/bin/env bash
echo "$*" >> "$TOLD"
code=$(head -1 "$PLAN"); sed -i 1d "$PLAN"
trap 'exit 75' SIGUSR1
if [[ $code == wait ]]; then touch "$PLAN.ready"; while true; do sleep 0.02; done; fi
if [[ $code == deaf ]]; then trap - SIGUSR1; touch "$PLAN.ready"; while true; do sleep 0.02; done; fi
exit "$code"
"""
ARRAY = {
    "SLURM_ARRAY_JOB_ID": "815",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_COUNT": "8",
    "SLURM_ARRAY_TASK_MIN": "1",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_job_files_are_bash_and_name_no_site(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    text = path.read_text()
    assert not re.search(r"(?<![\w$}.])/(home|scratch|data|mnt|work|opt|gpfs|lustre)\b", text)
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            assert not re.match(r"#SBATCH --(partition|account|qos|mail|nodelist|constraint)", line)


class Site:
    """One run of a job after the other, with a made-up program."""

    def __init__(self, folder, codes, **more):
        self.log, self.told, self.plan = folder / "scontrol.log", folder / "told", folder / "plan"
        self.plan.write_text("".join(f"{code}\n" for code in codes))
        more |= {"TOLD": str(self.told), "PLAN": str(self.plan)}
        self.settings = fakes.environment(fakes.write(folder, PROGRAM), self.log, **more)

    def run(self, body, *arguments, action=None):
        """Run a job's body to its end, doing something once its program is ready; return its code."""
        job = fakes.start(body, list(arguments), self.settings)
        if action:
            while not self.plan.with_suffix(".ready").exists():
                assert job.poll() is None
            self.plan.with_suffix(".ready").unlink()
            action(job)
        job.communicate(timeout=30)
        return job.returncode

    def requeued(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def commands(self):
        return [shlex.split(line) for line in self.told.read_text().splitlines()]


def warn(job):
    os.kill(fakes.step(job), signal.SIGUSR1)


@pytest.mark.parametrize("program", ["wait", "deaf"])
def test_a_job_that_is_told_its_time_is_up_is_put_back(tmp_path, program):
    site = Site(tmp_path, [program, "0"])
    arguments = ("pretrain.yaml", "co hort", "out", "--model.network.width", "256")
    assert site.run(PRETRAIN, *arguments, action=warn) == (75 if program == "wait" else 138)
    assert site.requeued() == ["requeue 4711"]
    assert site.run(PRETRAIN, *arguments) == 0
    assert site.requeued() == ["requeue 4711"]
    first, second = site.commands()
    assert first == second
    assert first[:3] == ["pretrain", "--config", "pretrain.yaml"]
    assert first[-2:] == ["--model.network.width", "256"]
    assert first[first.index("--trainer.strategy") + 1] == "ddp"


@pytest.mark.parametrize("code", [1, 2])
def test_a_job_that_fails_is_not_put_back(tmp_path, code):
    site = Site(tmp_path, [code, code])
    assert site.run(PRETRAIN, "a", "b", "c") == code
    site.settings |= ARRAY
    assert site.run(FINETUNE, "a", "b", "c", "d") == code
    assert site.requeued() == []


def test_a_preempted_job_leaves_the_queue_to_the_scheduler(tmp_path):
    site = Site(tmp_path, ["wait", "0"])
    site.run(PRETRAIN, "a", "b", "c", action=fakes.preempt)
    assert site.run(PRETRAIN, "a", "b", "c") == 0


def test_an_array_fine_tunes_a_seed_a_task_and_puts_back_its_own(tmp_path):
    site = Site(tmp_path, ["wait"], **ARRAY)
    assert site.run(FINETUNE, "finetune.yaml", "cohort", "pretrained", "tuned", action=warn) == 75
    assert site.requeued() == ["requeue 815_3"]
    (words,) = site.commands()
    assert words[words.index("--output") + 1] == "tuned-3"
    assert words[words.index("--seed_everything") + 1] == "3"


@pytest.mark.parametrize("first", [0, 1])
def test_an_array_scores_every_share_once_and_one_job_closes(tmp_path, first):
    site = Site(tmp_path, [3] * 5, **ARRAY)
    for task in range(first, first + 4):
        site.settings |= {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": "4",
            "SLURM_ARRAY_TASK_MIN": str(first),
        }
        assert site.run(SCORE, "release", "records", "predictions") == 0
    site.settings |= {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "1"}
    assert site.run(SCORE, "release", "records", "predictions") == 0
    *shares, closing = site.commands()
    assert [words[words.index("--shard") + 1] for words in shares] == ["1/4", "2/4", "3/4", "4/4"]
    assert "--shard" not in closing


def test_what_is_missing_is_said(tmp_path):
    site = Site(tmp_path, [])
    assert site.run(PRETRAIN, "pretrain.yaml") not in {0, 75}
    assert not site.told.exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_real_training_by_two_tasks_comes_back_as_if_undisturbed(tmp_path):
    folder, steps = curves.prepare(tmp_path), 60
    curves.finish(curves.command(folder, folder / "whole", 1, steps=steps))
    program = f'#!/usr/bin/env bash\nexec {sys.executable} -m pipelines.cli "$@"\n'
    commands, log = fakes.write(folder, program), folder / "scontrol.log"
    two = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    settings = fakes.environment(commands, log, **two)
    run = folder / "run"
    arguments = [f"{folder}/pretrain.yaml", f"{folder}/cohort", str(run)]
    arguments += ["--no-estimate", "--checkpoint-steps", "5", "--trainer.max_steps", str(steps)]
    table = run.with_name(".run.partial") / "metrics.csv"
    codes = []
    for number, at in ((signal.SIGUSR1, 15), (signal.SIGKILL, 35), (None, 0)):
        job = fakes.start(PRETRAIN, arguments, settings)
        while number and job.poll() is None and (not table.is_file() or len(curves.losses(table)) <= at):
            time.sleep(0.05)
        if number == signal.SIGUSR1:
            os.kill(fakes.step(job), number)
        elif number:
            os.killpg(job.pid, number)
        _, said = job.communicate(timeout=500)
        codes.append(job.returncode)
    assert codes == [75, -signal.SIGKILL, 0], said[-2000:]
    assert log.read_text().splitlines() == ["requeue 4711"]
    assert curves.apart(curves.losses(folder / "whole" / "metrics.csv"), curves.losses(run / "metrics.csv")) <= 1e-5
    one, other = (safetensors.numpy.load_file(path / "model" / "model.safetensors") for path in (folder / "whole", run))
    assert max(float(np.abs(one[name] - other[name]).max(initial=0)) for name in one) < 1e-3
