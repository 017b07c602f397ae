"""Hessians of a model's layers, from hooks on a forward pass; layers with the same input share one."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from compress.layers import as_matrix, columns_of
from compress.sparsity.hessians import Hessian

Forward = Callable[[nn.Module, Any], object]
"""Runs a model on one batch; what it returns is not looked at."""
TokenMask = Callable[[str, tuple[Any, ...]], Tensor | None]
"""From a layer's name and the arguments of its call: which tokens count, bool of the input's leading shape; None: all.
Of a Conv2d, [B, places]."""


class NotSharedError(Exception):
    """Layers had the same input in one batch and other ones in the next."""


class Collector:
    """Sums the inputs of layers while a model runs."""

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        *,
        token_mask: TokenMask | None = None,
        held_out: float = 0.0,
        share: bool = True,
    ) -> None:
        """Set up for layers by name."""
        self.layers, self.token_mask, self.held_out, self.share = layers, token_mask, held_out, share
        self.hessians: dict[str, Hessian] = {}
        self.leader: dict[str, str] = {}
        # Of the batch under way: whose an input is, with the input itself, so that its memory is not used again.
        self.seen: dict[Any, tuple[str, Tensor]] = {}
        self.calls: dict[str, int] = {}
        self.batch = 0

    def hook(self, name: str) -> Callable[..., None]:
        """Return what runs before a layer."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            self.calls[name] = self.calls.get(name, 0) + 1
            key = identity(x) if self.share else (name, self.calls[name])
            owner = self.seen[key][0] if key in self.seen else name
            if self.leader.setdefault(name, owner) != owner:
                raise NotSharedError
            if key not in self.seen:
                self.seen[key] = name, x
                self.add(name, module, x, args or tuple(kwargs.values()))
            self.hessians[name] = self.hessians[owner]

        return before

    def add(self, name: str, module: nn.Module, x: Tensor, args: tuple[Any, ...]) -> None:
        """Sum one input of a layer that leads its group."""
        if name not in self.hessians:
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            columns = as_matrix(module).shape[1]
            self.hessians[name] = Hessian(columns, dtype=dtype, held_out=self.held_out)
        mask = self.token_mask(name, args) if self.token_mask else None
        try:
            self.hessians[name].update(columns_of(module, x), mask)
        except ValueError as error:
            raise ValueError(f"layer {name}, calibration batch {self.batch}: {error}") from None

    def end(self) -> None:
        """End a batch.

        Raises:
            NotSharedError: layers of a group were not called as often as each other.
        """
        if any(self.calls.get(name) != self.calls.get(leader) for name, leader in self.leader.items()):
            raise NotSharedError
        self.seen, self.calls = {}, {}
        self.batch += 1

    def checked(self) -> dict[str, Hessian]:
        """Return the Hessians by layer.

        Raises:
            ValueError: a layer was not called, or all of its tokens are masked.
        """
        for name in self.layers:
            if name not in self.hessians:
                raise ValueError(f"layer {name}: was not called on the calibration data; leave it out with !{name}")
            if not self.hessians[name].counted:
                raise ValueError(f"layer {name}: no token is left after masking; give calibration data that reach it")
        return {name: self.hessians[name] for name in self.layers}


def identity(x: Tensor) -> tuple[Any, ...]:
    """Return what tells one tensor's values from another's while both are alive."""
    version = 0 if x.is_inference() else x._version  # noqa: SLF001  the only public trace of changes in place
    return x.data_ptr(), tuple(x.shape), x.stride(), x.dtype, version


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Iterable[Any],
    layers: Mapping[str, nn.Module],
    *,
    forward: Forward,
    token_mask: TokenMask | None = None,
    held_out: float = 0.0,
) -> dict[str, Hessian]:
    """Return the Hessian of each layer's inputs; layers called with the same tensors get the same object.

    Which layers share is found on the first batch and verified on each; where it does not hold, all are summed alone.
    The inputs of one batch stay in memory until it ends.

    Args:
        model: holds the layers.
        batches: read once, or twice where layers do not share; a list, not a generator.
        layers: by name, of kind linear, conv1d or conv2d.
        forward: runs the model on one batch.
        token_mask: tells which tokens count.
        held_out: share of input rows kept apart.

    Raises:
        ValueError: an input is not finite, a layer was not called, or none of its tokens counts.
    """
    for share in (True, False):
        collector = Collector(layers, token_mask=token_mask, held_out=held_out, share=share)
        try:
            with ExitStack() as stack:
                for name, module in layers.items():
                    handle = module.register_forward_pre_hook(collector.hook(name), with_kwargs=True)
                    stack.callback(handle.remove)
                for batch in batches:
                    forward(model, batch)
                    collector.end()
        except NotSharedError:
            continue
        return collector.checked()
    raise AssertionError("layers summed alone share nothing")
