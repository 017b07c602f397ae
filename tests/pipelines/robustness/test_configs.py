"""Every file of configs/robust is read, and trains two steps."""

from pathlib import Path

import pytest
import torch

from ehr.network import Network
from ehr.shifts.noise import RecordNoise
from pipelines import training
from pipelines.cohort import open_cohort
from pipelines.data import FinetuningData, Step
from pipelines.modules import Finetuning, new_network
from tests.docs import ROOT
from tests.pipelines import cohorts

FILES = sorted((ROOT / "configs" / "robust").glob("*.yaml"))
TINY = Network(width=16, heads=2, encoder_layers=1, decoder_layers=1, dropout=0.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return open_cohort(cohorts.write(tmp_path_factory.mktemp("cohort"), 40))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_trains_two_steps(path: Path, cohort):
    made = training.settings(Finetuning, FinetuningData, path, ["--data.tokens", "512"])
    module, data = made.module, made.data
    assert isinstance(data.noise, RecordNoise)
    torch.manual_seed(0)
    network = new_network(TINY, cohort.vocabulary, 64)
    data.max_length = 64
    module.build(network, cohort.vocabulary, cohort.registry, data.open(cohort, share=True))
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        # The same batch, so that the loss falls whatever was drawn.
        step: Step = data.first()[0]
        loss = module.loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
