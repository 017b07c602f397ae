"""Which example each part of a tensor belongs to, so that a budget counts for an example and not for a row (torch)."""

from typing import NamedTuple

import torch
from torch import Tensor

NOBODY = -1


class Examples(NamedTuple):
    """B examples inside a tensor: one a row, or several packed in a row, or one over several rows.

    Attributes:
        place: example of each row i64 [R], or of each position i64 [R, T]; -1 where nothing may be moved (padding,
            special and static tokens).
        ids: what an example is known by; its noise hangs on it, i64 [B].
        answers: the example that each row of logits answers for, i64 [N]; None where row n answers for example n.
    """

    place: Tensor
    ids: Tensor
    answers: Tensor | None = None

    @property
    def number(self) -> int:
        """B."""
        return len(self.ids)

    @property
    def apart(self) -> bool:
        """Whether every row is an example of its own, so that some of them can be taken alone."""
        return self.place.dim() == 1 and self.answers is None

    def take(self, rows: Tensor) -> "Examples":
        """Return some of the examples, by number i64 [n]; they stand apart, one a row."""
        return Examples(torch.arange(len(rows), device=rows.device), self.ids[rows])

    def tracked(self) -> "Examples":
        """Return the same, of tensors that gradients may run past."""
        return Examples(*(None if part is None else tracked(part) for part in self))  # pyright: ignore[reportArgumentType]

    def movable(self, x: Tensor) -> Tensor:
        """Return what may be moved, bool, of a shape that broadcasts with x."""
        return beside(self.place != NOBODY, x)

    def spread(self, value: Tensor, x: Tensor) -> Tensor:
        """Return a value by example [B] at each of its parts, of a shape that broadcasts with x; 0 elsewhere."""
        padded = torch.cat([value, value.new_zeros(1)])
        return beside(padded[self.bins()], x)

    def element(self, x: Tensor) -> Tensor:
        """Return the number of each element inside its example, i64, of the shape of x."""
        rank = self.rank()
        features = torch.arange(x[(0,) * rank.dim()].numel() if x.numel() else 0, device=x.device)
        whole = rank[..., None] * len(features) + features
        return whole.view(x.shape)

    def rank(self) -> Tensor:
        """Return the number of each row or position among those of its example, i64, of the shape of place."""
        bins = self.bins().flatten()
        order = torch.argsort(bins, stable=True)
        sizes = torch.bincount(bins, minlength=self.number + 1)
        first = torch.cumsum(sizes, dim=0) - sizes
        rank = torch.empty_like(bins)
        rank[order] = torch.arange(len(bins), device=bins.device) - first[bins[order]]
        return rank.view(self.place.shape)

    def sizes(self) -> Tensor:
        """Return the number of rows or positions of each example, i64 [B]."""
        return torch.bincount(self.bins().flatten(), minlength=self.number + 1)[: self.number]

    def total(self, value: Tensor) -> Tensor:
        """Return sums by example [B] of a value for each element, or each row or position."""
        flat = value.reshape(*self.place.shape, -1).sum(-1).flatten()
        return flat.new_zeros(self.number + 1).index_add(0, self.bins().flatten(), flat)[: self.number]

    def largest(self, value: Tensor) -> Tensor:
        """Return the largest value by example [B], of values from 0 on; 0 where an example has no part."""
        flat = value.flatten(self.place.dim()) if value.dim() > self.place.dim() else value[..., None]
        flat = (flat.amax(-1) if flat.numel() else flat.sum(-1)).flatten()
        found = flat.new_zeros(self.number + 1).scatter_reduce(0, self.bins().flatten(), flat, "amax")
        return found[: self.number]

    def of_answers(self, value: Tensor) -> Tensor:
        """Return sums by example [B] of a value for each row of logits [N]."""
        if self.answers is None:
            return value
        return value.new_zeros(self.number).index_add(0, self.answers, value)

    def worst_of_answers(self, value: Tensor, lowest: float) -> Tensor:
        """Return the largest value by example [B] of values for each row of logits [N]; `lowest` where it has none."""
        if self.answers is None:
            return value
        return value.new_full((self.number,), lowest).scatter_reduce(0, self.answers, value, "amax")

    def bins(self) -> Tensor:
        """Return the place with B in place of -1, so that what belongs to nobody is gathered in one more bin."""
        return torch.where(self.place == NOBODY, self.number, self.place)


def tracked(value: Tensor) -> Tensor:
    """Return a tensor that gradients may run past; those made in inference mode refuse."""
    return value.clone() if value.is_inference() else value


def beside(value: Tensor, x: Tensor) -> Tensor:
    """Return a value by row or position with dimensions of length 1 behind, so that it broadcasts with x."""
    return value.view(*value.shape, *([1] * (x.dim() - value.dim())))


def apart(x: Tensor, ids: Tensor | None = None) -> Examples:
    """Return the examples of a tensor [B, ...] that has one in each row; ids count from 0 where none are given."""
    place = torch.arange(len(x), device=x.device)
    return Examples(place, place if ids is None else ids)


def packed(
    segment: Tensor, mask: Tensor | None = None, ids: Tensor | None = None, asked: Tensor | None = None
) -> Examples:
    """Return the examples of packed rows, numbered in row-major order of segments.

    Args:
        segment: [R, T], 0 = padding, 1.. = sample in that row, without gaps.
        mask: which positions may be moved, bool [R, T]; all that are not padding where None.
        ids: of the samples, i64 [B]; counted from 0 where None.
        asked: segment of each answer, [R, S], 0 = padding; logits have a row for each that is not padding, in
            row-major order. One answer a sample where None.
    """
    counts = segment.amax(dim=1).to(torch.int64) if segment.numel() else segment.new_zeros(len(segment)).long()
    first = torch.cumsum(counts, dim=0) - counts

    def numbered(at: Tensor) -> Tensor:
        return torch.where(at > 0, first[:, None] + at - 1, NOBODY)

    place = numbered(segment.to(torch.int64))
    if mask is not None:
        place = torch.where(mask, place, NOBODY)
    count = int(counts.sum())
    answers = None if asked is None else numbered(asked.to(torch.int64))[asked > 0]
    return Examples(place, torch.arange(count, device=segment.device) if ids is None else ids, answers)
