"""Atomic checkpoints, and going on from the last one after a signal."""

import io
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from pipelines.artefacts import write_bytes

LAST, NEXT = "last.ckpt", "next.ckpt"
HEARD = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


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

    A step's row of the curves is written after this callback has run. So a checkpoint takes its name, and training
    stops, only where the next batch begins: else whoever goes on from it would never see that row.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        """Set up; `every` counts optimizer steps."""
        self.path, self.fresh, self.every = folder / LAST, folder / NEXT, every
        self.saved, self.asked = 0, 0
        self.waiting, self.stopping = False, False
        self.before: dict[int, Any] = {}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Listen for SIGTERM, SIGUSR1 and Ctrl-C."""
        for number in HEARD:
            self.before[number] = signal.signal(number, self.ask)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Count from where training stands, and listen in the place of Lightning, which has begun to do so meanwhile.

        It would end the process at the next edge of an epoch, with 0 and without a checkpoint.
        """
        self.saved = trainer.global_step
        for number in HEARD:
            signal.signal(number, self.ask)

    def ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  signal's signature
        """Note the signal; a second Ctrl-C does not wait."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Let the checkpoint of the batch before count, whose row is written by now.

        Raises:
            Stopped: a signal asked for it.
        """
        if self.waiting and trainer.is_global_zero:
            self.fresh.replace(self.path)
        self.waiting = False
        if self.stopping:
            raise Stopped

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,
    ) -> None:
        """Write a checkpoint where one is due, under a name that nobody goes on from."""
        asked = bool(self.asked)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        due = asked or trainer.global_step >= self.saved + self.every
        if not due or (batch_idx + 1) % trainer.accumulate_grad_batches or at_edge(trainer, batch_idx):
            return
        trainer.save_checkpoint(self.fresh)
        self.saved = trainer.global_step
        self.waiting, self.stopping = True, asked

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Drop the checkpoint of the last batch: training is over."""
        if trainer.is_global_zero:
            self.fresh.unlink(missing_ok=True)

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
