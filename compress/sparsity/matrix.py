"""One layer from its Hessian to its new weights, by any of the methods; SparseGPT and what it is compared with."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from compress.sparsity import grids, saliency
from compress.sparsity.hessians import Factor, Hessian, damped_more, error
from compress.sparsity.hessians import factor as factor_of
from compress.sparsity.refit import refit_matrix
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import Pruned, fits, prune_matrix

MORE_DAMPING = (1.0, 10.0)
"""Times the damping of pruning, of which the refit takes what is better for rows held out: it has more to overfit."""


class Compressed(NamedTuple):
    """A matrix after pruning, refit and quantisation.

    Attributes:
        weight: [R, C], in the dtype it came in.
        mask: bool [R, C], True where kept.
        recovery: `refit` where it changed the weights, else `none`.
        held_out_error: ||X(W - W')^T||^2 / ||XW^T||^2 on the rows held out, of weights pruned and refitted without
            them; NaN where there were none.
    """

    weight: Tensor
    mask: Tensor
    recovery: str
    held_out_error: float = math.nan


def compress_matrix(
    weight: Tensor,
    hessian: Hessian,
    factor: Factor,
    settings: SparseGPT,
    *,
    pruned: Pruned | None = None,
    apart: Factor | None = None,
) -> Compressed:
    """Compress one matrix.

    Args:
        weight: W [R, C]; left as it is.
        hessian: of the inputs, with its held-out part.
        factor: of that Hessian.
        settings: allocation and propagation are not looked at.
        pruned: by SparseGPT, together with others of the same inputs; done here where None.
        apart: the factor without the held-out rows; made here where None and needed.

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
    found, held_out_error = refitted(dense, start, mask, hessian, (factor, apart), settings)
    if settings.bits is None:
        return Compressed(found.to(weight.dtype), mask, recovery(found, start), held_out_error)
    best = rounded(dense, found, sparse, mask, factor, settings)
    return Compressed(best.to(weight.dtype), mask, recovery(best, sparse))


def refitted(
    dense: Tensor,
    start: Tensor,
    mask: Tensor,
    hessian: Hessian,
    factors: tuple[Factor, Factor | None],
    settings: SparseGPT,
) -> tuple[Tensor, float]:
    """Refit on all rows, with the steps and the damping that were best for held-out rows when these were left out.

    Args:
        dense: [R, C].
        start: [R, C], on the support.
        mask: bool [R, C].
        hessian: with its held-out part.
        factors: of all rows, and of those not held out.
        settings: say how many steps at most.

    Returns:
        Weights [R, C], and the held-out error of those that were pruned and fitted without the held-out rows.
    """
    steps, times, lost = settings.refit_steps, MORE_DAMPING[0], math.nan
    if held_apart(hessian):
        steps, times, lost = tried(dense, start, mask, hessian, factors[1], settings)
    damped = damped_more(factors[0], times)
    return refit_matrix(dense, start, damped, steps=steps, mask=mask).weight, lost


def held_apart(hessian: Hessian) -> bool:
    """Tell whether there are rows held out, and others."""
    return hessian.held_out is not None and bool(hessian.held_out.tokens and hessian.tokens)


def factored_apart(hessian: Hessian, settings: SparseGPT) -> Factor | None:
    """Return the factor of the rows that are not held out; None where no refit asks for it.

    Raises:
        SingularHessian: no damping helped.
    """
    if not settings.refit_steps or not held_apart(hessian):
        return None
    return factor_of(hessian.normalised(), damping=settings.damping, tries=settings.damping_tries)


def tried(
    dense: Tensor, start: Tensor, mask: Tensor, hessian: Hessian, apart: Factor | None, settings: SparseGPT
) -> tuple[int, float, float]:
    """Prune and refit without the held-out rows; a mask that has seen them would make refitting look worse than it is.

    Returns:
        Steps and times of damping that were best for the held-out rows, and their error.
    """
    assert hessian.held_out is not None
    judge = hessian.held_out.normalised()
    apart = apart or factored_apart(hessian, settings)
    assert apart is not None
    if settings.method == "sparsegpt":
        pruned = prune_matrix(dense, apart, settings)
        mask = pruned.mask & ~apart.dead
        start = dense * mask if settings.bits else pruned.weight
    found = [
        (
            refit_matrix(
                dense, start, damped_more(apart, times), steps=settings.refit_steps, mask=mask, held_out=judge
            ),
            times,
        )
        for times in MORE_DAMPING
    ]
    best, times = min(found, key=lambda arm: min(arm[0].errors))
    return best.steps, times, error(dense, best.weight, judge)


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
