"""What makes up for pruned weights without training: nothing, the mean of a row, a bias, or new values (torch).

`zero`, `mean` and their choice by layer are a reconstruction from the abstract of arXiv 2212.12651; `bias` and `refit`
are extensions of ours.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from compress.layers import as_matrix, columns_of, kind, set_matrix
from compress.report import CompressionReport, Layer
from compress.sparsity.collection import Forward, TokenMask
from compress.sparsity.hessians import Hessian, factor
from compress.sparsity.refit import refit_matrix
from compress.sparsity.saliency import keep_in_rows

Recovery = Literal["zero", "mean", "bias", "refit"]
RECOVERIES: tuple[Recovery, ...] = ("zero", "mean", "bias", "refit")
REFIT_STEPS = 20
HELD_OUT = 0.25
"""Share of the calibration rows on which the recovery of a layer is chosen."""


class Moments(NamedTuple):
    """First and second moments of a layer's inputs.

    Attributes:
        mean: f32 [C].
        gram: E[x x^T], f32 [C, C].
    """

    mean: Tensor
    gram: Tensor


class Inputs(NamedTuple):
    """A layer's inputs: those that recoveries are made from, and those that they are compared on."""

    made: Moments
    judged: Moments


class Recovered(NamedTuple):
    """A pruned layer with what makes up for it.

    Attributes:
        weight: [R, C].
        bias: added to the output, [R].
        error: E|x W^T - x W'^T - b|^2 / E|x W^T|^2 on other inputs than it was made from.
        recovery: which.
    """

    weight: Tensor
    bias: Tensor
    error: float
    recovery: Recovery


def with_mean(weight: Tensor, mask: Tensor) -> Tensor:
    """Return a matrix whose removed entries are the mean of those removed from their row, so that sums of rows stay.

    Args:
        weight: [R, C].
        mask: bool [R, C], True where kept.
    """
    return torch.where(mask, weight, removed_mean(weight, mask)[:, None])


def removed_mean(weight: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the removed entries of each row, [R]; 0 where none was."""
    count = (~mask).sum(1)
    return torch.where(mask, 0.0, weight).sum(1) / count.clamp(min=1)


def apply_factored(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Return x times what `with_mean` makes, from a sparse matrix and one scalar a row: (kept - m) x + m sum(x).

    Args:
        x: [N, C].
        weight: dense, [R, C].
        mask: True where kept.
    """
    mean = removed_mean(weight, mask)
    sparse = torch.where(mask, weight - mean[:, None], 0.0)
    return x @ sparse.T + x.sum(1, keepdim=True) * mean


def recover(weight: Tensor, mask: Tensor, inputs: Inputs, candidates: Sequence[Recovery] = RECOVERIES) -> Recovered:
    """Prune a matrix and return the candidate of least error on the inputs that judge.

    Args:
        weight: dense, [R, C].
        mask: bool [R, C], True where kept.
        inputs: of the layer.
        candidates: at least one; of equal ones the first is taken.
    """
    dense = weight.float()
    pruned = torch.where(mask, dense, 0.0)
    none = dense.new_zeros(len(dense))
    found: list[Recovered] = []
    for name in candidates:
        made, bias = pruned, none
        if name == "mean":
            made = with_mean(dense, mask)
        elif name == "bias":
            bias = (dense - pruned) @ inputs.made.mean
        elif name == "refit":
            hessian = factor(inputs.made.gram).hessian
            made = refit_matrix(
                dense, pruned, hessian, steps=REFIT_STEPS, mask=mask, held_out=inputs.judged.gram
            ).weight
        found.append(Recovered(made, bias, error(dense, made, bias, inputs.judged), name))
    return min(found, key=lambda held: held.error)


def error(dense: Tensor, made: Tensor, bias: Tensor, inputs: Moments) -> float:
    """Return E|x (W - W')^T - b|^2 / E|x W^T|^2."""
    difference = dense - made
    spread = ((difference @ inputs.gram) * difference).sum()
    shift = (bias * bias).sum() - 2 * (bias * (difference @ inputs.mean)).sum()
    whole = ((dense @ inputs.gram) * dense).sum()
    return float((spread + shift) / whole.clamp(min=1e-30))


@torch.no_grad()
def inputs_of(
    model: nn.Module,
    batches: Sequence[Any],
    layers: Mapping[str, nn.Module],
    *,
    forward: Forward,
    token_mask: TokenMask | None = None,
) -> dict[str, Inputs]:
    """Return the moments of each layer's inputs; every fourth batch judges, of fewer than four the last one.

    Args:
        model: holds the layers.
        batches: two or more.
        layers: by name, of kind linear, conv1d or conv2d.
        forward: runs the model on one batch.
        token_mask: tells which tokens count.

    Raises:
        ValueError: fewer than two batches.
    """
    if len(batches) < 2:
        raise ValueError(f"recovery: {len(batches)} calibration batch; expected 2 or more: lower method.tokens")
    every = min(round(1 / HELD_OUT), len(batches))
    parts = [
        [batch for at, batch in enumerate(batches) if ((at + 1) % every == 0) == judged] for judged in (False, True)
    ]
    halves = [moments(model, part, layers, forward, token_mask) for part in parts]
    return {name: Inputs(halves[0][name], halves[1][name]) for name in layers}


def moments(
    model: nn.Module, batches: Sequence[Any], layers: Mapping[str, nn.Module], forward: Forward, mask: TokenMask | None
) -> dict[str, Moments]:
    """Return first and second moments of inputs, from one pass."""
    grams = {name: Hessian(as_matrix(module).shape[1]) for name, module in layers.items()}
    sums = {name: torch.zeros(held.columns) for name, held in grams.items()}

    def hook(name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            x = columns_of(module, args[0])
            kept = mask(name, args) if mask else None
            grams[name].update(x, kept)
            sums[name] += (x if kept is None else x[kept]).reshape(-1, x.shape[-1]).sum(0)

        return before

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in layers.items()]
    try:
        for batch in batches:
            forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: Moments(sums[name] / held.counted, held.normalised()) for name, held in grams.items()}


@torch.no_grad()
def prune(
    layers: Mapping[str, nn.Module],
    inputs: Mapping[str, Inputs],
    sparsity: float,
    candidates: Sequence[Recovery] = RECOVERIES,
    *,
    new_biases: bool = False,
) -> CompressionReport:
    """Prune the smallest entries of each row and recover what can be, layer by layer, in place and without training.

    Args:
        layers: by name.
        inputs: of each, as the dense network has them.
        sparsity: share of each row, 0 to 1.
        candidates: what a layer may choose from; a layer without a bias does not choose `bias`.
        new_biases: give it one instead.

    Raises:
        ValueError: a layer has nothing to choose from.
    """
    told: list[Layer] = []
    for name, module in layers.items():
        weight = as_matrix(module)
        mask = keep_in_rows(weight.abs(), weight.shape[1] - round(sparsity * weight.shape[1]))
        bias: Any = getattr(module, "bias", None)
        allowed: list[Recovery] = [held for held in candidates if held != "bias" or bias is not None or new_biases]
        if not allowed:
            raise ValueError(f"layer {name}: has no bias; expected another recovery beside bias")
        made = recover(weight, mask, inputs[name], allowed)
        set_matrix(module, made.weight)
        if made.recovery == "bias":
            module.bias = nn.Parameter(made.bias if bias is None else bias + made.bias)
        zeros = int((made.weight == 0).sum())
        rows, columns = weight.shape
        kept = Layer(name, str(kind(module)), rows, columns, zeros, held_out_error=made.error, recovery=made.recovery)
        told.append(kept)
    return CompressionReport("recoverable", {"sparsity": sparsity, "candidates": list(candidates)}, tuple(told))
