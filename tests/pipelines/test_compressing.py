"""Compression by training: a run that export packs, the same after a stop, and mistakes in one line."""

import json
import signal

import numpy as np
import pytest
import torch
from torch import nn

from compress.distillation import Distillation, hidden_mse, soft_bce, soft_ce, tapped
from compress.hyperspherical.layer import held
from compress.hyperspherical.schedules import LossAwareTernary
from compress.layers import as_matrix, find
from compress.sizes import recovered
from pipelines import cli
from pipelines.callbacks import checkpoints
from pipelines.cohort import open_cohort
from pipelines.compress import settings
from pipelines.compressing import Recoverable, Trained, alone, prepared
from pipelines.compression import Work
from pipelines.export import read_run
from pipelines.targets import CLAIMED, claims
from tests.docs import ROOT
from tests.faults.kill import digests

TERNARY = """method:
  class_path: pipelines.compressing.Trained
  init_args:
    schedule: {class_path: compress.hyperspherical.schedules.LossAwareTernary, init_args: {drawing: 0.4}}
    layers: ["@blocks", embedding]
    steps: 10
    tokens: 512
budget: {auroc_drop: 1.0}
gate_split: train
bootstrap: 20
"""
RECOVERABLE = """method:
  class_path: pipelines.compressing.Recoverable
  init_args:
    sparsity: 0.5
    training:
      schedule: {class_path: compress.hyperspherical.schedules.RecoverablePruning}
      distillation: null
      layers: ["@blocks"]
      steps: 3
      tokens: 512
budget: {auroc_drop: 1.0}
gate_split: train
bootstrap: 20
"""


def run(chain, folder, config, *rest, name="small"):
    """Run the verb in this process and return its exit code."""
    (folder / "config.yaml").write_text(config)
    words = ["compress", str(chain.tuned), str(chain.cohort), str(folder / name)]
    return cli.main([*words, "--config", str(folder / "config.yaml"), *rest])


@pytest.fixture(scope="module")
def small(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ternary")
    before = digests(chain.tuned)
    assert run(chain, folder, TERNARY) == 0
    assert digests(chain.tuned) == before, "the run given stays as it is"
    return folder / "small"


def test_a_ternary_run_holds_three_values_a_row_and_says_so(small):
    read = read_run(small)
    layers = find(read.network, ("@blocks", "embedding"))
    said = claims(small / CLAIMED)
    assert said.keys() == layers.keys()
    for name, module in layers.items():
        found = recovered(as_matrix(module).numpy())
        assert found is not None, name
        assert np.array_equal(found.codes, said[name].codes)
        assert np.array_equal(found.scale, said[name].scale)
    assert torch.equal(read.network.table(), read.network.embedding.weight), "rows are what a file looks up"
    told = read.manifest["compression"]
    assert told["method"] == "ternary"
    assert told["settings"]["schedule"]["class_path"].endswith("LossAwareTernary")
    content = json.loads((small / "compression.json").read_text())["compression"]
    assert {layer["bits"] for layer in content["layers"]} == {2}
    assert content["sizes"]["layers after"]["packed"] < content["sizes"]["layers before"]["packed"] / 8
    assert not (small / "blocks").exists()


def test_export_packs_it(small, tmp_path):
    words = ["export", str(small), str(tmp_path / "release"), "--target", "cpu", "--embeddings", "trits"]
    assert cli.main(words) == 0
    told = json.loads((tmp_path / "release" / "compression.json").read_text())
    assert set(told["settings"]["formats"].values()) <= {"trits", "bitmap"}
    assert all(layer["error"] == 0 for layer in told["layers"])


def test_a_stop_and_going_on_give_the_same_bytes(chain, small, tmp_path, monkeypatch):
    ask = checkpoints.Resume.on_train_batch_end

    def interrupt(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 3:
            self.ask(signal.SIGTERM, None)
        ask(self, trainer, module, outputs, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Resume, "on_train_batch_end", interrupt)
        assert run(chain, tmp_path, TERNARY) == cli.STOPPED
    assert not (tmp_path / "small").exists()
    assert run(chain, tmp_path, TERNARY) == 0
    ours, whole = digests(tmp_path / "small"), digests(small)
    assert {name: ours[name] for name in ours if "model" in name or name == CLAIMED} == {
        name: whole[name] for name in whole if "model" in name or name == CLAIMED
    }


def test_a_recoverable_run_is_pruned_to_its_share_and_dense_no_longer(chain, tmp_path):
    assert run(chain, tmp_path, RECOVERABLE) == 0
    read = read_run(tmp_path / "small")
    for name, module in find(read.network).items():
        rows, columns = as_matrix(module).shape
        assert int((as_matrix(module) == 0).sum()) == rows * round(columns / 2), name
    assert read.manifest["compression"]["method"] == "recoverable"
    assert not (tmp_path / "small" / CLAIMED).exists()


def test_folding_ancestors_away_changes_no_answer(chain):
    network = read_run(chain.tuned).network
    before = network.table().clone()
    alone(network)
    assert network.config.ancestor_links == 0
    assert torch.equal(network.table(), before)


def test_the_teacher_says_what_the_student_starts_with_and_is_not_trained(chain, tmp_path):
    network = read_run(chain.tuned).network
    made = Trained(schedule=LossAwareTernary(penalty_weight=0), distillation=Distillation(labels=0), tokens=512)
    module, data = prepared(made, Work(network, open_cohort(chain.cohort), tmp_path))
    type(module).global_step = 0
    content = data.first()[0].content
    try:
        made.schedule.before_step(module.network, 0, 10)
        start, count = module.parts(content)
        assert float((start / count).detach()) == pytest.approx(0, abs=1e-5)
        made.schedule.before_step(module.network, 9, 10)
        later, _ = module.parts(content)
        assert float((later / count).detach()) > 1e-3
        later.backward()
    finally:
        del type(module).global_step
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(layer.originals[0].grad is not None for _, layer in held(module.network))
    assert not any(name.startswith("teacher") for name in module.state_dict())


def test_distillation_is_zero_where_both_agree_and_counts_no_padding():
    torch.manual_seed(0)
    one, two = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    assert float(soft_bce(one, one)) == pytest.approx(0, abs=1e-6)
    assert float(soft_ce(one, one)) == pytest.approx(0, abs=1e-6)
    p, q = two.sigmoid(), one.sigmoid()
    by_hand = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert float(soft_bce(one, two)) == pytest.approx(float(by_hand), rel=1e-5)
    p, q = two.softmax(-1), one.softmax(-1)
    assert float(soft_ce(one, two)) == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-5)
    kept = torch.tensor([True, True, False, False])[:, None].expand(4, 3)
    whole = hidden_mse({"b": one}, {"b": two}, lambda name, output: kept)
    assert float(whole) == pytest.approx(float(hidden_mse({"b": one[:2]}, {"b": two[:2]})), rel=1e-6)


def test_blocks_are_tapped_while_asked_for_alone():
    model = nn.Sequential()
    model.blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    x = torch.randn(2, 3)
    with tapped(model) as found:
        y = model.blocks[1](model.blocks[0](x))
    assert list(found) == ["blocks.0", "blocks.1"]
    assert torch.equal(found["blocks.1"], y)
    found.clear()
    model.blocks[0](x)
    assert not found


@pytest.mark.parametrize(
    ("config", "rest", "told"),
    [
        (TERNARY, ("--method.init_args.steps", "0"), "steps"),
        (TERNARY, ("--method.init_args.dropout", "1"), "dropout is 1"),
        (TERNARY, ("--method.init_args.layers", "[embedding_]"), "nearest"),
        (TERNARY, ("--method.init_args.schedule.init_args.drawing", "2"), "drawing is 2"),
        (TERNARY, ("--method.init_args.schedule.class_path", "nothing.Here"), "config.yaml"),
        (TERNARY, ("--method.init_args.distillation.hidden", "-1"), "expected 0 or more"),
        (RECOVERABLE, ("--method.init_args.sparsity", "2"), "sparsity is 2"),
        (RECOVERABLE, ("--method.init_args.recoveries", "[]"), "recoveries: none"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(chain, tmp_path, capsys, config, rest, told):
    assert run(chain, tmp_path, config, *rest) == cli.BAD_INPUT
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("anamnesis compress: ")
    assert told in error
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml"}


def test_the_shipped_files_are_read():
    folder = ROOT / "configs" / "compress"
    ternary = settings(folder / "ternary.yaml", []).method
    layers, schedule = ["@blocks", "embedding"], LossAwareTernary(drawing=0.2)
    assert ternary == Trained(schedule=schedule, layers=layers)
    assert settings(folder / "hq.yaml", []).method.schedule.sparsity == 0.7
    assert isinstance(settings(folder / "recoverable.yaml", []).method, Recoverable)
