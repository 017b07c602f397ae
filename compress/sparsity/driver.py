"""Pruning a whole model: block by block in the order of its forward pass, each calibrated behind pruned ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compress.layers import DEFAULT, EMBEDDING, as_matrix, blocks, find, kind, set_matrix
from compress.report import CompressionReport, Layer
from compress.sparsity.allocation import outliers, owl
from compress.sparsity.collection import Forward, TokenMask, collect
from compress.sparsity.hessians import Hessian, SingularHessian, error
from compress.sparsity.matrix import Compressed, compress_matrix, factored_apart
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import factored, fits, prune_group
from compress.sparsity.store import Store

Layers = Mapping[str, nn.Module]


class Unit(NamedTuple):
    """What is calibrated and pruned at once: a block, or a layer outside of blocks.

    Attributes:
        name: of the module.
        module: whose end ends a calibration pass; None: the pass runs to its end.
        layers: by name.
        calls: of the module in one pass.
    """

    name: str
    module: nn.Module | None
    layers: Layers
    calls: int = 1


class Reached(BaseException):
    """A pass has come as far as it is needed."""


def prune(
    model: nn.Module,
    batches: Sequence[Any],
    *,
    layers: Sequence[str] = DEFAULT,
    forward: Forward,
    token_mask: TokenMask | None = None,
    settings: SparseGPT,
    store: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> CompressionReport:
    """Prune layers of a model in place, without training.

    Args:
        model: any module; its mode (training or not) is given back.
        batches: calibration data, read several times.
        layers: patterns over names (see `compress.layers.find`).
        forward: runs the model on one batch.
        token_mask: tells which tokens of a layer's input count.
        settings: how.
        store: folder where finished blocks are kept; another call with the same model, data and settings goes on
            there and gives the same bytes. The caller deletes it.
        told: is given a line a block.

    Returns:
        The report, its layers in the order of pruning.

    Raises:
        ValueError: bad layers, settings or data, or the store belongs to something else.
        SingularHessian: of a layer, whatever its damping.
    """
    if not batches:
        raise ValueError("no calibration batch; give some")
    found = refuse(find(model, layers), settings)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            kept = Store.open(store, model, batches, settings) if store else None
            units = plan(model, found, batches[0], forward, settings)
            every: dict[str, Any] = {"forward": forward, "token_mask": token_mask}
            sparsity = allocate(model, batches, found, settings, every)
            done: list[Layer] = []
            tokens = 0
            for number, unit in enumerate(units):
                held = kept.load(number, unit.layers) if kept else None
                if held is None:
                    held = prune_unit(model, batches, unit, sparsity, settings, every)
                    if kept:
                        kept.save(number, unit.layers, *held)
                done += held[0]
                tokens = max(tokens, held[1])
                told(f"{unit.name}: {len(unit.layers)} layers, {number + 1} of {len(units)}")
    finally:
        model.train(was_training)
    return CompressionReport(settings.method, asdict(settings), tuple(done), tokens)


def refuse(found: Layers, settings: SparseGPT) -> Layers:
    """Refuse layers that cannot be pruned, before the first is.

    Raises:
        ValueError: an embedding, or a layer that the pattern does not fit.
    """
    for name, module in found.items():
        if kind(module) == EMBEDDING:
            raise ValueError(f"layer {name}: is an embedding, which has no inputs to calibrate on; leave it out")
        try:
            fits(as_matrix(module).shape[1], settings)
        except ValueError as problem:
            raise ValueError(f"layer {name}: {problem}") from None
    return found


def plan(model: nn.Module, found: Layers, batch: Any, forward: Forward, settings: SparseGPT) -> list[Unit]:  # noqa: ANN401
    """Return what is pruned when: blocks and single layers in the order of their first call."""
    if settings.propagate == "dense":
        return [Unit("all blocks", None, found)]
    parts = blocks(model)
    inside = {name: next((part for part in parts if f"{name}.".startswith(f"{part}.")), name) for name in found}
    units = {inside[name]: parts.get(inside[name], module) for name, module in found.items()}
    calls: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def before(*_: object) -> None:
            calls[name] = calls.get(name, 0) + 1

        return before

    handles = [module.register_forward_pre_hook(note(name)) for name, module in units.items()]
    try:
        forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    missed = next((name for name in found if inside[name] not in calls), None)
    if missed is not None:
        raise ValueError(f"layer {missed}: was not called on the calibration data; leave it out with !{missed}")
    return [
        Unit(name, units[name], {at: module for at, module in found.items() if inside[at] == name}, calls[name])
        for name in calls
    ]


def allocate(
    model: nn.Module, batches: Sequence[Any], found: Layers, settings: SparseGPT, every: Mapping[str, Any]
) -> dict[str, float]:
    """Return the sparsity of each layer."""
    if settings.allocation == "uniform":
        return dict.fromkeys(found, settings.sparsity)
    hessians = collect(model, batches, found, **every)
    share = {name: outliers(as_matrix(found[name]), hessians[name].gram.diagonal().sqrt()) for name in found}
    return owl(share, {name: as_matrix(module).numel() for name, module in found.items()}, settings.sparsity)


def prune_unit(
    model: nn.Module,
    batches: Sequence[Any],
    unit: Unit,
    sparsity: Mapping[str, float],
    settings: SparseGPT,
    every: Mapping[str, Any],
) -> tuple[list[Layer], int]:
    """Calibrate and prune the layers of one unit; return what is told of each, and the tokens of the most used."""
    forward = shortened(every["forward"], unit)
    hessians = collect(
        model, batches, unit.layers, forward=forward, token_mask=every["token_mask"], held_out=settings.held_out
    )
    done: dict[str, Layer] = {}
    for names in together(hessians, sparsity):
        hessian, layer_settings = hessians[names[0]], replace(settings, sparsity=sparsity[names[0]])
        try:
            held, apart = factored(hessian, settings), factored_apart(hessian, settings)
        except SingularHessian as problem:
            raise SingularHessian(f"layer {names[0]}: {problem}") from None
        dense = [as_matrix(unit.layers[name]).to(hessian.gram.dtype, copy=True) for name in names]
        pruned = prune_group(dense, held, layer_settings) if settings.method == "sparsegpt" else [None] * len(names)
        for name, weight, found in zip(names, dense, pruned, strict=True):
            made = compress_matrix(weight, hessian, held, layer_settings, pruned=found, apart=apart)
            set_matrix(unit.layers[name], made.weight)
            done[name] = tell(name, unit.layers[name], weight, hessian, held.damping, made, settings)
    return [done[name] for name in unit.layers], max(hessian.counted for hessian in hessians.values())


def together(hessians: Mapping[str, Hessian], sparsity: Mapping[str, float]) -> list[list[str]]:
    """Return the layers that share inputs and sparsity, and so a factor and a walk over their columns."""
    found: dict[tuple[int, float], list[str]] = {}
    for name, hessian in hessians.items():
        found.setdefault((id(hessian), sparsity[name]), []).append(name)
    return list(found.values())


def shortened(forward: Forward, unit: Unit) -> Forward:
    """Return a pass that ends where the unit does."""
    if unit.module is None:
        return forward
    module = unit.module

    def run(model: nn.Module, batch: Any) -> None:  # noqa: ANN401  whatever the caller's forward takes
        left = unit.calls

        def after(*_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Reached

        handle = module.register_forward_hook(after)
        try:
            forward(model, batch)
        except Reached:
            pass
        finally:
            handle.remove()

    return run


def tell(
    name: str, module: nn.Module, dense: Tensor, hessian: Hessian, damping: float, made: Compressed, settings: SparseGPT
) -> Layer:
    """Return what is told of a pruned layer."""
    now = as_matrix(module)
    return Layer(
        name=name,
        kind=kind(module) or "",
        rows=dense.shape[0],
        columns=dense.shape[1],
        zeros=int((now == 0).sum()),
        bits=settings.bits or 8 * now.element_size(),
        error=error(dense, now, hessian.everything().gram),
        held_out_error=made.held_out_error,
        damping=damping,
        recovery=made.recovery,
    )
