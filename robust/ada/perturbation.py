"""Weights of a frozen network moved within a share of each layer's length (Calian et al. 2022, section 3) (torch).

Reconstructed from the paper's text; its code was not published.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from robust.draws import Draws
from robust.examples import apart

Weights = dict[str, Tensor]
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class WeightPerturbation:
    """How far, and how, the weights of a corruption network are moved."""

    nu: float = 0.01
    """Radius of each layer's move as a share of the layer's own length; 0.005 to 0.02 in the paper."""
    steps: int = 5
    """Steps of ascent, 0 or more; with 0 the move is random, on the edge of what is allowed."""
    size: float = 0.25
    """Length of a step as a share of the radius."""
    group: int = 1
    """Examples that share a move; the paper has one each."""
    layers: tuple[str, ...] = ()
    """Beginnings of the names of the weights that move; all where empty."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.nu < 0 or self.steps < 0 or self.size <= 0 or self.group < 1:
            raise ValueError("ada: expected nu and steps from 0 on, a size above 0 and groups of 1 or more")

    def corrupt(
        self, network: nn.Module, x: Tensor, raised: Callable[[Tensor], Tensor], ids: Tensor, draws: Draws
    ) -> Tensor:
        """Return what the network makes of x with its weights moved so that a loss rises, without gradient.

        Args:
            network: frozen, from x to corrupted inputs, in eval mode; examples do not bear on each other in it.
            x: B of its inputs, [B, ...].
            raised: corrupted inputs -> the loss of each example, [B].
            ids: by which examples are random; that of a group's first example counts for the group, i64 [B].
            draws: of this step.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            if not len(x):
                return x.detach().clone()
            base = self.weights(network)
            groups = -(-len(x) // self.group)
            missing = groups * self.group - len(x)
            grouped = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]).detach().unflatten(0, (groups, self.group))

            def corrupted(moves: Weights) -> Tensor:
                moved = {name: base[name] + move for name, move in moves.items()}
                made = vmap(lambda weights, part: functional_call(network, weights, (part,)))(moved, grouped)
                return made.flatten(0, 1)[: len(x)]

            moves = self.start(base, ids[:: self.group], draws)
            for _ in range(self.steps):
                moves = self.step(moves, base, lambda tried: raised(corrupted(tried)).sum())
            with torch.no_grad():
                return corrupted(moves)

    def weights(self, network: nn.Module) -> Weights:
        """Return the weights that move.

        Raises:
            ValueError: no name begins as asked.
        """
        found = {
            name: weight.detach()
            for name, weight in network.named_parameters()
            if not self.layers or name.startswith(self.layers)
        }
        if not found:
            raise ValueError(f"ada.layers: no weight of the corruption network begins with {', '.join(self.layers)}")
        return found

    def start(self, base: Weights, ids: Tensor, draws: Draws) -> Weights:
        """Return a random move of each group, [G, ...]: on the edge where it is all there is, else inside."""
        moves: Weights = {}
        for number, (name, weight) in enumerate(base.items()):
            own = draws.fork(number)
            wide = weight.new_zeros(len(ids), *weight.shape)
            along = unit(own.normal(wide, apart(wide, ids)))
            share = own.fork(3).uniform(ids, 1, weight.dtype)[:, 0] if self.steps else torch.ones_like(ids)
            moves[name] = self.nu * weight.norm() * broadcast(share.to(weight.dtype), along) * along
        return moves

    def step(self, moves: Weights, base: Weights, raised: Callable[[Weights], Tensor]) -> Weights:
        """Return moves a step further up, each layer by its own gradient's direction, and back inside."""
        leaf = {name: move.detach().requires_grad_() for name, move in moves.items()}
        slopes = torch.autograd.grad(raised(leaf), list(leaf.values()))
        after: Weights = {}
        for (name, move), slope in zip(moves.items(), slopes, strict=True):
            radius = self.nu * base[name].norm()
            ahead = move.detach() + self.size * radius * unit(slope)
            size = broadcast(lengths(ahead), ahead)
            after[name] = ahead * (radius / size.clamp(min=TINY)).clamp(max=1)
        return after


def lengths(value: Tensor) -> Tensor:
    """Return the length of each group's tensor, [G]."""
    return value.reshape(len(value), -1).norm(dim=1)


def unit(value: Tensor) -> Tensor:
    """Return tensors of length 1 by group, 0 where they are 0."""
    return value / broadcast(lengths(value), value).clamp(min=TINY)


def broadcast(value: Tensor, like: Tensor) -> Tensor:
    """Return a value by group with dimensions of length 1 behind."""
    return value.view(-1, *([1] * (like.dim() - 1)))
