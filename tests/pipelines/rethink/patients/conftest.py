"""A small cohort of hidden types, and a network that generates, made by the verbs once."""

from typing import NamedTuple

import pytest

from ehr.simulator import cohort as simulator
from pipelines.cli import main
from pipelines.cohort import open_cohort
from pipelines.rethink.patients import gathering
from pipelines.rethink.patients.running import Plan, rethink
from pipelines.rethink.patients.settings import Rethinking
from tests import chain
from tests.docs import ROOT

PRETRAIN = """seed_everything: 0
model:
  network: {width: 16, heads: 2, encoder_layers: 1, decoder_layers: 1, dropout: 0.0}
  objective: permuted_ce
  optimizer: {learning_rate: 1.0e-2}
data: {tokens: 2048, max_length: 64}
trainer: {max_epochs: 3, accelerator: cpu, enable_progress_bar: false}
"""
SETTINGS = Rethinking(samples=6, max_tokens=40, neighbours=15, fitting=12, reach=True, bootstrap=20, floor_least=2.0)
PATIENTS = 250


class Made(NamedTuple):
    """Where the verbs left what."""

    records: object
    cohort: object
    run: object
    out: object
    report: dict


def prepare(records, target, *words):
    outcomes = ROOT / "configs" / "rethink" / "patients-outcomes.yaml"
    given = [records, target, "--outcomes", outcomes, "--workers", 1, "--no-gates", "--fractions", "0.7,0.05,0.05,0.2"]
    assert main(["prepare", *map(str, [*given, *words])]) == 0


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return records, cohort, run and a first result."""
    folder = tmp_path_factory.mktemp("patients")
    frame, _ = simulator.cohort(PATIENTS, seed=3, mechanism=simulator.HIDDEN_TYPES, with_truth=False)
    chain.write_records(frame, folder / "records", files=1)
    prepare(folder / "records", folder / "cohort")
    (folder / "pretrain.yaml").write_text(PRETRAIN)
    words = ("--config", folder / "pretrain.yaml", "--cohort", folder / "cohort", "--output", folder / "run")
    assert main(["pretrain", *map(str, words)]) == 0
    report = rethink(folder / "run", folder / "cohort", folder / "out", SETTINGS, Plan())
    return Made(folder / "records", folder / "cohort", folder / "run", folder / "out", report)


@pytest.fixture(scope="session")
def opened(made):
    """Return the cohort, the network, and what all patients share."""
    held = open_cohort(made.cohort)
    model = gathering.model_of(made.run, held)
    world, left = gathering.world_of(held, model, SETTINGS)
    assert left == {}
    return held, model, world
