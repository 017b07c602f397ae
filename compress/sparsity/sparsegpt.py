"""SparseGPT on one matrix: columns from left to right, each error spread over the columns still to come.

Frantar and Alistarh 2023, algorithm 1; joint quantisation as in its section 3.5.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from compress.sparsity import grids
from compress.sparsity.grids import Grid
from compress.sparsity.hessians import Factor, Hessian, factor
from compress.sparsity.saliency import keep, keep_in_groups, share_of
from compress.sparsity.settings import SparseGPT


class Pruned(NamedTuple):
    """A pruned matrix.

    Attributes:
        weight: [R, C], in the dtype it came in.
        mask: bool [R, C], True where kept.
        grid: of joint quantisation.
        loss: 1/2 tr((W - W')H(W - W')^T) with the damped Hessian of mean inputs.
        damping: share of the mean diagonal that was added to it.
    """

    weight: Tensor
    mask: Tensor
    grid: Grid | None
    loss: float
    damping: float


def prune_matrix(
    weight: Tensor,
    hessian: Hessian | Factor,
    settings: SparseGPT,
    *,
    mask: Tensor | None = None,
    grid: Grid | None = None,
) -> Pruned:
    """Prune a matrix, and quantise what stays where the settings say so.

    Args:
        weight: [R, C]; left as it is.
        hessian: of the inputs, or what `factor` made of it.
        settings: method, allocation and refit are not looked at.
        mask: bool [R, C], True where kept; chosen here where None.
        grid: fitted on the weights where None and the settings quantise.

    Raises:
        ValueError: the pattern does not fit the columns.
        SingularHessian: no damping helped.
    """
    held = hessian if isinstance(hessian, Factor) else factored(hessian, settings)
    fits(weight.shape[1], settings)
    kept = weight.to(held.upper.dtype, copy=True)
    if grid is None and settings.bits is not None:
        grid = grids.fit(kept, settings.bits, search=settings.grid == "mse")
    kept[:, held.dead] = 0
    chosen = Choice(settings, torch.diagonal(held.upper), mask, kept)
    loss = torch.zeros((), dtype=torch.float64)
    for begin in range(0, kept.shape[1], settings.update_block):
        end = min(begin + settings.update_block, kept.shape[1])
        spread, part = columns(kept, held.upper, begin, end, chosen, grid)
        loss += part
        if end < kept.shape[1]:
            kept[:, end:] -= spread.matmul(held.upper[begin:end, end:])
    return Pruned(kept.to(weight.dtype), chosen.mask, grid, float(loss), held.damping)


def factored(hessian: Hessian, settings: SparseGPT) -> Factor:
    """Return the factor of a layer's Hessian with the damping of the settings."""
    return factor(hessian.normalised(), damping=settings.damping, tries=settings.damping_tries)


def fits(columns: int, settings: SparseGPT) -> None:
    """Refuse a pattern whose groups do not fill the columns.

    Raises:
        ValueError: they do not, and the tail may not stay dense.
    """
    if settings.groups and columns % settings.groups[1] and settings.tail == "error":
        raise ValueError(
            f"pattern {settings.pattern} does not divide {columns} columns; leave the layer out, or set tail: dense"
        )


def columns(
    weight: Tensor, upper: Tensor, begin: int, end: int, chosen: "Choice", grid: Grid | None
) -> tuple[Tensor, Tensor]:
    """Prune the columns of one block in place.

    Args:
        weight: [R, C].
        upper: U, [C, C].
        begin: first column.
        end: after the last column.
        chosen: gives the mask.
        grid: to round to.

    Returns:
        The errors (w - q) / U_ii, [R, end - begin], and half the sum of their squares.
    """
    # Transposed: a column of the matrix is then a run of memory.
    block = weight[:, begin:end].T.contiguous()
    within = upper[begin:end, begin:end]
    errors = torch.empty_like(block)
    chosen.ahead(weight, begin)
    for i in range(end - begin):
        chosen.inside(block, begin, i)
        w = block[i]
        q = torch.where(chosen.mask[:, begin + i], w, 0.0)
        if grid is not None:
            q = grid.round(q)
        torch.div(w - q, within[i, i], out=errors[i])
        block[i] = q
        if i + 1 < end - begin:
            block[i + 1 :] -= within[i, i + 1 :, None] * errors[i]
    weight[:, begin:end] = block.T
    return errors.T.contiguous(), errors.double().square().sum().cpu() / 2


class Choice:
    """The mask, chosen group by group of columns while these are being updated, or given."""

    def __init__(self, settings: SparseGPT, diagonal: Tensor, mask: Tensor | None, weight: Tensor) -> None:
        """Set up; `diagonal` is that of U."""
        self.settings, self.diagonal, self.given = settings, diagonal, mask is not None
        self.mask = mask if mask is not None else torch.ones_like(weight, dtype=torch.bool)
        self.columns, self.pruned = weight.shape[1], 0
        self.step = settings.groups[1] if settings.groups else settings.mask_block

    def ahead(self, weight: Tensor, begin: int) -> None:
        """Choose where a mask reaches beyond one block of updates."""
        if not self.given and self.step > self.settings.update_block and begin % self.step == 0:
            self.choose(weight[:, begin : begin + self.step], begin)

    def inside(self, block: Tensor, begin: int, i: int) -> None:
        """Choose for the columns from i of a transposed block on."""
        if not self.given and self.step <= self.settings.update_block and i % self.step == 0:
            self.choose(block[i : i + self.step].T, begin + i)

    def choose(self, weight: Tensor, begin: int) -> None:
        """Choose the mask of the columns from `begin` on by w^2 / U_ii^2."""
        end = begin + weight.shape[1]
        score = weight**2 / self.diagonal[begin:end] ** 2
        if self.settings.groups:
            self.mask[:, begin:end] = keep_in_groups(score, *self.settings.groups)
        elif self.settings.threshold == "reference":
            flat = torch.sort(score.flatten())[0]
            self.mask[:, begin:end] = score > flat[int(score.numel() * self.settings.sparsity)]
        else:
            # What rounding down left over in earlier blocks is made good here: the total is exact.
            due = share_of(len(score) * end, self.settings.sparsity) - self.pruned
            self.mask[:, begin:end] = keep(score.contiguous(), due)
            self.pruned += due
