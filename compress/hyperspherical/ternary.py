"""Ternary matrices: a row is {-1, 0, 1} times a scale; projections of dense rows onto them (torch)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Ternary(NamedTuple):
    """A matrix whose row i holds -scale_i, 0 and scale_i alone.

    Attributes:
        codes: int8 [R, C] of -1, 0 and 1.
        scale: f32 [R], 0 or more.
    """

    codes: Tensor
    scale: Tensor


def values(ternary: Ternary) -> Tensor:
    """Return the matrix itself, f32 [R, C]."""
    return ternary.codes.float() * ternary.scale[:, None]


@torch.no_grad()
def best_ternary(weight: Tensor, *, fit: Literal["norm", "least_squares"] = "norm") -> Ternary:
    """Return the ternary rows of least cosine distance to the rows of a matrix.

    For a row v the cosine with t = sign(v) on a support of k entries is sum |v_j| / (|v| sqrt(k)), which for each k the
    k largest entries make largest; so sorting finds the best of all supports, without a threshold. This is our
    reconstruction of the projection in arXiv 2212.12649 and 2212.12653, of which abstracts alone were at hand.

    Args:
        weight: [R, C], finite; computed in f64.
        fit: what the scale keeps: `norm`, the row's length (|v| / sqrt(k)), as a layer on the sphere does;
            `least_squares`, the nearest multiple of t (mean |v_j| on the support).

    Returns:
        Codes and scale; of equal entries the first ones are kept. A row of zeros has codes and scale 0.

    Raises:
        ValueError: not a finite matrix.
    """
    exact = finite(weight)
    size = exact.abs()
    order = torch.sort(size, dim=1, descending=True, stable=True)
    count = torch.arange(1, size.shape[1] + 1, dtype=torch.float64, device=size.device)
    kept = (order.values.cumsum(1) / count.sqrt()).argmax(1, keepdim=True)
    rank = torch.empty_like(order.indices).scatter_(
        1, order.indices, torch.arange(size.shape[1], device=size.device).expand_as(order.indices)
    )
    return fitted(exact, rank <= kept, fit)


@torch.no_grad()
def twn(weight: Tensor, *, delta: float = 0.7, per: Literal["row", "tensor"] = "row") -> Ternary:
    """Return the ternary rows of Ternary Weight Networks (Li et al. 2016, eq. 3 to 6): a threshold of delta mean |w|.

    Args:
        weight: [R, C], finite; computed in f64.
        delta: of the mean absolute entry, 0 or more.
        per: threshold and scale by row, or one of each for the whole matrix.

    Raises:
        ValueError: not a finite matrix.
    """
    exact = finite(weight)
    size = exact.abs()
    if per == "row":
        return fitted(exact, size > delta * size.mean(1, keepdim=True), "least_squares")
    support = size > delta * size.mean()
    codes = torch.where(support, exact.sign(), 0).to(torch.int8)
    mean = size[support].mean() if bool(support.any()) else size.new_zeros(())
    return Ternary(codes, mean.float().expand(len(codes)).clone())


def cosine_distance(weight: Tensor, ternary: Ternary) -> Tensor:
    """Return 1 - cosine between the rows of a matrix and of a ternary one, f64 [R]; 0 where both are zero.

    Args:
        weight: [R, C].
        ternary: of R rows; only its codes tell.
    """
    exact, codes = weight.double(), ternary.codes.double()
    lengths = exact.norm(dim=1) * codes.norm(dim=1)
    cosine = (exact * codes).sum(1) / lengths.clamp(min=torch.finfo(torch.float64).tiny)
    both_zero = (exact.norm(dim=1) == 0) & (codes.norm(dim=1) == 0)
    return torch.where(both_zero, 0.0, 1 - cosine)


def finite(weight: Tensor) -> Tensor:
    """Return a matrix in f64, or refuse it."""
    if weight.dim() != 2 or not weight.numel():
        raise ValueError(f"ternary: a tensor of shape {tuple(weight.shape)}; expected a matrix [rows, columns]")
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("ternary: the matrix holds values that are not finite; train again with a lower learning rate")
    return weight.detach().double()


def fitted(exact: Tensor, support: Tensor, fit: str) -> Ternary:
    """Return signs on a support with their scale by row."""
    codes = torch.where(support, exact.sign(), 0)
    count = codes.abs().sum(1)
    size = exact.norm(dim=1) * count.sqrt() if fit == "norm" else (exact * codes).sum(1)
    return Ternary(codes.to(torch.int8), (size / count.clamp(min=1)).float())
