"""Augmentations of packed sequences, as indices of positions: what a position holds, not where it stands (torch)."""

from typing import NamedTuple

import torch
from torch import Tensor

from robust.augmentation import beta, partner
from robust.draws import Draws
from robust.examples import NOBODY, Examples

NOTHING = -1


class Exchange(NamedTuple):
    """Where the content of each position comes from.

    Attributes:
        source: number of a position in row-major order, i64 [R, T]; -1 where a position is left empty.
        other: the example that each was mixed with, i64 [B].
        share: of an example's positions that kept their own content, f64 [B]; its label's share too.
    """

    source: Tensor
    other: Tensor
    share: Tensor

    def apply(self, value: Tensor, empty: int) -> Tensor:
        """Return a table by position [R, T] with its content exchanged; `empty` where a position is left empty."""
        taken = value.flatten()[self.source.clamp(min=0)]
        return torch.where(self.source == NOTHING, empty, taken)


def segment_cutmix(examples: Examples, visit: Tensor, draws: Draws, *, alpha: float = 1.0) -> Exchange:
    """Return samples in which a run of visits holds what another sample's visits of the same numbers held.

    Dates stay those of the sample itself. A visit of the other with more tokens is cut to the places that there are;
    with fewer, or without such a visit, places are left empty, and the caller takes them out of attention.

    Args:
        examples: packed, positions [R, T]; those of nobody keep what they hold.
        visit: number of each position's visit, [R, T], from 1 on; 0 is never exchanged (statics).
        draws: by which it is random.
        alpha: of Beta(alpha, alpha), from which the share of visits that is kept comes.
    """
    place, ids = examples.place, examples.ids
    visit = torch.where(place == NOBODY, 0, visit.to(torch.int64))
    other = partner(ids, draws.fork(2))
    visits = by_example(examples, visit)
    run = (visits * (1 - beta(ids, draws.fork(1), alpha))).round().to(torch.int64)
    first = draws.fork(3).whole(ids, visits - run + 1) + 1
    begin, end = (examples.spread(value, place) for value in (first, first + run))
    moved = (visit > 0) & (visit >= begin) & (visit < end)
    # A position is known by its example, its visit and its number in the visit, as one whole number that sorts.
    number = within(examples, visit)
    widths = (int(visit.max()) + 1 if visit.numel() else 1), (int(number.max()) + 1 if number.numel() else 1)
    own = key(examples.bins(), visit, number, widths).flatten()
    asked = key(examples.spread(other, place), visit, number, widths).flatten()
    order = torch.argsort(own, stable=True)
    at = torch.searchsorted(own[order], asked).clamp(max=max(len(own) - 1, 0))
    found = torch.where(own[order][at] == asked, order[at], NOTHING).view(place.shape)
    source = torch.where(moved, found, torch.arange(place.numel(), device=place.device).view(place.shape))
    kept = examples.total((~moved).double()) / examples.sizes().clamp(min=1)
    return Exchange(source, other, kept)


def by_example(examples: Examples, visit: Tensor) -> Tensor:
    """Return the greatest number of a visit of each example, i64 [B]."""
    flat = visit.new_zeros(examples.number + 1).scatter_reduce(0, examples.bins().flatten(), visit.flatten(), "amax")
    return flat[: examples.number]


def within(examples: Examples, visit: Tensor) -> Tensor:
    """Return the number of each position inside its visit, i64 [R, T]."""
    width = int(visit.max()) + 1 if visit.numel() else 1
    group = (examples.bins() * width + visit).flatten()
    order = torch.argsort(group, stable=True)
    _, inverse, sizes = torch.unique(group, return_inverse=True, return_counts=True)
    first = torch.cumsum(sizes, dim=0) - sizes
    number = torch.empty_like(group)
    number[order] = torch.arange(len(group), device=group.device) - first[inverse[order]]
    return number.view(visit.shape)


def key(example: Tensor, visit: Tensor, number: Tensor, widths: tuple[int, int]) -> Tensor:
    """Return one whole number for an example, a visit and a number in it."""
    return (example * widths[0] + visit) * widths[1] + number


def embedding_mixup(x: Tensor, examples: Examples, draws: Draws, *, alpha: float = 0.2) -> tuple[Tensor, Exchange]:
    """Return embeddings mixed with those of another example at the same place in it, and with whom.

    Args:
        x: [R, T, D].
        examples: packed, positions [R, T].
        draws: by which it is random.
        alpha: of Beta(alpha, alpha).

    Returns:
        l x + (1 - l) x_other where the other has such a place, x elsewhere; shares and partners by example.
    """
    place, rank = examples.place, examples.rank()
    share = beta(examples.ids, draws.fork(1), alpha)
    other = partner(examples.ids, draws.fork(2))
    width = int(rank.max()) + 1 if rank.numel() else 1
    own = (examples.bins() * width + rank).flatten()
    asked = (examples.spread(other, place) * width + rank).flatten()
    order = torch.argsort(own, stable=True)
    at = torch.searchsorted(own[order], asked).clamp(max=max(len(own) - 1, 0))
    there = ((own[order][at] == asked) & (place != NOBODY).flatten()).view(place.shape)
    source = torch.where(there, order[at].view(place.shape), torch.arange(place.numel()).view(place.shape))
    wide = examples.spread(share.to(x.dtype), x)
    mixed = wide * x + (1 - wide) * x.flatten(0, 1)[source]
    return torch.where(there[..., None], mixed, x), Exchange(source, other, share)


def token_cutout(examples: Examples, draws: Draws, *, share: float) -> Tensor:
    """Return which positions are kept, bool [R, T]: a run of each example's positions is left out.

    Args:
        examples: packed, positions [R, T]; those of nobody are kept.
        draws: by which it is random.
        share: of the positions left out, 0 to 1.
    """
    sizes = examples.sizes()
    length = (share * sizes).round().to(torch.int64)
    first = draws.whole(examples.ids, sizes - length + 1)
    begin, end = (examples.spread(value, examples.place) for value in (first, first + length))
    rank = examples.rank()
    return (examples.place == NOBODY) | (rank < begin) | (rank >= end)
