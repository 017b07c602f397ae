"""What is added to a loss so that directions come near their ternary or pruned form, and how near they are (torch)."""

from typing import Literal

import torch
from torch import Tensor, nn

from compress.hyperspherical.layer import Sphere, held
from compress.hyperspherical.ternary import cosine_distance


def watch(model: nn.Module, what: Literal["distance"] | float | None) -> None:
    """Let the coming forward passes note the cosine distance of each row, or what pruning a share would take from it.

    Args:
        model: with layers on the sphere.
        what: `distance`, a share of each row, or None: nothing.
    """
    for _, layer in held(model):
        if isinstance(layer.weights, Sphere):
            layer.weights.watch, layer.weights.seen = what, None


def noted(model: nn.Module) -> Tensor:
    """Return the sum over layers of the mean over rows of what the last forward pass noted, and forget it.

    Of the distance d_i = 1 - v_i . v^_i the ternary direction has no gradient [reconstruction]; of E_i = sum of v_ij^2
    over the entries about to be pruned, the choice has none [reconstruction].

    Returns:
        A scalar with its gradient; 0 where nothing was noted.
    """
    total = torch.zeros(())
    for _, layer in held(model):
        if isinstance(layer.weights, Sphere) and layer.weights.seen is not None:
            total = total + layer.weights.seen.mean()
            layer.weights.seen = None
    return total


@torch.no_grad()
def distance(model: nn.Module) -> float:
    """Return the mean cosine distance between what training moves and its ternary form, every weight counting once.

    Raises:
        ValueError: no layer is under training.
    """
    total, weights = 0.0, 0
    for _, layer in held(model):
        latent = layer.weights.latent(*layer.originals)
        ternary = layer.weights.project(*layer.originals)
        # A negative length turns the codes around, not the direction.
        codes = ternary.codes * latent.sign().mul(ternary.codes).sum(1, keepdim=True).sign().to(torch.int8)
        total += float(cosine_distance(latent, ternary._replace(codes=codes)).sum()) * latent.shape[1]
        weights += latent.numel()
    if not weights:
        raise ValueError("distance: no layer is trained towards three values; convert some first")
    return total / weights
