"""Averaged weights: an exponential mean whose decay grows, with buffers copied (Rebuffi et al. 2021) (torch)."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def ema_decay(step: int, *, tau: float = 0.995, warmup: int = 0, dynamic: bool = True) -> float:
    """Return d of a <- d a + (1 - d) w at a step, counted from 0.

    Args:
        step: number of the update.
        tau: highest decay, 0 to below 1.
        warmup: updates that copy the weights, d = 0.
        dynamic: d = min(tau, (1 + t) / (10 + t)) with t = step - warmup, else tau.

    Raises:
        ValueError: tau lies outside its range.
    """
    if not 0 <= tau < 1:
        raise ValueError(f"tau is {tau}; expected 0 to below 1")
    if step < warmup:
        return 0.0
    after = step - warmup
    return min(tau, (1 + after) / (10 + after)) if dynamic else tau


class Ema:
    """The averaged weights of a module; buffers are those of the live one, never averaged."""

    def __init__(self, module: nn.Module, *, tau: float = 0.995, warmup: int = 0, dynamic: bool = True) -> None:
        """Begin with the module's weights.

        Args:
            module: the live one.
            tau: highest decay.
            warmup: updates that copy the weights.
            dynamic: whether the decay grows from 1/10.
        """
        self.module, self.tau, self.warmup, self.dynamic = module, tau, warmup, dynamic
        self.step = 0
        self.weights = {name: weight.detach().clone() for name, weight in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the live weights, after each step of the optimizer."""
        decay = ema_decay(self.step, tau=self.tau, warmup=self.warmup, dynamic=self.dynamic)
        for name, weight in self.module.named_parameters():
            self.weights[name].lerp_(weight, 1 - decay)
        self.step += 1

    @contextmanager
    def swap(self) -> Generator[None]:
        """Put the averaged weights into the module, then the live ones back."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange averaged and live weights."""
        for name, weight in self.module.named_parameters():
            live = weight.detach().clone()
            weight.copy_(self.weights[name])
            self.weights[name] = live

    def state_dict(self) -> dict[str, Tensor]:
        """Return what goes into a checkpoint: averaged weights, and the number of updates."""
        return {**{f"weights.{name}": weight for name, weight in self.weights.items()}, "step": torch.tensor(self.step)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of another module.
        """
        expected = {*(f"weights.{name}" for name in self.weights), "step"}
        if set(state) != expected:
            other = sorted(set(state) ^ expected)[0]
            raise ValueError(f"averaged weights: {other} is on one side alone; expected a checkpoint of this network")
        self.step = int(state["step"])
        for name, weight in self.weights.items():
            weight.copy_(state[f"weights.{name}"])
