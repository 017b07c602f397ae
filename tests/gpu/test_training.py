"""Training on an accelerator: the losses of the CPU, in float32 and near them in bf16; skipped where there is none."""

import pytest
import torch

from tests.chain import command
from tests.scale import curves

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator, and this machine has none"),
]
STEPS = 20


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return a folder with a cohort, and the losses of the CPU."""
    folder = curves.prepare(tmp_path_factory.mktemp("gpu"))
    curves.finish(curves.command(folder, folder / "cpu", 1, steps=STEPS))
    return folder, curves.losses(folder / "cpu" / "metrics.csv")


def train(folder, name, *more):
    """Train on accelerators and return losses and what was said."""
    words = curves.command(folder, folder / name, 1, steps=STEPS)[3:]
    found = command(*words, "--trainer.accelerator", "gpu", *more)
    assert found.returncode == 0, found.stderr
    return curves.losses(folder / name / "metrics.csv"), found.stderr


def test_float32_is_the_cpu(reference):
    folder, expected = reference
    found, said = train(folder, "float32", "--trainer.devices", "1")
    assert curves.apart(expected, found) < 1e-3
    assert "memory" in said


@pytest.mark.parametrize("flag", ["--model.compile", "--model.activation_checkpointing"])
def test_flags_change_no_loss(reference, flag):
    folder, expected = reference
    found, _ = train(folder, flag.rpartition(".")[2], "--trainer.devices", "1", flag, "true")
    assert curves.apart(expected, found) < 1e-3


def test_bf16_is_near(reference):
    folder, expected = reference
    found, _ = train(folder, "bf16", "--trainer.devices", "1", "--trainer.precision", "bf16-mixed")
    assert curves.apart(expected, found) < 0.1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two accelerators")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_devices_are_one(reference, strategy):
    folder, expected = reference
    found, _ = train(folder, strategy, "--trainer.devices", "2", "--trainer.strategy", strategy)
    assert curves.apart(expected, found) < 1e-3
