"""A schedule of compression, called from Lightning."""

from typing import Any

import pytorch_lightning as lightning
from torch import nn

from compress.hyperspherical import penalties
from compress.hyperspherical.layer import Sphere, held
from compress.hyperspherical.schedules import Schedule


class Compression(lightning.Callback):
    """Sets layers before a step and mends them behind it; what happens when follows from the number of the step."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        """Set up for so many steps in all."""
        self.schedule, self.steps = schedule, steps
        self.done = -1

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Set the layers."""
        self.schedule.before_step(network_of(pl_module), trainer.global_step, self.steps)
        self.done = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Mend the layers, unless gradients are still gathered."""
        if trainer.global_step == self.done:
            return
        if self.schedule.after_step(network_of(pl_module), self.done, self.steps):
            for optimizer in trainer.optimizers:
                optimizer.state.clear()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log how far the weights are from their ternary form, where they are going there."""
        network = network_of(pl_module)
        for _, layer in held(network):
            if isinstance(layer.weights, Sphere):
                # Validation is no step: nothing of it is penalised.
                layer.weights.seen = None
        if trainer.loggers and not trainer.sanity_checking:
            for logger in trainer.loggers:
                logger.log_metrics({"compression/distance": penalties.distance(network)}, trainer.global_step)


def network_of(module: Any) -> nn.Module:  # noqa: ANN401  a module of training
    """Return the network that a Lightning module trains."""
    return module.network
