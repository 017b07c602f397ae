"""The whole chain once, at the smallest size at which every verb has something to do."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tests.pipelines import cohorts

PRETRAIN = """seed_everything: 1
model:
  network: {width: 16, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0.1}
data: {tokens: 1024, max_length: 64}
trainer: {max_epochs: 2, accelerator: cpu}
"""
FINETUNE = """seed_everything: 1
data: {tokens: 1024}
trainer: {max_epochs: 2, accelerator: cpu}
"""
PATIENTS = 200


class Chain(NamedTuple):
    """What each verb left, in order."""

    records: Path
    outcomes: Path
    cohort: Path
    pretrained: Path
    tuned: Path
    release: Path


def write_records(frame: pl.DataFrame, folder: Path, *, files: int = 3) -> Path:
    """Write EVENTS as MEDS: files of whole patients."""
    (folder / "data").mkdir(parents=True)
    for at in range(files):
        part = frame.filter(pl.col("subject_id") % files == at)
        part.sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(
            folder / "data" / f"{at}.parquet"
        )
    return folder


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a verb in an interpreter of its own."""
    words = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=280)


def make(folder: Path) -> Chain:
    """Run prepare, pretrain, finetune and export."""
    made = Chain(
        folder / "records",
        folder / "outcomes.yaml",
        folder / "cohort",
        folder / "pretrained",
        folder / "tuned",
        folder / "release",
    )
    write_records(cohorts.events(PATIENTS), made.records)
    made.outcomes.write_text(cohorts.OUTCOMES)
    (folder / "pretrain.yaml").write_text(PRETRAIN)
    (folder / "finetune.yaml").write_text(FINETUNE)
    steps = (
        ("prepare", made.records, made.cohort, "--outcomes", made.outcomes, "--min-patients", 2),
        ("pretrain", "--config", folder / "pretrain.yaml", "--cohort", made.cohort, "--output", made.pretrained),
        (
            *("finetune", "--config", folder / "finetune.yaml", "--cohort", made.cohort),
            *("--pretrained", made.pretrained, "--output", made.tuned),
        ),
        ("export", made.tuned, made.release, "--cohort", made.cohort),
    )
    for step in steps:
        found = command(*step)
        assert found.returncode == 0, found.stderr
    return made
