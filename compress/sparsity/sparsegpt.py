"""SparseGPT on one matrix: columns from left to right, each error spread over the columns still to come.

Frantar and Alistarh 2023, algorithm 1; joint quantisation as in its section 3.5.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from compress.sparsity import grids
from compress.sparsity.grids import Grid
from compress.sparsity.hessians import Factor, Hessian, factor
from compress.sparsity.saliency import keep, keep_in_columns, pairs, share_of
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
    return prune_group([weight], held, settings, mask=mask, grid=grid)[0]


def prune_group(
    weights: Sequence[Tensor],
    factor: Factor,
    settings: SparseGPT,
    *,
    mask: Tensor | None = None,
    grid: Grid | None = None,
) -> list[Pruned]:
    """Prune matrices that multiply the same inputs in one walk over their columns, each with a mask of its own.

    Args:
        weights: of one number of columns and dtype, [R_1, C], [R_2, C], ...; left as they are.
        factor: of the inputs.
        settings: as in `prune_matrix`.
        mask: of all rows together, bool [R_1 + R_2 + ..., C].
        grid: of all rows together.

    Raises:
        ValueError: the pattern does not fit the columns.
    """
    width, rows = weights[0].shape[1], [len(weight) for weight in weights]
    fits(width, settings)
    kept = torch.cat(list(weights)).to(factor.upper.dtype)
    if grid is None and settings.bits is not None:
        grid = grids.fit(kept, settings.bits, search=settings.grid == "mse")
    kept[:, factor.dead] = 0
    chosen = Choice(settings, torch.diagonal(factor.upper), mask, kept, rows)
    loss = torch.zeros(len(kept), dtype=torch.float64, device=kept.device)
    for begin in range(0, width, settings.update_block):
        end = min(begin + settings.update_block, width)
        errors = columns(kept, factor.upper, begin, end, chosen, grid)
        loss += errors.double().square().sum(1) / 2
        if end < width:
            kept[:, end:] -= errors.matmul(factor.upper[begin:end, end:])
    whole = Pruned(kept.to(weights[0].dtype), (~chosen.gone).T, grid, 0.0, factor.damping)
    return [part(whole, loss, slice(sum(rows[:at]), sum(rows[: at + 1]))) for at in range(len(rows))]


def part(whole: Pruned, loss: Tensor, at: slice) -> Pruned:
    """Return what belongs to some rows; `loss` is by row."""
    grid = None if whole.grid is None else Grid(whole.grid.scale[at], whole.grid.zero[at], whole.grid.bits)
    return Pruned(whole.weight[at], whole.mask[at], grid, float(loss[at].sum()), whole.damping)


def factored(hessian: Hessian, settings: SparseGPT) -> Factor:
    """Return the factor of a layer's Hessian with the damping of the settings."""
    return factor(
        hessian.everything().normalised(),
        damping=settings.damping,
        tries=settings.damping_tries,
        reference=settings.threshold == "reference",
    )


def fits(columns: int, settings: SparseGPT) -> None:
    """Refuse a pattern whose groups do not fill the columns.

    Raises:
        ValueError: they do not, and the tail may not stay dense.
    """
    if settings.groups and columns % settings.groups[1] and settings.tail == "error":
        raise ValueError(
            f"pattern {settings.pattern} does not divide {columns} columns; leave the layer out, or set tail: dense"
        )


def columns(weight: Tensor, upper: Tensor, begin: int, end: int, chosen: "Choice", grid: Grid | None) -> Tensor:
    """Prune the columns of one block in place.

    Args:
        weight: [R, C].
        upper: U, [C, C].
        begin: first column.
        end: after the last column.
        chosen: gives the mask.
        grid: to round to.

    Returns:
        The errors (w - q) / U_ii, [R, end - begin].
    """
    # Transposed: a column of the matrix is then a run of memory.
    block = weight[:, begin:end].T.contiguous()
    within = upper[begin:end, begin:end]
    errors = torch.empty_like(block)
    chosen.ahead(weight, begin)
    scale = torch.diagonal(within).tolist()
    for i in range(end - begin):
        chosen.inside(block, begin, i)
        w, error, gone = block[i], errors[i], chosen.gone[begin + i]
        if grid is None:
            torch.mul(w, gone, out=error)
        else:
            q = grid.round(w.masked_fill(gone, 0.0))
            torch.sub(w, q, out=error)
            block[i] = q
        error /= scale[i]
        if i + 1 < end - begin:
            spread(block[i + 1 :], within[i, i + 1 :, None], error, fused=chosen.settings.threshold == "exact")
    if grid is None:
        block.masked_fill_(chosen.gone[begin:end], 0.0)
    weight[:, begin:end] = block.T
    return errors.T.contiguous()


def spread(rest: Tensor, share: Tensor, error: Tensor, *, fused: bool) -> None:
    """Subtract share * error from what is left, [n, R]; fused, with one rounding less than the first implementation."""
    if fused:
        rest.addcmul_(share, error, value=-1)
    else:
        rest -= share * error


class Choice:
    """The mask, chosen group by group of columns while these are being updated, or given.

    Attributes:
        gone: bool [C, R], True where pruned: transposed, as the columns are walked over.
    """

    def __init__(
        self, settings: SparseGPT, diagonal: Tensor, mask: Tensor | None, weight: Tensor, rows: Sequence[int]
    ) -> None:
        """Set up; `diagonal` is that of U, and `rows` are those of each matrix."""
        self.settings, self.diagonal, self.given, self.rows = settings, diagonal, mask is not None, rows
        self.gone = (
            torch.zeros_like(weight.T, dtype=torch.bool).contiguous() if mask is None else (~mask).T.contiguous()
        )
        self.pruned = [0] * len(rows)
        self.step = settings.groups[1] if settings.groups else settings.mask_block
        self.paired = pairs(self.step if settings.groups else 1, weight.device)

    def ahead(self, weight: Tensor, begin: int) -> None:
        """Choose where a mask reaches beyond one block of updates."""
        if not self.given and self.step > self.settings.update_block and begin % self.step == 0:
            self.choose(weight[:, begin : begin + self.step].T, begin)

    def inside(self, block: Tensor, begin: int, i: int) -> None:
        """Choose for the columns from i of a transposed block on."""
        if not self.given and self.step <= self.settings.update_block and i % self.step == 0:
            self.choose(block[i : i + self.step], begin + i)

    def choose(self, block: Tensor, begin: int) -> None:
        """Choose the mask of the columns from `begin` on, [n, R], by w^2 / U_ii^2."""
        end = begin + len(block)
        score = block**2 / self.diagonal[begin:end, None] ** 2
        if self.settings.groups:
            kept, size = self.settings.groups
            if len(block) == size:  # a last short group is kept
                self.gone[begin:end] = ~keep_in_columns(score, kept, self.paired)
            return
        parts = [self.jointly(part, at, end) for at, part in enumerate(score.T.split(list(self.rows)))]
        self.gone[begin:end] = ~torch.cat(parts).T

    def jointly(self, score: Tensor, at: int, end: int) -> Tensor:
        """Return the mask of one matrix from scores up to the column `end`."""
        if self.settings.threshold == "reference":
            flat = torch.sort(score.flatten())[0]
            return score > flat[int(score.numel() * self.settings.sparsity)]
        # What rounding down left over in earlier blocks is made good here: the total is exact.
        due = share_of(len(score) * end, self.settings.sparsity) - self.pruned[at]
        self.pruned[at] += due
        return keep(score.contiguous(), due)
