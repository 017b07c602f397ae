"""One layer from its Hessian to its new weights, by any of the methods; SparseGPT and what it is compared with."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from compress.sparsity import grids, saliency
from compress.sparsity.hessians import Factor, Hessian, damped_alike, error
from compress.sparsity.refit import refit_matrix
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import Pruned, fits, prune_matrix


class Compressed(NamedTuple):
    """A matrix after pruning, refit and quantisation.

    Attributes:
        weight: [R, C], in the dtype it came in.
        mask: bool [R, C], True where kept.
        recovery: `refit` where it changed the weights, else `none`.
        held_out_error: ||X(W - W')^T||^2 / ||XW^T||^2 on the rows held out, of weights refitted without them; NaN where
            there were none.
    """

    weight: Tensor
    mask: Tensor
    recovery: str
    held_out_error: float = math.nan


def compress_matrix(
    weight: Tensor, hessian: Hessian, factor: Factor, settings: SparseGPT, *, pruned: Pruned | None = None
) -> Compressed:
    """Compress one matrix.

    Args:
        weight: W [R, C]; left as it is.
        hessian: of the inputs, with its held-out part.
        factor: of that Hessian.
        settings: allocation and propagation are not looked at.
        pruned: by SparseGPT, together with others of the same inputs; done here where None.

    Raises:
        ValueError: the pattern does not fit the columns.
    """
    fits(weight.shape[1], settings)
    dense = weight.to(factor.hessian.dtype)
    # What an input that is always 0 is multiplied with bears on nothing.
    dense = dense.masked_fill(factor.dead, 0)
    if settings.method == "sparsegpt":
        pruned = pruned or prune_matrix(dense, factor, settings)
        sparse, mask = pruned.weight.to(dense.dtype), pruned.mask & ~factor.dead
    else:
        mask = chosen(dense, hessian, settings) & ~factor.dead
        sparse = dense * mask
    if settings.method not in ("sparsegpt", "wanda+refit") or not settings.refit_steps:
        return Compressed(sparse.to(weight.dtype), mask, "none")
    start = dense * mask if settings.bits else sparse
    found, held_out_error = refitted(dense, start, mask, hessian, factor, settings)
    if settings.bits is None:
        return Compressed(found.to(weight.dtype), mask, recovery(found, start), held_out_error)
    best = rounded(dense, found, sparse, mask, factor, settings)
    return Compressed(best.to(weight.dtype), mask, recovery(best, sparse))


def refitted(
    dense: Tensor, start: Tensor, mask: Tensor, hessian: Hessian, factor: Factor, settings: SparseGPT
) -> tuple[Tensor, float]:
    """Refit on all rows, with as many steps as were best for held-out rows when these were left out.

    Args:
        dense: [R, C].
        start: [R, C], on the support.
        mask: bool [R, C].
        hessian: with its held-out part.
        factor: of all rows.
        settings: say how many steps at most.

    Returns:
        Weights [R, C], and the held-out error of those that were fitted without the held-out rows.
    """
    held, steps, lost = hessian.held_out, settings.refit_steps, math.nan
    if held is not None and held.tokens and hessian.tokens:
        judge, apart = held.normalised(), damped_alike(hessian.normalised(), factor)
        tried = refit_matrix(dense, start, apart, steps=steps, mask=mask, held_out=judge)
        steps, lost = tried.steps, error(dense, tried.weight, judge)
    return refit_matrix(dense, start, factor.hessian, steps=steps, mask=mask).weight, lost


def chosen(dense: Tensor, hessian: Hessian, settings: SparseGPT) -> Tensor:
    """Return the mask of magnitude or Wanda."""
    if settings.method == "magnitude":
        return saliency.magnitude(dense, settings.sparsity, settings.groups)
    norm = torch.diagonal(hessian.everything().gram).sqrt().to(dense.dtype)
    return saliency.wanda(dense, norm, settings.sparsity, settings.groups)


def rounded(
    dense: Tensor, refitted: Tensor, joint: Tensor, mask: Tensor, factor: Factor, settings: SparseGPT
) -> Tensor:
    """Round refitted weights to the grid of the dense ones with compensation; by row the better of that and `joint`.

    Args:
        dense: [R, C].
        refitted: [R, C], on the support.
        joint: pruned and rounded in one pass, [R, C].
        mask: bool [R, C].
        factor: of the Hessian.
        settings: with bits.
    """
    assert settings.bits is not None
    grid = grids.fit(dense, settings.bits, search=settings.grid == "mse")
    again = prune_matrix(refitted, factor, replace(settings, sparsity=0.0, pattern=None), mask=mask, grid=grid).weight
    lost = [((dense - tried) @ factor.hessian * (dense - tried)).sum(1, keepdim=True) for tried in (again, joint)]
    return torch.where(lost[0] < lost[1], again, joint)


def recovery(weight: Tensor, before: Tensor) -> str:
    """Tell whether refitting changed anything."""
    return "none" if torch.equal(weight, before) else "refit"
