"""Records for robustness on synthea_large: one small network twice, fine-tuned as usual and with noise.

From random weights, so that the two differ in nothing but the noise. The network is small and reads the latest 128
tokens, since two cores train it.
"""

import subprocess
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.cohort import Cohort, events, open_cohort, splits
from pipelines.samples import Questions, questions_of
from tests.benchmarks.harness import ROOT, verb
from tests.benchmarks.learning.cohorts import ready

RUNS = ROOT / "runs" / "robust"
COHORT = "synthea_large"
ARMS = {"standard": (), "noise": ("--data.noise", "ehr.shifts.noise.RecordNoise")}
SHAPE = (
    *("--model.network.width", "32", "--model.network.heads", "2"),
    *("--model.network.encoder_layers", "1", "--model.network.decoder_layers", "1"),
    *("--data.max_length", "128", "--data.tokens", "4096", "--model.optimizer.learning_rate", "3e-3"),
    *("--trainer.max_epochs", "5", "--patience", "0", "--trainer.accelerator", "cpu", "--no-estimate"),
)
LATEST = 600
"""Events of a record, at most: four fifths of what the network reads of a record remain where most are lost."""


def run_of(arm: str) -> Path:
    """Return a fine-tuned run, made where an earlier call did not."""
    folder = RUNS / COHORT / arm
    if not (folder / "manifest.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        given = ("--config", ROOT / "configs" / "finetune.yaml", "--cohort", ready(COHORT), "--output", folder)
        subprocess.run([*verb("finetune", *given), *SHAPE, *ARMS[arm]], cwd=ROOT, check=True)
    return folder


def asked_of(cohort: Cohort, split: str) -> Questions:
    """Return the questions of a split."""
    return questions_of(cohort, split)


def index_of(asked: Questions) -> pl.DataFrame:
    """Return subject_id and prediction_time."""
    frame = pl.DataFrame({"subject_id": asked.subject, "prediction_time": asked.time})
    return frame.with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))


def latest(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return records cut to their statics, birth and latest dated events."""
    left = pl.len().over("subject_id", "prediction_time") - pl.int_range(pl.len()).over("subject_id", "prediction_time")
    return frame.filter((pl.col("visit") == 0) | (left <= most))


def own_events(cohort: Cohort, subjects: pl.LazyFrame) -> pl.LazyFrame:
    """Return the events of some patients."""
    return pl.concat(events(cohort)).join(subjects, on="subject_id", how="semi", maintain_order="left")


def training(cohort: Cohort, most: int) -> pl.LazyFrame:
    """Return the events of some training patients, evenly spread, at most so many."""
    held = splits(cohort).filter(split="train")["subject_id"].to_numpy()
    some = held[np.linspace(0, len(held) - 1, min(most, len(held))).astype(np.int64)]
    return own_events(cohort, pl.LazyFrame({"subject_id": some}))


def opened() -> Cohort:
    """Return the cohort."""
    return open_cohort(ready(COHORT))
