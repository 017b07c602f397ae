"""What the methods on the sphere are measured against: plain ternary training without a sphere (torch)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.hyperspherical.layer import TINY, Mode, Straight, held
from compress.hyperspherical.schedules import shares
from compress.hyperspherical.ternary import Ternary, twn
from compress.layers import CONV1D, kind
from compress.sparsity.saliency import keep_in_rows


class Plain(nn.Module):
    """Computes a ternary weight from plain ones: a threshold a row, and the mean size of what is kept.

    Attributes:
        mode: ternary with a straight-through gradient, or, named dense, a soft form that goes through sigmoids.
        zeros: share of each row that becomes 0; None: below `delta` times the mean size (Li et al. 2016).
        temperature: of the sigmoids of the soft form (Yang et al. 2019, quantisation networks).
    """

    def __init__(self, *, delta: float, zeros: float | None, transposed: bool) -> None:
        """Set up."""
        super().__init__()
        self.delta, self.zeros, self.transposed = delta, zeros, transposed
        self.mode: Mode = "ternary"
        self.temperature = 1.0

    def rows(self, weight: Tensor) -> Tensor:
        """Return a weight as [R, C]."""
        return weight.T if self.transposed else weight.flatten(1)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight of the forward pass, in its own shape."""
        rows = self.rows(weight)
        support, alpha, threshold = self.chosen(rows)
        if self.mode == "ternary":
            made = Straight.apply(rows, torch.where(support, rows.sign(), 0.0) * alpha, None)
        else:
            sharp = self.temperature / threshold.clamp(min=TINY)
            above, below = ((sharp * (side * rows - threshold)).sigmoid() for side in (1, -1))
            made = alpha * (above - below)
        return made.T if self.transposed else made.reshape(weight.shape)

    @torch.no_grad()
    def chosen(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return support [R, C], mean size on it [R, 1] and threshold [R, 1]."""
        size = rows.abs()
        if self.zeros is None:
            threshold = self.delta * size.mean(1, keepdim=True)
            support = size > threshold
        else:
            support = keep_in_rows(size, max(1, size.shape[1] - round(self.zeros * size.shape[1])))
            threshold = torch.where(support, size, torch.inf).amin(1, keepdim=True)
        count = support.sum(1, keepdim=True).clamp(min=1)
        return support, torch.where(support, size, 0.0).sum(1, keepdim=True) / count, threshold

    def latent(self, *originals: Tensor) -> Tensor:
        """Return the plain weights, [R, C]."""
        return self.rows(originals[0])

    @torch.no_grad()
    def project(self, *originals: Tensor) -> Ternary:
        """Return codes and scale of the hard form."""
        rows = self.rows(originals[0])
        if self.zeros is None:
            return twn(rows, delta=self.delta)
        support, alpha, _ = self.chosen(rows)
        return Ternary(torch.where(support, rows.sign(), 0.0).to(torch.int8), alpha[:, 0].float())


@dataclass(frozen=True, kw_only=True)
class TernaryWeights:
    """Ternary Weight Networks with a straight-through gradient from the first step on (Li et al. 2016)."""

    delta: float = 0.7
    """Threshold, in mean sizes of a row."""
    zeros: float | None = None
    """In its place, the share of each row that becomes 0."""
    soft: float = 0.0
    """Share of the steps in which sigmoids stand in place of the threshold, sharper and sharper."""
    temperature: float = 30.0
    """How sharp they become, from 1 on."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        shares(soft=self.soft, zeros=self.zeros or 0.0)

    def settled(self) -> float:
        """Share of the steps after which the form is final."""
        return self.soft

    def begin(self, layers: Mapping[str, nn.Module]) -> None:
        """Convert the layers."""
        for module in layers.values():
            plain = Plain(delta=self.delta, zeros=self.zeros, transposed=kind(module) == CONV1D)
            parametrize.register_parametrization(module, "weight", plain)

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Use sigmoids at first, where these are asked for."""
        last = self.soft * steps
        for _, layer in held(model):
            weights: Any = layer.weights
            weights.mode = "dense" if step < last else "ternary"
            weights.temperature = self.temperature ** min(1.0, step / max(last, 1))

    def penalty(self, model: nn.Module, step: int, steps: int) -> Tensor:  # noqa: ARG002  as the protocol has it
        """Return 0."""
        return torch.zeros(())

    def after_step(self, model: nn.Module, step: int, steps: int) -> bool:  # noqa: ARG002  as the protocol has it
        """Do nothing."""
        return False
