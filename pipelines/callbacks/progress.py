"""Progress of training: a bar on a terminal, lines in a log."""

import time
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from pipelines.data import Step
from pipelines.progress import Track


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
