"""Learning from the network as it was: its answers and what its blocks hold (torch)."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.layers import blocks

Counted = Callable[[str, Tensor], Tensor | None]
"""From a block's name and what it returned, [..., width]: which positions count, bool [...]; None: all."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How much a dense teacher says."""

    answers: float = 1.0
    """Weight of its probabilities."""
    hidden: float = 1.0
    """Weight of what its blocks return."""
    labels: float = 1.0
    """Weight of the labels themselves beside it."""

    def __post_init__(self) -> None:
        """Refuse weights below 0."""
        if min(self.answers, self.hidden, self.labels) < 0 or not self.answers + self.labels:
            raise ValueError(
                f"distillation: answers, hidden and labels are {self.answers}, {self.hidden} and {self.labels}; "
                "expected 0 or more, and answers or labels above 0"
            )


def soft_bce(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean cross-entropy of two-way answers against a teacher's probabilities, less the teacher's own.

    Args:
        student: logits, any shape.
        teacher: logits of the same shape.

    Returns:
        A scalar, 0 where both agree: the mean divergence.
    """
    probability = teacher.detach().sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(teacher.detach(), probability)
    return functional.binary_cross_entropy_with_logits(student, probability) - entropy


def soft_ce(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean divergence KL(teacher || student) of answers over a vocabulary, [..., V] logits."""
    targets = teacher.detach().log_softmax(-1).flatten(0, -2)
    return functional.kl_div(student.log_softmax(-1).flatten(0, -2), targets, log_target=True, reduction="batchmean")


@contextmanager
def tapped(model: nn.Module) -> Generator[dict[str, Tensor]]:
    """Yield what the blocks of a model returned last, by name, while it runs."""
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def after(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ANN401, ARG001  torch's signature
            found[name] = output[0] if isinstance(output, tuple) else output

        return after

    handles = [module.register_forward_hook(hook(name)) for name, module in blocks(model).items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def hidden_mse(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], counted: Counted | None = None) -> Tensor:
    """Return the mean over blocks of |s - t|^2 / |t|^2, over the positions that count.

    Relative, so that blocks weigh alike whatever their size.

    Args:
        student: by block, [..., width].
        teacher: the same blocks.
        counted: tells which positions are no padding.
    """
    parts: list[Tensor] = []
    for name, target in teacher.items():
        mask = counted(name, target) if counted else None
        kept = torch.ones_like(target[..., 0]) if mask is None else mask.to(target.dtype)
        difference = ((student[name] - target.detach()) ** 2).sum(-1)
        parts.append((difference * kept).sum() / ((target.detach() ** 2).sum(-1) * kept).sum().clamp(min=1e-12))
    return torch.stack(parts).mean()
