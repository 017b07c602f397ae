"""Augmentations of images that stand apart, each example by its own draws (torch)."""

from typing import NamedTuple

import torch
from torch import Tensor

from robust.draws import Draws


class Mixed(NamedTuple):
    """Samples made of two.

    Attributes:
        x: of the shape of what was mixed.
        label: probabilities, [B, C].
        share: of the sample itself, [B].
    """

    x: Tensor
    label: Tensor
    share: Tensor


def pad_crop(x: Tensor, ids: Tensor, draws: Draws, *, pad: int = 4, flip: bool = True) -> Tensor:
    """Return images [B, C, H, W] padded by 0, cropped at random to their size, and half of them mirrored."""
    _, _, height, width = x.shape
    top, left = (draws.fork(part).whole(ids, torch.full_like(ids, 2 * pad + 1)) - pad for part in (1, 2))
    row = torch.arange(height, device=x.device) + top[:, None]
    column = torch.arange(width, device=x.device) + left[:, None]
    if flip:
        mirrored = draws.fork(3).uniform(ids, 1) < 0.5
        column = torch.where(mirrored, column.flip(1), column)
    inside = ((row >= 0) & (row < height))[:, :, None] & ((column >= 0) & (column < width))[:, None, :]
    flat = row.clamp(0, height - 1)[:, :, None] * width + column.clamp(0, width - 1)[:, None, :]
    taken = x.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
    return torch.where(inside[:, None], taken, 0)


def cutout(x: Tensor, ids: Tensor, draws: Draws, *, size: int) -> Tensor:
    """Return images with a square of 0 around a random centre (DeVries and Taylor 2017)."""
    return torch.where(window(x, ids, draws, torch.full_like(ids, size)), 0, x)


def window(x: Tensor, ids: Tensor, draws: Draws, side: Tensor) -> Tensor:
    """Return a square of a side for each image around a uniform centre, cut at the border, bool [B, 1, H, W]."""
    found: list[Tensor] = []
    for part, length in ((1, x.shape[2]), (2, x.shape[3])):
        centre = draws.fork(part).whole(ids, torch.full_like(ids, length))
        at = torch.arange(length, device=x.device)
        first = (centre - side // 2)[:, None]
        found.append((at >= first) & (at < first + side[:, None]))
    return (found[0][:, :, None] & found[1][:, None, :])[:, None]


def beta(ids: Tensor, draws: Draws, alpha: float) -> Tensor:
    """Return a draw of Beta(alpha, alpha) for each example, f64 [B]: uniform at 1, else by inverting its density.

    Johnk's method would reject at another rate for each example; a table of the distribution needs one number each.
    """
    at = draws.uniform(ids, 1, torch.float64)[:, 0]
    if alpha == 1:
        return at
    # Mass gathers at both ends where alpha is small: the grid is even in the logit.
    logit = torch.linspace(-60, 60, 48_001, dtype=torch.float64, device=ids.device)
    log_density = alpha * (torch.nn.functional.logsigmoid(logit) + torch.nn.functional.logsigmoid(-logit))
    mass = torch.cumsum(log_density.exp(), dim=0)
    return logit[torch.searchsorted(mass, at * mass[-1]).clamp(max=len(logit) - 1)].sigmoid()


def partner(ids: Tensor, draws: Draws) -> Tensor:
    """Return the other example that each is mixed with, a permutation i64 [B]."""
    return torch.argsort(draws.uniform(ids, 1, torch.float64)[:, 0], stable=True)


def mixup(x: Tensor, label: Tensor, ids: Tensor, draws: Draws, *, alpha: float = 0.2) -> Mixed:
    """Return l x + (1 - l) x_other, l from Beta(alpha, alpha), labels alike (Zhang et al. 2018).

    Args:
        x: [B, ...].
        label: probabilities, [B, C].
        ids: of the examples, i64 [B].
        draws: by which it is random.
        alpha: above 0.
    """
    share = beta(ids, draws.fork(1), alpha).to(x.dtype)
    other = partner(ids, draws.fork(2))
    wide = share.view(-1, *([1] * (x.dim() - 1)))
    return Mixed(wide * x + (1 - wide) * x[other], blended(label, other, share), share)


def cutmix(x: Tensor, label: Tensor, ids: Tensor, draws: Draws, *, alpha: float = 1.0) -> Mixed:
    """Return images with a square of another, side sqrt(1 - l), labels by the area that is left (Yun et al. 2019).

    A box of its own for each pair; where the border cuts it, the label follows what was replaced.
    """
    drawn = beta(ids, draws.fork(1), alpha)
    side = (torch.sqrt(1 - drawn) * min(x.shape[2:])).round().to(torch.int64)
    inside = window(x, ids, draws.fork(3), side)
    other = partner(ids, draws.fork(2))
    share = 1 - inside.flatten(1).to(x.dtype).mean(1)
    return Mixed(torch.where(inside, x[other], x), blended(label, other, share), share)


def blended(label: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Return labels of mixed samples, [B, C]."""
    wide = share.view(-1, *([1] * (label.dim() - 1))).to(label.dtype)
    return wide * label + (1 - wide) * label[other]
