"""Layers to try compression on: Gaussian weights, correlated inputs with a few loud channels."""

from typing import NamedTuple

import torch
from torch import Tensor

OUTLIERS, LOUDER = 4, 10.0
"""Channels, and how much louder they are."""
EXPONENT = 0.5
"""Standard deviations of the principal components fall as k^-0.5."""


class Inputs(NamedTuple):
    """A layer's weights f32 [R, C], calibration and held-out inputs f32 [N, C]."""

    weight: Tensor
    calibration: Tensor
    held_out: Tensor


def draw(columns: int, rows: int, *, seed: int, tokens: int = 8192, held_out: int = 2048) -> Inputs:
    """Draw a layer."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(columns, columns, generator=generator))[0]
    mix = turn / torch.arange(1, columns + 1) ** EXPONENT
    loud = torch.randperm(columns, generator=generator)[:OUTLIERS]

    def inputs(count: int) -> Tensor:
        x = torch.randn(count, columns, generator=generator) @ mix.T
        x[:, loud] *= LOUDER
        return x

    return Inputs(torch.randn(rows, columns, generator=generator), inputs(tokens), inputs(held_out))
