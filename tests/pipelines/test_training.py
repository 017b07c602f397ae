"""Training verbs: complete settings, the same weights after a stop, one loss whatever the number of processes."""

import re
import signal
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
import torch
import yaml

from ehr.batches import collate
from ehr.continuation import AnamnesisForCausalLM
from ehr.generation import sample
from ehr.grammar import IMPOSSIBLE
from ehr.model import Anamnesis
from ehr.timelines import cut
from ehr.unrolling import GENERATING
from pipelines import cli, training
from pipelines.cohort import open_cohort, splits, timelines
from pipelines.data import FinetuningData, PretrainingData, tensors
from pipelines.modules import Finetuning, Pretraining
from pipelines.predict import load_network
from tests.chain import command
from tests.faults import kill

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def flat(content, path=()):
    """Yield the settings of a YAML file as paths and values."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), value


@pytest.mark.parametrize(
    ("name", "module", "data"), [("pretrain", Pretraining, PretrainingData), ("finetune", Finetuning, FinetuningData)]
)
def test_complete_configs_are_the_defaults(name, module, data, tmp_path):
    (tmp_path / "empty.yaml").write_text("{}\n")
    stated = dict(flat(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())))
    defaults = dict(flat(yaml.safe_load(training.settings(module, data, tmp_path / "empty.yaml", []).text)))
    same = {path: defaults.get(path) for path in stated}
    # Lightning's own default of precision has no name.
    assert {**same, ("trainer", "precision"): "32-true"} == stated
    ours = {path for path in defaults if path[0] in {"model", "data"} and path != ("data", "seed")}
    # Fine-tuning takes the length of the pretrained network.
    assert ours - set(stated) <= {("data", "max_length")} & ({("data", "max_length")} if name == "finetune" else set())


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_configs_of_the_demo_are_read(name):
    kinds = {"pretrain": (Pretraining, PretrainingData), "finetune": (Finetuning, FinetuningData)}[name]
    assert training.settings(*kinds, CONFIGS / "demo" / f"{name}.yaml", []).seed == 7


def weights(run):
    return safetensors.numpy.load_file(run / "model" / "model.safetensors")


def pretrain(chain, output, *more):
    config = chain.cohort.parent / "pretrain.yaml"
    return [
        "pretrain",
        "--config",
        str(config),
        "--cohort",
        str(chain.cohort),
        "--output",
        str(output),
        *map(str, more),
    ]


def test_what_a_run_holds_is_what_from_pretrained_reads(chain):
    network = Anamnesis.from_pretrained(chain.pretrained / "model")
    held = weights(chain.pretrained)
    assert set(held) <= set(network.state_dict())
    for name, value in network.state_dict().items():
        if name in held:
            assert np.array_equal(value.numpy(), held[name])
    rows = [line.split(",") for line in (chain.pretrained / "metrics.csv").read_text().splitlines()[1:]]
    # Fewer steps than the ten between two rows of train/loss.
    assert {row[2] for row in rows} == {"tuning/loss"}


def test_a_signal_stops_with_75_and_the_next_run_ends_with_the_same_weights(chain, tmp_path):
    more = ("--no-estimate", "--trainer.max_epochs", 15, "--checkpoint-steps", 1)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    found = command(*pretrain(chain, whole, *more))
    assert found.returncode == 0, found.stderr
    process = kill.start(pretrain(chain, stopped, *more))
    checkpoint = tmp_path / ".stopped.partial" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 200
    while not checkpoint.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 75, errors.decode()
    assert not stopped.exists()
    found = command(*pretrain(chain, stopped, *more))
    assert found.returncode == 0, found.stderr
    assert "going on from step" in found.stderr
    one, other = weights(whole), weights(stopped)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert (whole / "metrics.csv").read_text() == (stopped / "metrics.csv").read_text()


def test_an_interrupted_run_of_other_settings_is_not_mixed(chain, tmp_path):
    folder = tmp_path / ".run.partial"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed_everything: 3\n")
    found = command(*pretrain(chain, tmp_path / "run"))
    assert found.returncode == 2
    assert "an interrupted run with other settings" in found.stderr.splitlines()[-1]


def test_a_loss_that_is_not_finite_names_the_batch(chain, tmp_path):
    more = ("--no-estimate", "--model.optimizer.learning_rate", 1e30, "--model.optimizer.warmup", 0)
    found = command(*pretrain(chain, tmp_path / "run", *more))
    assert found.returncode == 2
    last = found.stderr.splitlines()[-1]
    assert "loss is" in last
    assert "in batch" in last
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(chain, tmp_path):
    more = ("--no-estimate", "--model.network.dropout", 0, "--trainer.accelerator", "cpu")
    for name, extra in (("one", ()), ("two", ("--trainer.devices", 2, "--trainer.strategy", "ddp"))):
        found = command(*pretrain(chain, tmp_path / name, *more, *extra))
        assert found.returncode == 0, found.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    apart = max(float(np.abs(one[name] - two[name]).max(initial=0)) for name in one)
    assert apart < 1e-3
    assert torch.isfinite(torch.tensor(apart))


def test_accumulated_batches_and_bf16_train(chain, tmp_path):
    more = ("--trainer.accumulate_grad_batches", 2, "--trainer.precision", "bf16-mixed", "--trainer.max_epochs", 1)
    found = command(*pretrain(chain, tmp_path / "run", *more))
    assert found.returncode == 0, found.stderr
    assert all(np.isfinite(value).all() for value in weights(tmp_path / "run").values())
    assert "memory about" in found.stderr
    assert re.search(r"[\d,]+ tokens/s, padding \d+\.\d%, MFU \d+\.\d%, memory \d+\.\d\d GiB", found.stderr)


def test_a_dry_run_goes_to_the_end_and_keeps_nothing(chain, tmp_path):
    config = ("--config", chain.cohort.parent / "finetune.yaml", "--cohort", chain.cohort)
    more = ("--pretrained", chain.pretrained, "--output", tmp_path / "run", "--trainer.fast_dev_run", "true")
    found = command("finetune", *config, *more)
    assert found.returncode == 0, found.stderr
    assert found.stderr.splitlines()[-1] == "dry run: these settings train to the end; nothing was kept"
    assert list(tmp_path.iterdir()) == []


def test_the_older_fsdp_is_refused(chain, tmp_path):
    found = command(*pretrain(chain, tmp_path / "run", "--trainer.strategy", "fsdp"))
    assert found.returncode == 2
    assert "fsdp2" in found.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("objective", GENERATING)
def test_what_was_trained_to_generate_generates_and_is_fine_tuned(chain, tmp_path, objective):
    more = ("--no-estimate", "--model.objective", objective)
    assert cli.main(pretrain(chain, tmp_path / "run", *more)) == 0
    network = AnamnesisForCausalLM.from_pretrained(tmp_path / "run" / "model", local_files_only=True).eval()
    cohort = open_cohort(chain.cohort)
    subjects = splits(cohort).filter(pl.col("split") == "tuning")["subject_id"].head(3).to_list()
    records = [timelines(cohort).record(subject) for subject in subjects]
    samples = [cut(record, int(record.time[-1]), max_length=64) for record in records]
    batch = tensors(collate([samples], sum(len(one.token) for one in samples)))
    found = sample(network, batch, horizon_days=365, samples=2, seed=0)
    assert len(found.ended) == 6
    assert (network.rules().kind[found.token[found.token < cohort.vocabulary.size]] != IMPOSSIBLE).all()
    settings = ["--config", chain.cohort.parent / "finetune.yaml", "--cohort", chain.cohort, "--no-estimate"]
    made = ["finetune", *settings, "--pretrained", tmp_path / "run", "--output", tmp_path / "tuned"]
    assert cli.main([str(word) for word in made]) == 0
    assert load_network(tmp_path / "tuned").config.outcomes


def test_generating_objectives_need_visit_causal_attention(chain, tmp_path):
    more = ("--model.objective", "permuted_ce", "--model.network.attention", "bidirectional")
    found = command(*pretrain(chain, tmp_path / "run", *more))
    assert found.returncode == 2
    assert "visit_causal" in found.stderr


def test_every_objective_trains_beside_what_is_asked_too(chain, tmp_path):
    more = ("--no-estimate", "--model.objective", "set_asl", "--model.auxiliary.hazards", 1, "--model.auxiliary.values")
    assert cli.main(pretrain(chain, tmp_path / "run", *more, 1)) == 0
    network = load_network(tmp_path / "run")
    assert network.config.asks == ["hazards", "values"]
    assert not torch.equal(network.hazards.query, torch.zeros_like(network.hazards.query))
    vocabulary = open_cohort(chain.cohort).vocabulary
    assert np.array_equal(network.values.level.numpy(), vocabulary.levels(), equal_nan=True)
    found = command(*pretrain(chain, tmp_path / "other", *more, 1, "--model.objective", "permuted_ce"))
    assert found.returncode == 2
    assert "model.auxiliary asks for hazards and values" in found.stderr
