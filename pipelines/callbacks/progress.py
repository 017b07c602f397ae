"""Progress of training: a bar on a terminal, lines in a log."""

from typing import Any

import pytorch_lightning as lightning

from pipelines.callbacks.speed import Speed
from pipelines.progress import Track


class Progress(lightning.Callback):
    """A bar on a terminal, a line every ten seconds in a log, with losses and speed."""

    def __init__(self, label: str, total: int, speed: Speed) -> None:
        """Set up; `total` counts batches."""
        self.label, self.total, self.speed = label, total, speed
        self.bar: Track | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Show the bar, at where training stands."""
        if trainer.is_global_zero:
            self.bar = Track(self.label, self.total).__enter__()
            self.bar.advance(trainer.fit_loop.epoch_loop.total_batch_idx + 1)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count."""
        if not self.bar:
            return
        metrics = trainer.callback_metrics
        held = [f"{name.split('/')[0]} {name.split('/')[1]} {metrics[name]:.3f}" for name in sorted(metrics)]
        self.bar.label = ", ".join([self.label, *held, *filter(None, [self.speed.line])])
        if self.bar.bar:
            self.bar.bar.update(self.bar.task, description=self.bar.label)
        self.bar.advance()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Close the bar."""
        if self.bar:
            self.bar.__exit__(None, None, None)
            self.bar = None
