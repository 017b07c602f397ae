"""Callbacks for Lightning: atomic checkpoints, stopping on a signal, the best weights, curves and progress."""

import csv
import io
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
import safetensors.torch
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from pipelines.artefacts import write_bytes
from pipelines.data import Step
from pipelines.progress import Track

LAST, BEST, CURVES = "last.ckpt", "best.safetensors", "metrics.csv"


class Stopped(Exception):  # noqa: N818  not an error: training goes on when it is run again
    """Training was asked to stop, and its checkpoint is written."""


class AtomicCheckpoints(CheckpointIO):
    """Checkpoints that are whole or absent, and hold tensors and plain types only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401, ARG002  Lightning's signature
        """Write to a temporary name, flush to disk, rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(path, content.getvalue())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401  Lightning's signature
        weights_only: bool | None = None,  # noqa: ARG002, FBT001  always
    ) -> dict[str, Any]:
        """Read tensors and plain types; nothing is unpickled."""
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class Resume(lightning.Callback):
    """Writes the last checkpoint every few steps, and once more when a signal asks to stop.

    It writes between batches only: never behind the last batch of an epoch, never where validation is due. There
    Lightning's loops are half-way between two states, and a checkpoint would not go on exactly.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        """Set up; `every` counts optimizer steps."""
        self.path, self.every = folder / LAST, every
        self.saved, self.asked = 0, 0
        self.before: dict[int, Any] = {}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Listen for SIGTERM and Ctrl-C."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.before[number] = signal.signal(number, self.ask)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Count from where training stands."""
        self.saved = trainer.global_step

    def ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  signal's signature
        """Note the signal; a second Ctrl-C does not wait."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Step,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Write a checkpoint where one is due.

        Raises:
            Stopped: a signal asked for it.
        """
        asked = bool(self.asked)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        due = asked or trainer.global_step >= self.saved + self.every
        if not due or (batch_idx + 1) % trainer.accumulate_grad_batches or at_edge(trainer, batch_idx):
            return
        trainer.save_checkpoint(self.path)
        self.saved = trainer.global_step
        if asked:
            raise Stopped

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Give the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()


def at_edge(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Tell whether an epoch ends or validation is due behind this batch."""
    if trainer.is_last_batch:
        return True
    interval = trainer.val_check_batch
    if interval is None or interval == float("inf"):
        return False
    number = batch_idx
    if trainer.check_val_every_n_epoch is None:
        number = trainer.fit_loop.total_batch_idx
    return (number + 1) % int(interval) == 0


class Best(lightning.Callback):
    """Keeps the weights of the best validation, and stops training when there was none better for long."""

    def __init__(self, folder: Path, *, monitor: str, mode: str, patience: int) -> None:
        """Set up; `patience` counts validations, 0 never stops."""
        self.path, self.monitor, self.sign, self.patience = folder / BEST, monitor, 1 if mode == "max" else -1, patience
        self.best, self.step, self.worse = float("-inf"), -1, 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare, and keep or count."""
        if trainer.sanity_checking:
            return
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value > self.best:
            self.best, self.step, self.worse = value, trainer.global_step, 0
            if trainer.is_global_zero:
                network: Any = pl_module.network
                self.path.parent.mkdir(parents=True, exist_ok=True)
                held: dict[str, Tensor] = {name: value.contiguous() for name, value in network.state_dict().items()}
                write_bytes(self.path, safetensors.torch.save(held))
        else:
            self.worse += 1
            trainer.should_stop |= 0 < self.patience <= self.worse

    def state_dict(self) -> dict[str, Any]:
        """Return what the comparison needs."""
        return {"best": self.best, "step": self.step, "worse": self.worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.best, self.step, self.worse = state_dict["best"], state_dict["step"], state_dict["worse"]


class Curves(Logger):
    """Learning curves as a table: step, epoch, metric, value. Holds no time of day, so equal runs have equal rows."""

    def __init__(self, folder: Path) -> None:
        """Set up."""
        super().__init__()
        self.path = folder / CURVES

    @property
    def name(self) -> str:
        """Name for Lightning."""
        return "curves"

    @property
    def version(self) -> str:
        """Version for Lightning."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Lightning's signature
        """Settings stand in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append rows."""
        epoch = int(metrics.get("epoch", 0))
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            if new:
                rows.writerow(("step", "epoch", "metric", "value"))
            rows.writerows(
                (step, epoch, name, f"{value:.6g}") for name, value in sorted(metrics.items()) if name != "epoch"
            )

    def rewind(self, step: int) -> None:
        """Drop rows at or behind a step, which training is about to write again, and a line cut short."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) < step]
        write_bytes(self.path, "".join([*lines[:1], *kept]).encode())


class Progress(lightning.Callback):
    """A bar on a terminal, a line every ten seconds in a log; tokens a second where the logger takes speeds."""

    def __init__(self, label: str, total: int) -> None:
        """Set up; `total` counts batches."""
        self.label, self.total = label, total
        self.bar: Track | None = None
        self.tokens, self.seconds, self.since = 0, 0.0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Show the bar, at where training stands."""
        if trainer.is_global_zero:
            self.bar = Track(self.label, self.total).__enter__()
            self.bar.advance(trainer.fit_loop.epoch_loop.total_batch_idx + 1)

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        batch: Step,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Start the clock."""
        self.since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Step,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count."""
        token: Tensor = batch.content[0].token
        self.tokens += int(torch.count_nonzero(token))
        self.seconds += time.perf_counter() - self.since
        if not self.bar:
            return
        metrics = trainer.callback_metrics
        held = "".join(f", {name.split('/')[0]} {name.split('/')[1]} {metrics[name]:.3f}" for name in sorted(metrics))
        self.bar.label = f"{self.label}{held}"
        if self.bar.bar:
            self.bar.bar.update(self.bar.task, description=self.bar.label)
        self.bar.advance()

    @property
    def rate(self) -> float:
        """Real tokens a second in this process, validation and checkpoints left out."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Close the bar."""
        if self.bar:
            self.bar.__exit__(None, None, None)
            self.bar = None
