"""Speed of training: tokens a second, padding, use of the processor, memory."""

import resource
import time
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from pipelines.acceleration import flops_a_token, peak_flops
from pipelines.callbacks.curves import Curves


class Speed(lightning.Callback):
    """Counts over all processes, from the first step on; validation is left out, checkpoints are not.

    MFU is the share of the peak that goes into real tokens: 6 x weights of the blocks x tokens, over seconds, over
    the peak of all devices (Chowdhery et al. 2022, appendix B, without the attention term). Padding lowers it.
    """

    def __init__(self, *, every: int) -> None:
        """Set up; `every` counts batches between two lines."""
        self.every = max(1, every)
        self.tokens = self.positions = self.seconds = self.since = 0.0
        self.flops, self.peak = 0, 0.0
        self.found: dict[str, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Ask for the peak, and start the clock."""
        network: Any = pl_module.network
        self.flops = flops_a_token(network)
        self.peak = peak_flops(trainer.strategy.root_device, str(trainer.precision)) * trainer.world_size
        self.since = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Start the clock again."""
        self.since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count, and every few batches put the counts of all processes together."""
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        token: Tensor = batch.content[0].token
        self.tokens += float(torch.count_nonzero(token))
        self.positions += token.numel()
        if (batch_idx + 1) % self.every and not trainer.is_last_batch:
            return
        device = trainer.strategy.root_device
        counts = torch.tensor([self.tokens, self.positions], dtype=torch.float64 if device.type == "cpu" else None)
        tokens, positions = trainer.strategy.reduce(counts.to(device), reduce_op="sum").tolist()
        self.found = {
            "speed/tokens_per_second": tokens / self.seconds,
            "speed/padding": 1 - tokens / positions,
            "speed/memory_gib": memory_bytes(device) / 2**30,
        }
        if self.peak:
            self.found["speed/mfu"] = tokens * self.flops / self.seconds / self.peak
        for logger in trainer.loggers:
            # Curves hold no time, so that equal runs have equal rows.
            if not isinstance(logger, Curves):
                logger.log_metrics(self.found, trainer.global_step)

    @property
    def line(self) -> str:
        """The counts as text, empty before there are some."""
        if not self.found:
            return ""
        held = {name.partition("/")[2]: value for name, value in self.found.items()}
        used = f", MFU {held['mfu']:.1%}" if "mfu" in held else ""
        return (
            f"{held['tokens_per_second']:,.0f} tokens/s, padding {held['padding']:.1%}{used}, "
            f"memory {held['memory_gib']:.2f} GiB"
        )


def memory_bytes(device: torch.device) -> int:
    """Return the most memory that this process held: of the accelerator, else its resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
