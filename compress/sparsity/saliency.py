"""Which weights matter least: exact selections, and the masks of magnitude and Wanda.  Masks are True where kept."""

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


def share_of(entries: int, sparsity: float) -> int:
    """Return floor(entries * sparsity), the share read as the decimal that was written."""
    return math.floor(entries * Fraction(str(sparsity)))


def keep(score: Tensor, pruned: int) -> Tensor:
    """Return the mask of a joint selection: exactly so many lowest scores go, of equal ones those that come first.

    Args:
        score: [R, N], finite.
        pruned: 0 to R * N.

    Returns:
        bool [R, N], True where kept.
    """
    flat = score.reshape(-1)
    if pruned <= 0:
        return torch.ones_like(score, dtype=torch.bool)
    if pruned >= flat.numel():
        return torch.zeros_like(score, dtype=torch.bool)
    threshold = torch.kthvalue(flat, pruned).values
    gone = flat <= threshold
    above = int(gone.sum()) - pruned
    if above:
        gone[torch.nonzero(flat == threshold)[-above:, 0]] = False
    return ~gone.reshape(score.shape)


def keep_in_rows(score: Tensor, kept: int) -> Tensor:
    """Return the mask that keeps the highest scores of each row; of equal ones those that come last.

    Args:
        score: [..., N].
        kept: 0 to N.
    """
    order = torch.sort(score, dim=-1, stable=True).indices
    mask = torch.zeros_like(score, dtype=torch.bool)
    return mask.scatter(-1, order[..., score.shape[-1] - kept :], value=True)


class Pairs(NamedTuple):
    """All pairs of N scores: which come first and second, i64 [P], and what each score loses.

    Score i loses `base[i] + (sign @ loses)[i]` of them, where `loses` is 1 where the first of a pair loses, f32 [P, R].
    """

    first: Tensor
    second: Tensor
    base: Tensor
    sign: Tensor


def pairs(count: int, device: torch.device) -> Pairs:
    """Pair so many scores."""
    first, second = torch.triu_indices(count, count, 1, device=device)
    ahead, behind = (functional.one_hot(side, count).T.float() for side in (first, second))
    return Pairs(first, second, behind.sum(1, keepdim=True), ahead - behind)


def keep_in_columns(score: Tensor, kept: int, paired: Pairs) -> Tensor:
    """Return what `keep_in_rows` does of the transpose, for few scores in many columns.

    Each pair is compared once and one product counts losses: for 2:4 a quarter of the time of sorting.

    Args:
        score: [N, R].
        kept: 0 to N.
        paired: of N scores.
    """
    loses = (score[paired.second] >= score[paired.first]).float()  # of equal ones that which comes last stays
    return torch.addmm(paired.base, paired.sign, loses) < kept


def keep_in_groups(score: Tensor, kept: int, size: int) -> Tensor:
    """Return the n:m mask: of every `size` columns in a row the `kept` highest scores; a last short group is kept.

    Args:
        score: [R, C].
        kept: n.
        size: m.
    """
    whole = score.shape[1] // size * size
    grouped = keep_in_rows(score[:, :whole].unflatten(1, (-1, size)), kept).flatten(1)
    return torch.cat([grouped, torch.ones_like(score[:, whole:], dtype=torch.bool)], dim=1)


def magnitude(weight: Tensor, sparsity: float, groups: tuple[int, int] | None = None) -> Tensor:
    """Return the mask that keeps the largest |w|: over the whole matrix, or n of every m columns in a row.

    Args:
        weight: [R, C].
        sparsity: share to prune; ignored with groups.
        groups: n and m.
    """
    score = weight.abs()
    return keep_in_groups(score, *groups) if groups else keep(score, share_of(score.numel(), sparsity))


def wanda(weight: Tensor, norm: Tensor, sparsity: float, groups: tuple[int, int] | None = None) -> Tensor:
    """Return Wanda's mask: the highest |w| ||X_j|| of each row (Sun et al. 2024, equation 1).

    Args:
        weight: [R, C].
        norm: of each input over tokens, [C].
        sparsity: share to prune of each row; ignored with groups.
        groups: n and m.
    """
    score = weight.abs() * norm
    if groups:
        return keep_in_groups(score, *groups)
    columns = weight.shape[1]
    return keep_in_rows(score, columns - share_of(columns, sparsity))
