"""New values for the weights that stay: least squares on a fixed support, by conjugate gradients.

The second half of ALPS (Meng et al. 2024, section 3.3), row by row and preconditioned with the diagonal.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from compress.sparsity.hessians import squared

EVERY = 4
"""Steps after which held-out inputs are asked: asking costs as much as a step."""
LEAST_GAIN = 1e-4
"""Share by which the held-out error has to fall from one asking to the next for refitting to go on."""


class Refitted(NamedTuple):
    """A matrix with new values on the same support.

    Attributes:
        weight: [R, C], of the best step asked about, in the dtype it came in.
        steps: how many lead there.
        errors: tr((W - W')H(W - W')^T) before and after each step; or, with held-out inputs, theirs, before and
            after every fourth step.
    """

    weight: Tensor
    steps: int
    errors: tuple[float, ...]


def refit_matrix(
    dense: Tensor,
    sparse: Tensor,
    hessian: Tensor,
    *,
    steps: int,
    mask: Tensor | None = None,
    held_out: Tensor | None = None,
) -> Refitted:
    """Minimise 1/2 tr((W - W')H(W - W')^T) over W' on the support.

    Args:
        dense: W [R, C].
        sparse: where to start, [R, C].
        hessian: symmetric, positive, [C, C]; damped, as SparseGPT uses it.
        steps: at most.
        mask: the support, bool [R, C], True where kept; where None, what is not 0 in `sparse`.
        held_out: Gram matrix of other inputs, on which the best step is chosen; where None, the last one is taken.
    """
    support = (sparse != 0 if mask is None else mask).to(hessian.dtype)
    weight = sparse.to(hessian.dtype, copy=True)
    target = dense.to(hessian.dtype)
    inverse = 1 / torch.diagonal(hessian)
    residual = ((target - weight) @ hessian) * support
    direction = residual * inverse
    slope = (residual * direction).sum(1)
    best, taken, errors = weight, 0, [squared(target - weight, hessian if held_out is None else held_out)]
    for step in range(1, steps + 1):
        turned = (direction @ hessian) * support
        curve = (direction * turned).sum(1)
        # A row that has arrived, or that rounding leads astray, stays where it is.
        length = torch.where(curve > 0, slope / torch.where(curve > 0, curve, 1.0), 0.0)
        weight = torch.addcmul(weight, length[:, None], direction)
        residual -= length[:, None] * turned
        scaled = residual * inverse
        following = (residual * scaled).sum(1)
        turn = torch.where(slope > 0, following / torch.where(slope > 0, slope, 1.0), 0.0)
        direction = torch.addcmul(scaled, turn[:, None], direction)
        if held_out is None:
            # What a step gains is known from its length.
            errors.append(errors[-1] - float((length * slope).sum(dtype=torch.float64)))
            best, taken = weight, step
        elif step % EVERY == 0 or step == steps:
            errors.append(squared(target - weight, held_out))
            if errors[-1] < min(errors[:-1]):
                best, taken = weight, step
            if errors[-1] > (1 - LEAST_GAIN) * errors[-2]:
                break
        slope = following
    return Refitted(best.to(dense.dtype), taken, tuple(errors))
