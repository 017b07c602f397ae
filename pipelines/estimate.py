"""What a training will take: parameters, memory and time, measured on its first batch before it begins."""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from pipelines.data import PackedData, Step
from pipelines.modules import Training

# Weights, gradients and the two moments of AdamW, four bytes each.
STATE_BYTES = 16


class Estimate(NamedTuple):
    """What one step of training takes.

    Attributes:
        parameters: number of weights.
        state_bytes: weights, gradients and optimizer.
        activation_bytes: what the first batch keeps for its gradient.
        seconds: forward and backward of the first batch.
        batches: batches in all epochs.
        positions: positions of the first batch.
        padding: share of them that is padding.
    """

    parameters: int
    state_bytes: int
    activation_bytes: int
    seconds: float
    batches: int
    positions: int
    padding: float

    def lines(self, device: str) -> list[str]:
        """Return the estimate as text."""
        memory = (self.state_bytes + self.activation_bytes) / 2**20
        state = self.state_bytes / 2**20
        lines = [
            f"{self.parameters:,} parameters; {self.batches:,} batches, the first of {self.positions:,} positions, "
            f"{self.padding:.1%} of them padding",
            f"memory about {memory:,.0f} MiB: weights and optimizer {state:,.0f}, activations {memory - state:,.0f}",
        ]
        if self.seconds:
            seconds = self.seconds * self.batches
            time = f"{seconds / 60:,.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
            lines.append(f"time about {time}: {self.seconds * 1000:,.0f} ms a batch on {device}")
        return lines


def kept_bytes(module: Training, step: Step) -> tuple[int, float]:
    """Run forward and backward of one batch; return the bytes kept between them, and the seconds both took.

    Weights, gradients and the global generator are left as they were.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    state = torch.get_rng_state()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    try:
        started = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module.loss_of(step).backward()
        seconds = time.perf_counter() - started
    finally:
        module.zero_grad(set_to_none=True)
        torch.set_rng_state(state)
    return sum(size for place, size in kept.items() if place not in parameters), seconds


def estimate(module: Training, data: PackedData, batches: int, *, timed: bool) -> Estimate:
    """Measure the first batch on the CPU.

    Args:
        module: with its network built.
        data: opened.
        batches: batches in all epochs.
        timed: whether training runs on the CPU too; else its time is not foretold.
    """
    # Where training runs elsewhere, one row is enough to scale from.
    step, rows = data.first(None if timed else 1)
    token: Tensor = step.content[0].token
    activation = kept_bytes(module, step)[0] * rows // len(token)
    # The first run allocates and warms up; the second is like all others.
    seconds = kept_bytes(module, step)[1] if timed else 0.0
    parameters = sum(parameter.numel() for parameter in module.parameters())
    padding = 1 - int(torch.count_nonzero(token)) / token.numel()
    positions = rows * token.shape[1]
    return Estimate(parameters, parameters * STATE_BYTES, activation, seconds, batches, positions, padding)
