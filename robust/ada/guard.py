"""Corrupted inputs that stay like what they were made of (Calian et al. 2022, appendix) (torch)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Similarity = Callable[[Tensor, Tensor], Tensor]
LUMINANCE, CONTRAST = 0.01**2, 0.03**2


@dataclass(frozen=True, kw_only=True)
class SimilarityGuard:
    """Draws a corrupted input back towards x, where it is too unlike, along a line."""

    least: float = 0.3
    """Similarity that is asked for, up to 1."""
    grid: int = 9
    """Points tried between x and the corrupted input, 1 or more."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if not self.least <= 1 or self.grid < 1:
            raise ValueError(f"guard.least is {self.least} and guard.grid {self.grid}; expected up to 1, and 1 or more")

    @torch.no_grad()
    def hold(self, x: Tensor, corrupted: Tensor, similarity: Similarity) -> Tensor:
        """Return the farthest point of (1 - g) x + g x' that is similar enough, g on an even grid; x where none is.

        Args:
            x: [B, ...].
            corrupted: x', of the same shape.
            similarity: of two batches, [B]; 1 where they are equal.
        """
        found = x.clone()
        for number in range(1, self.grid + 2):
            share = number / (self.grid + 1)
            tried = corrupted if number > self.grid else (1 - share) * x + share * corrupted
            similar = similarity(x, tried) >= self.least
            found = torch.where(similar.view(-1, *([1] * (x.dim() - 1))), tried, found)
        return found


def ssim(x: Tensor, y: Tensor, *, window: int = 7) -> Tensor:
    """Return the structural similarity of images from 0 to 1, [B], up to 1 (Wang et al. 2004, eq. 13).

    Args:
        x: [B, C, H, W].
        y: of the same shape.
        window: side of the even windows; as large as the image where that is smaller.
    """
    side = min(window, x.shape[2], x.shape[3])

    def mean(value: Tensor) -> Tensor:
        return functional.avg_pool2d(value, side, stride=1)

    a, b = mean(x), mean(y)
    variance_a, variance_b = mean(x * x) - a * a, mean(y * y) - b * b
    covariance = mean(x * y) - a * b
    luminance = (2 * a * b + LUMINANCE) / (a * a + b * b + LUMINANCE)
    structure = (2 * covariance + CONTRAST) / (variance_a + variance_b + CONTRAST)
    return (luminance * structure).flatten(1).mean(1)
