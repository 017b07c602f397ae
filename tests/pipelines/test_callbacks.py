"""Callbacks of training: signals are heard by ours alone, and given back; what a checkpoint promises is written."""

import csv
import os
import signal
import warnings
from types import SimpleNamespace

import pytest
import pytorch_lightning as lightning
import torch

from pipelines import training
from pipelines.callbacks.checkpoints import HEARD, NEXT, AtomicCheckpoints, Resume, Stopped
from pipelines.callbacks.curves import Curves


def loop(batch, *, last=False, every=3):
    """Return what the callback asks of a trainer behind a batch."""
    return SimpleNamespace(
        world_size=1,
        is_global_zero=True,
        global_step=batch + 1,
        accumulate_grad_batches=1,
        is_last_batch=last,
        val_check_batch=float("inf"),
        check_val_every_n_epoch=1,
        save_checkpoint=lambda path: path.write_text(str(batch + 1)),
    )


@pytest.mark.parametrize("number", HEARD)
def test_a_signal_waits_for_the_next_place_to_stop_at_and_reaches_nobody_else(tmp_path, number):
    before = [signal.getsignal(heard) for heard in HEARD]
    resume, others = Resume(tmp_path, every=100), []
    resume.on_fit_start(loop(-1), None)
    # Lightning begins to listen between the two hooks, and would end the process with 0.
    for heard in HEARD:
        signal.signal(heard, lambda *_: others.append(1))
    resume.on_train_start(loop(-1), None)
    os.kill(os.getpid(), number)
    resume.on_train_batch_end(loop(0, last=True), None, None, None, 0)
    assert not resume.path.exists()
    resume.on_train_batch_end(loop(1), None, None, None, 1)
    assert not resume.path.exists()
    with pytest.raises(Stopped):
        resume.on_train_batch_start(loop(1), None, None, 2)
    assert resume.path.read_text() == "2"
    resume.teardown(None, None, "fit")
    assert others == []
    assert [signal.getsignal(heard) for heard in HEARD] == before


class Line(lightning.LightningModule):
    """The least that trains: one weight, whose loss is the number of its step; told when a step is done."""

    def __init__(self, done):
        super().__init__()
        self.weight, self.done = torch.nn.Parameter(torch.zeros(())), done

    def training_step(self, batch, number):
        self.log("train/loss", self.weight * 0 + float(self.global_step))
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_batch_end(self, outputs, batch, number):
        self.done(self.global_step)


def fit(folder, done, *, every=3, steps=20):
    """Train to a number of steps, from the last checkpoint where there is one; return the callback."""
    resume, curves = Resume(folder, every=every), Curves(folder)
    found = resume.path if resume.path.exists() else None
    if found:
        curves.rewind(AtomicCheckpoints().load_checkpoint(found)["global_step"])
    with warnings.catch_warnings():
        # Of a loader of numbers: few workers, and not resumable, which nothing here depends on.
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=steps, accelerator="cpu", logger=curves, callbacks=[resume], enable_checkpointing=False,
            log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False, plugins=[AtomicCheckpoints()],
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(range(100), batch_size=1)
        trainer.fit(Line(done), loader, ckpt_path=found, weights_only=True)
    return resume


def steps_of(folder):
    """Return the steps of a curve, in the order of its rows."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["metric"] == "train/loss"]


@pytest.mark.parametrize("at", [2, 7, 17])
@pytest.mark.parametrize("how", ["told", "died"])
def test_a_curve_that_is_gone_on_with_has_every_step_once(tmp_path, how, at):
    """Told to stop, or dead the moment that a checkpoint is written and its row is not yet."""

    def tell(step):
        if step == at:
            os.kill(os.getpid(), signal.SIGUSR1)

    def die(step):
        if step >= at and (tmp_path / NEXT).exists():
            raise MemoryError

    if how == "told":
        with pytest.raises(Stopped):
            fit(tmp_path, tell)
    else:
        with pytest.raises(MemoryError):
            fit(tmp_path, die, every=1)
    fit(tmp_path, lambda _: None)
    assert steps_of(tmp_path) == list(range(20))
    assert not (tmp_path / NEXT).exists()


def test_who_is_told_at_the_last_step_is_done(tmp_path):
    resume = fit(tmp_path, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 20 else None)
    assert resume.asked
    assert steps_of(tmp_path) == list(range(20))


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_refuses_an_interrupted_run_of_other_settings(tmp_path, rank):
    """The first one ends with an error; another one that did not would wait for it for half an hour."""
    partial = tmp_path / ".run.partial"
    partial.mkdir()
    (partial / "config.yaml").write_text("model: {width: 16}\ntrainer: {devices: 1}\n")

    def go_on(text):
        made = SimpleNamespace(trainer=SimpleNamespace(global_rank=rank), text=text)
        with training.run_folder(tmp_path / "run", made, overwrite=False) as folder:
            assert folder == partial
            raise Stopped

    with pytest.raises(Stopped):
        go_on("model: {width: 16}\ntrainer: {devices: 2}\n")
    with pytest.raises(ValueError, match="other settings"):
        go_on("model: {width: 32}\n")
