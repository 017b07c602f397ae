"""Chains of simple operations, mixed with each other and with the input (AugMix; Hendrycks et al. 2020) (torch)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robust.draws import Draws

Operation = Callable[[Tensor, Tensor], Tensor]
"""Inputs [n, ...] and a strength from -1 to 1 for each [n] -> changed inputs."""


@dataclass(frozen=True, kw_only=True)
class AugMix:
    """How operations are chained and mixed."""

    width: int = 3
    """Chains, 1 or more."""
    depth: int = 3
    """Operations of a chain, from 1 to this many at random."""
    severity: float = 0.3
    """Greatest strength of an operation, 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if min(self.width, self.depth) < 1 or not 0 <= self.severity <= 1:
            raise ValueError("augmix: expected width and depth from 1 on and a severity from 0 to 1")

    def mix(self, x: Tensor, ids: Tensor, operations: Sequence[Operation], draws: Draws) -> Tensor:
        """Return (1 - m) x + m sum_i w_i chain_i(x), w from a flat Dirichlet and m uniform.

        Args:
            x: [B, ...].
            ids: of the examples, i64 [B].
            operations: what chains are made of.
            draws: by which it is random.
        """
        weight = -torch.log1p(-draws.fork(0).uniform(ids, self.width, x.dtype))
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-12)
        mixed = torch.zeros_like(x)
        for chain in range(self.width):
            made = self.chained(x, ids, operations, draws.fork(chain + 1))
            mixed = mixed + wide(weight[:, chain], x) * made
        share = wide(draws.fork(self.width + 1).uniform(ids, 1, x.dtype)[:, 0], x)
        return (1 - share) * x + share * mixed

    def chained(self, x: Tensor, ids: Tensor, operations: Sequence[Operation], draws: Draws) -> Tensor:
        """Return inputs after a chain of operations, each example by its own draws."""
        made = x.clone()
        depth = draws.fork(0).whole(ids, torch.full_like(ids, self.depth)) + 1
        for number in range(self.depth):
            own = draws.fork(number + 1)
            chosen = own.fork(1).whole(ids, torch.full_like(ids, len(operations)))
            strength = self.severity * (2 * own.fork(2).uniform(ids, 1, x.dtype)[:, 0] - 1)
            for at, operation in enumerate(operations):
                rows = torch.nonzero((chosen == at) & (depth > number))[:, 0]
                if len(rows):
                    made[rows] = operation(made[rows], strength[rows])
        return made


def wide(value: Tensor, x: Tensor) -> Tensor:
    """Return a value by example with dimensions of length 1 behind."""
    return value.view(-1, *([1] * (x.dim() - 1)))


def warped(x: Tensor, matrix: Tensor) -> Tensor:
    """Return images [n, C, H, W] after affine maps [n, 2, 3], 0 outside."""
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def affine(strength: Tensor, **entries: Tensor) -> Tensor:
    """Return affine maps [n, 2, 3], the identity with some entries replaced, by name: a, b, c over d, e, f."""
    zero, one = torch.zeros_like(strength), torch.ones_like(strength)
    standing = {"a": one, "b": zero, "c": zero, "d": zero, "e": one, "f": zero, **entries}
    return torch.stack([standing[name] for name in "abcdef"], dim=1).view(-1, 2, 3)


def rotate(x: Tensor, strength: Tensor) -> Tensor:
    """Return images turned by up to 45 degrees."""
    turn = strength * torch.pi / 4
    return warped(x, affine(strength, a=turn.cos(), b=-turn.sin(), d=turn.sin(), e=turn.cos()))


def shear(x: Tensor, strength: Tensor) -> Tensor:
    """Return images sheared by up to half their width."""
    return warped(x, affine(strength, b=strength / 2))


def shift_across(x: Tensor, strength: Tensor) -> Tensor:
    """Return images shifted across by up to half their width."""
    return warped(x, affine(strength, c=strength))


def shift_down(x: Tensor, strength: Tensor) -> Tensor:
    """Return images shifted down by up to half their height."""
    return warped(x, affine(strength, f=strength))


def contrast(x: Tensor, strength: Tensor) -> Tensor:
    """Return images drawn towards their mean, or away from it, within 0 to 1."""
    mean = x.flatten(1).mean(1).view(-1, 1, 1, 1)
    return (mean + (1 + wide(strength, x)) * (x - mean)).clamp(0, 1)


def solarize(x: Tensor, strength: Tensor) -> Tensor:
    """Return images whose values above 1 - |strength| are inverted."""
    return torch.where(x > 1 - wide(strength.abs(), x), 1 - x, x)


IMAGES: tuple[Operation, ...] = (rotate, shear, shift_across, shift_down, contrast, solarize)
