"""One layer from its Hessian to its new weights, by any of the methods; SparseGPT and what it is compared with."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from compress.sparsity import grids, saliency
from compress.sparsity.hessians import Factor, Hessian
from compress.sparsity.refit import refit_matrix
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import Pruned, fits, prune_matrix


class Compressed(NamedTuple):
    """A matrix after pruning, refit and quantisation.

    Attributes:
        weight: [R, C], in the dtype it came in.
        mask: bool [R, C], True where kept.
        recovery: `refit` where it changed the weights, else `none`.
    """

    weight: Tensor
    mask: Tensor
    recovery: str


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
    held = hessian.held_out.normalised() if hessian.held_out is not None and hessian.held_out.tokens else None
    start = dense * mask if settings.bits else sparse
    found = refit_matrix(dense, start, factor.hessian, steps=settings.refit_steps, mask=mask, held_out=held)
    if settings.bits is None:
        return Compressed(found.weight.to(weight.dtype), mask, recovery(found.weight, start))
    best = rounded(dense, found.weight, sparse, mask, factor, settings)
    return Compressed(best.to(weight.dtype), mask, recovery(best, sparse))


def chosen(dense: Tensor, hessian: Hessian, settings: SparseGPT) -> Tensor:
    """Return the mask of magnitude or Wanda."""
    if settings.method == "magnitude":
        return saliency.magnitude(dense, settings.sparsity, settings.groups)
    norm = torch.diagonal(hessian.gram).sqrt().to(dense.dtype)
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
