"""The weights of the best validation, or the last ones."""

from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import safetensors.torch

from pipelines.artefacts import write_bytes
from pipelines.sharding import whole

BEST = "best.safetensors"


class Best(lightning.Callback):
    """Keeps the weights of the best validation, and stops training when there was none better for long."""

    def __init__(self, folder: Path, *, monitor: str, mode: str, patience: int, since: float = 0) -> None:
        """Set up; `patience` counts validations, 0 never stops; validations before the step `since` do not count."""
        self.path, self.monitor, self.sign, self.patience = folder / BEST, monitor, 1 if mode == "max" else -1, patience
        self.since = since
        self.best, self.step, self.worse = float("-inf"), -1, 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare, and keep or count."""
        if trainer.sanity_checking or trainer.global_step < self.since:
            return
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value > self.best:
            self.best, self.step, self.worse = value, trainer.global_step, 0
            self.keep(trainer, pl_module)
        else:
            self.worse += 1
            trainer.should_stop |= 0 < self.patience <= self.worse

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the last weights where no validation chose better ones."""
        if self.step < 0:
            self.keep(trainer, pl_module)

    def keep(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the weights; every process takes part, the first one writes."""
        network: Any = pl_module.network
        held = whole(network)
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path, safetensors.torch.save(held))

    def state_dict(self) -> dict[str, Any]:
        """Return what the comparison needs."""
        return {"best": self.best, "step": self.step, "worse": self.worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.best, self.step, self.worse = state_dict["best"], state_dict["step"], state_dict["worse"]
