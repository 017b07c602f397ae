"""Row-wise asymmetric grids for joint pruning and quantisation; 0 lies on every grid, exactly.

The grid of SparseGPT and GPTQ (Frantar et al. 2023).
"""

from typing import NamedTuple

import torch
from torch import Tensor

STEPS, SHRINK, NORM = 100, 0.8, 2.4
"""Of the search for the grid with the least error: ranges from the whole down to a fifth of it."""


class Grid(NamedTuple):
    """Values scale * (code - zero), code = 0 .. 2^bits - 1.

    Attributes:
        scale: by row, [R].
        zero: by row, whole numbers, [R].
        bits: of a code.
    """

    scale: Tensor
    zero: Tensor
    bits: int

    def round(self, weight: Tensor) -> Tensor:
        """Return the nearest values of the grid to [R, N], or to one column [R]."""
        wide = weight.dim() == 2
        scale, zero = (part[:, None] if wide else part for part in (self.scale, self.zero))
        code = torch.clamp(torch.round(weight / scale) + zero, 0, 2**self.bits - 1)
        return scale * (code - zero)


def fit(weight: Tensor, bits: int, *, search: bool = False) -> Grid:
    """Fit a grid to each row's range, 0 included.

    Args:
        weight: [R, C].
        bits: 2 to 8.
        search: shrink the range where that lowers sum |W - W'|^2.4.
    """
    lowest, highest = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    nothing = (lowest == 0) & (highest == 0)
    lowest, highest = torch.where(nothing, -1.0, lowest), torch.where(nothing, 1.0, highest)
    best = spread(lowest, highest, bits)
    if not search:
        return best
    least = (best.round(weight) - weight).abs().pow(NORM).sum(1)
    for step in range(1, int(SHRINK * STEPS)):
        part = 1 - step / STEPS
        tried = spread(part * lowest, part * highest, bits)
        lost = (tried.round(weight) - weight).abs().pow(NORM).sum(1)
        better = lost < least
        least = torch.where(better, lost, least)
        scale, zero = torch.where(better, tried.scale, best.scale), torch.where(better, tried.zero, best.zero)
        best = Grid(scale, zero, bits)
    return best


def spread(lowest: Tensor, highest: Tensor, bits: int) -> Grid:
    """Return the grid from a lowest to a highest value by row."""
    scale = (highest - lowest) / (2**bits - 1)
    return Grid(scale, torch.round(-lowest / scale), bits)
