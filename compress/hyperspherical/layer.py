"""Weights as directions on the unit sphere, each row with a length of its own; ternary in the forward pass (torch).

Our reconstruction from the abstracts of arXiv 2212.12653, 2212.12651 and 2212.12649, whose code and equations were not
at hand: row i of a matrix is g_i v_i with |v_i| = 1, its ternary form g_i t / sqrt(k), k entries of t being not 0.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.hyperspherical.ternary import Ternary, values
from compress.layers import CONV1D, kind, set_matrix
from compress.sparsity.saliency import keep_in_rows

Mode = Literal["dense", "ternary"]
TINY = 1e-12


class Nearest(NamedTuple):
    """The ternary directions nearest to rows.

    Attributes:
        hard: [R, C], each of length 1, or 0 where the row is.
        threshold: smallest size kept, [R, 1].
    """

    hard: Tensor
    threshold: Tensor


@runtime_checkable
class Weights(Protocol):
    """What stands in for the weights of a layer while it is trained towards three values a row."""

    mode: Mode

    def latent(self, *originals: Tensor) -> Tensor:
        """Return what training moves, [R, C]."""
        ...

    def project(self, *originals: Tensor) -> Ternary:
        """Return the ternary rows of the forward pass."""
        ...


class Held(NamedTuple):
    """A layer under training.

    Attributes:
        module: whose weight it is.
        weights: what computes it.
        originals: its parameters.
    """

    module: nn.Module
    weights: Any
    originals: tuple[nn.Parameter, ...]


class Straight(torch.autograd.Function):
    """A value in the forward pass; in the backward pass the gradient goes to another one, times a rate."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, hard: Tensor, rate: Tensor | None) -> Tensor:  # noqa: ANN401, ARG004  autograd's signature
        """Return `hard`, exactly."""
        ctx.rate = rate
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401  autograd's signature
        """Pass the gradient on."""
        return gradients[0] if ctx.rate is None else gradients[0] * ctx.rate, None, None


class Sphere(nn.Module):
    """Computes a weight from directions and lengths (a parametrization of torch).

    Attributes:
        mode: dense, or ternary in the forward pass with a straight-through gradient. The gradient goes through the
            normalisation, and is so orthogonal to the direction.
        mask: bool [R, C], False where pruned.
        rescale: T of the rate r = e + (1 - e) 4 s (1 - s), s = sigmoid(T (|v| - D) / D), that the gradient is taken
            times, D the smallest size kept; None: plain.
        floor: e, 0 to 1; 1 is plain again.
        watch: what `penalties` asks of the forward pass: `distance`, or the share of a row that is about to be pruned.
        seen: it, by row [R], until it is taken.
    """

    mask: Tensor

    def __init__(self, shape: tuple[int, int], *, transposed: bool = False) -> None:
        """Begin dense, with nothing pruned.

        Args:
            shape: R, C.
            transposed: whether the weight is stored [C, R].
        """
        super().__init__()
        self.transposed = transposed
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool))
        self.mode: Mode = "dense"
        self.rescale: float | None = None
        self.floor = 0.1
        self.watch: Literal["distance"] | float | None = None
        self.seen: Tensor | None = None
        self.shape: tuple[int, ...] = ()

    def forward(self, direction: Tensor, length: Tensor) -> Tensor:
        """Return the weight in its own shape.

        Args:
            direction: [R, C], of any length.
            length: [R].
        """
        unit = self.unit(direction)
        if self.mode == "ternary" or self.watch == "distance":
            hard, threshold = nearest(unit)
            if self.watch == "distance":
                self.seen = 1 - (unit * hard).sum(1)
            if self.mode == "ternary":
                unit = Straight.apply(unit, hard, self.rate(unit, threshold))
        if isinstance(self.watch, float):
            self.seen = rest(unit, self.watch)
        weight = length[:, None] * unit
        return weight.T if self.transposed else weight.reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return directions and lengths of a weight; its rows, so that the function stays the same."""
        self.shape = tuple(weight.shape)
        rows = weight.T.contiguous() if self.transposed else weight.flatten(1)
        length = rows.norm(dim=1)
        return rows / length.clamp(min=TINY)[:, None], length

    def unit(self, direction: Tensor) -> Tensor:
        """Return rows of length 1, 0 where pruned."""
        kept = torch.where(self.mask, direction, 0.0)
        return kept / kept.norm(dim=1, keepdim=True).clamp(min=TINY)

    def rate(self, unit: Tensor, threshold: Tensor) -> Tensor | None:
        """Return what the gradient is taken times."""
        if self.rescale is None:
            return None
        size = unit.detach().abs()
        near = torch.sigmoid(self.rescale * (size - threshold) / threshold.clamp(min=TINY))
        return self.floor + (1 - self.floor) * 4 * near * (1 - near)

    def latent(self, *originals: Tensor) -> Tensor:
        """Return the directions, [R, C]."""
        return self.unit(originals[0])

    @torch.no_grad()
    def project(self, *originals: Tensor) -> Ternary:
        """Return codes and scale |g| / sqrt(k) of the forward pass."""
        hard, _ = nearest(self.unit(originals[0]))
        length = originals[1]
        codes = torch.where(length[:, None] < 0, -hard.sign(), hard.sign()).to(torch.int8)
        count = codes.abs().sum(1)
        scale = torch.where(count > 0, length.abs() / count.clamp(min=1).sqrt(), 0.0)
        return Ternary(codes, scale.float())

    @torch.no_grad()
    def prune(self, direction: Tensor, kept: int) -> None:
        """Keep the largest entries of each row, for good."""
        self.mask &= keep_in_rows(self.unit(direction).abs(), kept)


def nearest(unit: Tensor) -> Nearest:
    """Return the ternary directions of least cosine distance to rows [R, C].

    What `best_ternary` does, in the rows' own precision and without a gradient: it is asked in every step. Entries as
    large as the smallest one kept are kept too.
    """
    with torch.no_grad():
        size = unit.abs()
        ordered = torch.sort(size, dim=1, descending=True).values
        count = torch.arange(1, size.shape[1] + 1, dtype=size.dtype, device=size.device)
        best = (ordered.cumsum(1) / count.sqrt()).argmax(1, keepdim=True)
        threshold = ordered.gather(1, best)
        codes = torch.where((size >= threshold) & (size > 0), unit.sign(), 0.0)
        return Nearest(codes / codes.norm(dim=1, keepdim=True).clamp(min=1), threshold)


def rest(unit: Tensor, share: float) -> Tensor:
    """Return E_i = sum of v_ij^2 over the smallest entries of each row, [R]; which these are has no gradient.

    Args:
        unit: [R, C].
        share: of a row that counts as small, 0 to 1.
    """
    kept = keep_in_rows(unit.detach().abs(), unit.shape[1] - round(share * unit.shape[1]))
    return torch.where(kept, 0.0, unit * unit).sum(1)


class HypersphericalLinear(nn.Linear):
    """A linear map whose weight is computed from directions and lengths from the start."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        """Draw weights as nn.Linear does; the lengths start as the rows' own."""
        super().__init__(in_features, out_features, bias=bias)
        convert({"": self})


def convert(layers: Mapping[str, nn.Module]) -> None:
    """Let weights be computed from directions and lengths; the function of each layer stays the same.

    Args:
        layers: by name, as `compress.layers.find` returns them: Linear, Conv1D, Conv2d or Embedding.
    """
    for module in layers.values():
        weight: Any = module.weight
        transposed = kind(module) == CONV1D
        rows = weight.shape[-1] if transposed else weight.shape[0]
        sphere = Sphere((rows, weight.numel() // rows), transposed=transposed)
        parametrize.register_parametrization(module, "weight", sphere)


def held(model: nn.Module) -> Iterator[tuple[str, Held]]:
    """Yield the layers under training, by name."""
    for name, module in model.named_modules():
        parts: Any = getattr(module, "parametrizations", None)
        own: Any = parts["weight"] if isinstance(parts, nn.ModuleDict) and "weight" in parts else None
        if own is not None and isinstance(own[0], Weights):
            originals = (own.original0, own.original1) if hasattr(own, "original0") else (own.original,)
            yield name, Held(module, own[0], originals)


@torch.no_grad()
def renormalise(model: nn.Module) -> None:
    """Bring the directions back to length 1 after a step; no function changes."""
    for _, layer in held(model):
        if isinstance(layer.weights, Sphere):
            layer.originals[0].copy_(layer.weights.unit(layer.originals[0]))


@torch.no_grad()
def fold(model: nn.Module) -> dict[str, Ternary]:
    """Turn layers under training back into plain ones, exactly as the forward pass has them.

    Returns:
        Codes and scale of the layers that are ternary, by name; their weights are codes times scale to the last bit.
    """
    found: dict[str, Ternary] = {}
    for name, layer in list(held(model)):
        ternary = layer.weights.project(*layer.originals) if layer.weights.mode == "ternary" else None
        parametrize.remove_parametrizations(layer.module, "weight", leave_parametrized=True)
        if ternary is not None:
            set_matrix(layer.module, values(ternary))
            found[name] = ternary
    return found
