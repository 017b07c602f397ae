"""How much is pruned from which layer: less where outliers are many (OWL, Yin et al. 2024)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

OUTLIER = 5.0
"""An outlier lies above so many times its layer's mean."""
SPREAD = 0.16
"""Distance between the most and the least pruned layer: twice the paper's lambda of 0.08."""


def outliers(weight: Tensor, norm: Tensor) -> float:
    """Return the share of |w| ||X_j|| that lies above five times its mean.

    Args:
        weight: [R, C].
        norm: of each input over tokens, [C].
    """
    score = weight.abs() * norm
    return float((score > OUTLIER * score.mean()).double().mean())


def owl(share: Mapping[str, float], entries: Mapping[str, int], sparsity: float) -> dict[str, float]:
    """Return the sparsity of each layer: S_l = s - (D_l - mean D), D rescaled to a spread of 0.16.

    The mean is weighted by entries, so that as much is pruned altogether as with one sparsity for all; where a layer
    would leave 0 to 1, the spread is narrowed for all.

    Args:
        share: of outliers by layer.
        entries: R * C by layer.
        sparsity: s.
    """
    names = list(share)
    found = torch.tensor([share[name] for name in names], dtype=torch.float64)
    weight = torch.tensor([float(entries[name]) for name in names], dtype=torch.float64)
    width = float(found.max() - found.min())
    if not width:
        return dict.fromkeys(names, sparsity)
    scaled = (found - found.min()) / width * SPREAD
    apart = scaled - (scaled * weight).sum() / weight.sum()
    apart *= min([1.0, *room(apart.tolist(), sparsity)])
    return {name: sparsity - value for name, value in zip(names, apart.tolist(), strict=True)}


def room(apart: Sequence[float], sparsity: float) -> list[float]:
    """Return by how much each layer's distance may be multiplied without leaving 0 to 1."""
    return [sparsity / value if value > 0 else (1 - sparsity) / -value for value in apart if value]
