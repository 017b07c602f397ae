"""Arms of the learning benchmark: each learns from a cohort's training split and answers its test splits."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from ehr import calibration
from pipelines.answering import Match, ask, open_model
from pipelines.cohort import Cohort, open_cohort
from pipelines.contest import contest
from pipelines.evaluation import placed
from pipelines.samples import Questions, counts, questions_of
from tests.benchmarks.harness import ROOT, verb
from tests.benchmarks.learning.cohorts import CONFIGS, PLANS, RUNS, cohort_of

Floats = npt.NDArray[np.float32]
MORE_EPOCHS = {1: (15, 3), 10: (6, 2)}
"""By percent of labels: epochs of fine-tuning, and after how many of them the tuning split is looked at."""
FEW_LABELS = {
    "ours": ("--model.optimizer.learning_rate", "5e-4", "--model.optimizer.trunk", "0.1"),
    "scratch": ("--model.optimizer.learning_rate", "2e-3"),
}
"""Rates of fine-tuning on few labels: what was pretrained is moved little."""


class Job(NamedTuple):
    """One arm to be run: on which cohort, with which seed, and with how many percent of the labels."""

    cohort: str
    arm: str
    seed: int
    labelled: int

    @property
    def name(self) -> str:
        """Name of its part, and of what it leaves under runs/learning."""
        budget = "" if self.labelled == 100 else f"-{self.labelled}"
        return f"{self.arm}{budget}-{self.seed}"

    @property
    def runs(self) -> Path:
        """Folder of its cohort's runs."""
        return RUNS / self.cohort


def matches(cohort: Cohort) -> list[Match]:
    """Return every outcome and horizon of a cohort; both sides have the same axes."""
    horizons = cohort.registry.horizons
    return [
        Match(name, int(horizons[k, h]), (k, h), (k, h))
        for k, name in enumerate(cohort.registry.names)
        for h in range(horizons.shape[1])
        if horizons[k, h] >= 0
    ]


def prevalence(cohort: Cohort, asked: Questions, job: Job) -> Floats:
    """Answer everyone with the share of positive training labels."""
    labels, positives = counts(questions_of(cohort, "train"))
    return np.broadcast_to((positives + 0.5) / (labels + 1), asked.label.shape).astype(np.float32)


def age_sex(cohort: Cohort, asked: Questions, job: Job) -> Floats:
    """Answer by a logistic regression on age, its square and sex."""
    train = questions_of(cohort, "train")
    x, given = (demography(cohort, part) for part in (train, asked))
    mean, spread = x.mean(0), np.maximum(x.std(0), 1e-6)
    found = prevalence(cohort, asked, job)
    for held in matches(cohort):
        k, h = held.cohort
        known = ~np.isnan(train.label[:, k, h])
        label = train.label[known, k, h] == 1
        if 0 < label.sum() < len(label):
            model = LogisticRegression(C=1.0).fit((x[known] - mean) / spread, label)
            found[:, k, h] = model.predict_proba((given - mean) / spread)[:, 1]
    return found


def demography(cohort: Cohort, asked: Questions) -> npt.NDArray[np.float64]:
    """Return age in years, its square, and whether each static code of sex stands there, f64 [N, 2 + S]."""
    from pipelines.cohort import timelines

    source = timelines(cohort)
    sexes = [number for number, code in enumerate(cohort.vocabulary.codes) if code.startswith("SEX//")]
    rows: list[list[float]] = []
    for subject, time in zip(asked.subject.tolist(), asked.time.tolist(), strict=True):
        record = source.record(subject)
        age = (time - record.birth) / 86_400_000_000 / 365.25 if record.birth is not None else 0.0
        rows.append([age, age**2, *(float(sex in record.token[:8]) for sex in sexes)])
    return np.array(rows, dtype=np.float64)


def tabular(cohort: Cohort, asked: Questions, job: Job) -> Floats:
    """Answer by count features; both models of `contest` are fitted at once, and the other one is kept."""
    names = {"logistic": "logistic_regression", "boosting": "gradient_boosting"}
    kept = {arm: job.runs / "tabular" / f"{job._replace(arm=arm).name}-{len(asked.subject)}.npy" for arm in names}
    if not kept[job.arm].is_file():
        found = contest(cohort, asked, matches(cohort))
        for arm, path in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, found[names[arm]])
    return np.load(kept[job.arm])


def neural(cohort: Cohort, asked: Questions, job: Job) -> Floats:
    """Answer by one of the neural rivals, as its file under configs/rivals describes it."""
    from pipelines import rivals

    return rivals.answer(cohort, rivals.read(CONFIGS / "rivals" / f"{job.arm}.yaml"), asked)


def ours(cohort: Cohort, asked: Questions, job: Job) -> Floats:
    """Answer by the network, pretrained and fine-tuned by the verbs; the arm `scratch` is not pretrained.

    With all labels the exported file answers; with fewer, where our two arms are compared alone, the run itself.
    """
    tuned = finetuned(cohort, job)
    release = job.runs / f"{job.name}-release"
    if job.labelled == 100:
        call(["export", tuned, release, "--cohort", cohort.path], release)
    model = open_model(release if job.labelled == 100 else tuned)
    logit = ask(model, cohort, asked, "predicting, samples").logit
    return placed(calibration.apply(model.calibration, logit), matches(cohort), asked)


def finetuned(cohort: Cohort, job: Job) -> Path:
    """Return the fine-tuned run of an arm, trained where an earlier call did not; an interrupted verb goes on."""
    plan, run = PLANS[job.cohort], job.runs / job.name
    seed = ("--seed_everything", str(job.seed))
    shape = (*(part.replace("--", "--model.") for part in plan.network), "--data.max_length", str(plan.max_length))
    first, second = (("--data.tokens", "4096", "--trainer.max_epochs", str(epochs)) for epochs in plan.epochs)
    finetune = ["finetune", "--config", CONFIGS / "finetune.yaml", "--cohort", cohort.path, "--output", run]
    if job.labelled < 100:
        # Few labels make short epochs: as many more of them, and a look at the tuning split now and then. Both arms
        # take the same steps, each at the rates that its own tuning split preferred; neither is told a summary.
        epochs, look = MORE_EPOCHS[job.labelled]
        second = (*second[:-1], str(epochs), "--trainer.check_val_every_n_epoch", str(look), "--patience", "0")
        rates = FEW_LABELS[job.arm]
    else:
        rates = ("--model.summary", "true", *plan.finetuning)
    if job.arm == "scratch":
        call([*finetune, *second, *rates, *shape, *seed], run)
        return run
    # One pretraining serves every number of labels: it sees none.
    pretrained = job.runs / f"pretrained-{job.seed}"
    pretrain = ["pretrain", "--config", CONFIGS / "pretrain.yaml", "--cohort", cohort_of(job.cohort)]
    call([*pretrain, "--output", pretrained, *first, *plan.pretraining, *shape, *seed], pretrained)
    call([*finetune, "--pretrained", pretrained, *second, *rates, *seed], run)
    return run


def call(arguments: list[str | Path], made: Path) -> None:
    """Run a training verb whose run is not there."""
    if (made / "manifest.json").is_file():
        return
    command = verb(*arguments)
    print(shlex.join(command[3:]), flush=True)
    done = subprocess.run(command, cwd=ROOT, check=False).returncode
    if done:
        raise SystemExit(done)


ARMS: dict[str, Callable[[Cohort, Questions, Job], Floats]] = {
    "ours": ours,
    "scratch": ours,
    "prevalence": prevalence,
    "age_sex": age_sex,
    "logistic": tabular,
    "boosting": tabular,
    **dict.fromkeys(("gru", "masked", "published", "decoder"), neural),
}


def answers(job: Job, path: Path, split: str) -> tuple[Cohort, Questions, Floats]:
    """Return a cohort, the questions of a split and an arm's probabilities f32 [N, K, H]."""
    cohort = open_cohort(path)
    asked = questions_of(cohort, split)
    return cohort, asked, ARMS[job.arm](cohort, asked, job)
