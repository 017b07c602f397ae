"""Square: random search over blocks, which asks for scores alone (Andriushchenko et al. 2020) (torch)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robust.aims import Forward, Target, checked, goal_of
from robust.draws import Draws, as_uniform
from robust.examples import Examples, beside
from robust.threats import Threat

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
OF = 10_000


@dataclass(frozen=True, kw_only=True)
class Square:
    """Random search: one block of an example moves to the edge of the ball, and stays there if the margin rises.

    On images [B, C, H, W] that stand apart, blocks are squares and the start is vertical stripes, as published. On
    anything else a block is a run of rows or positions of the example, which get one new direction.
    """

    queries: int = 500
    """Questions about each example, 1 or more."""
    share: float = 0.8
    """Share of the elements in the first blocks, above 0 to 1; halved on the published schedule."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.queries < 1 or not 0 < self.share <= 1:
            raise ValueError("square: expected queries from 1 on and a share above 0 to 1")

    @property
    def forwards(self) -> int:
        """How often the network is asked about an example, at most."""
        return self.queries + 1

    @torch.no_grad()
    def perturb(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Tensor:
        """Return moved inputs; with radius 0 or without examples x itself."""
        threat.check(x)
        x = x.detach().clone()
        if not examples.number or threat.epsilon == 0:
            return x
        margin = goal_of("margin", target, examples)(checked(forward(x)))
        whole, search = x.clone(), Search(x, x, margin, torch.arange(len(x), device=x.device), target, examples)
        for query in range(self.queries):
            search = search.unbroken() if examples.apart else search
            if bool((search.margin > 0).all()):
                break
            search = search.after(forward, self.block(search, query, draws.fork(query)), threat)
            whole[search.rows] = search.found
        return whole

    def block(self, search: "Search", query: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return where a query changes each example, bool, and along what, of shapes that broadcast with x."""
        x, examples = search.x, search.examples
        image = examples.apart and x.dim() == 4
        if query == 0:
            inside = torch.ones_like(x, dtype=torch.bool)
            return inside, stripes(x, examples, draws) if image else draws.normal(x, examples)
        share = share_at(self.share, query, self.queries)
        return (squares if image else runs)(x, examples, draws, share)


class Search(NamedTuple):
    """Where the search stands.

    Attributes:
        x: inputs, [R, ...].
        found: the best point of each example.
        margin: there, [B].
        rows: which rows of the whole these are, i64 [R].
        target: what their answers should be.
        examples: B of them.
    """

    x: Tensor
    found: Tensor
    margin: Tensor
    rows: Tensor
    target: Target
    examples: Examples

    def unbroken(self) -> "Search":
        """Return it with those examples alone that are not wrong yet; they stand apart."""
        left = torch.nonzero(self.margin <= 0)[:, 0]
        if len(left) == len(self.margin):
            return self
        return Search(
            self.x[left],
            self.found[left],
            self.margin[left],
            self.rows[left],
            self.target.take(left),
            self.examples.take(left),
        )

    def after(self, forward: Forward, block: tuple[Tensor, Tensor], threat: Threat) -> "Search":
        """Return it after a question: a block goes to the edge of the ball, and stays where the margin rises."""
        inside, along = block
        away = self.x + threat.epsilon * threat.ascent(torch.where(inside, along, 0), self.examples)
        tried = threat.project(torch.where(inside, away, self.found), self.x, self.examples)
        margin = goal_of("margin", self.target, self.examples)(checked(forward(tried)))
        # What is broken stays as it is, whoever is still being searched beside it.
        better = (margin > self.margin) & (self.margin <= 0)
        found = torch.where(self.examples.spread(better, self.x), tried, self.found)
        return self._replace(found=found, margin=torch.where(better, margin, self.margin))


def share_at(share: float, query: int, queries: int) -> float:
    """Return the share of elements in a block: halved at fixed parts of the search (section 4 of the paper)."""
    at = query / queries * OF
    return share / 2 ** sum(at > step for step in HALVINGS)


def stripes(x: Tensor, examples: Examples, draws: Draws) -> Tensor:
    """Return a sign for each channel and column of images, [B, C, H, W]."""
    _, channels, _, width = x.shape
    drawn = draws.uniform(examples.ids, channels * width, x.dtype).view(-1, channels, 1, width)
    return torch.where(drawn < 0.5, -1.0, 1.0).to(x.dtype).expand(x.shape)


def squares(x: Tensor, examples: Examples, draws: Draws, share: float) -> tuple[Tensor, Tensor]:
    """Return a square window of each image, bool [B, 1, H, W], and a sign for each of its channels."""
    _, channels, height, width = x.shape
    side = min(max(round((share * height * width) ** 0.5), 1), height - 1, width - 1)
    side = max(side, 1)
    ids = examples.ids
    top = draws.fork(1).whole(ids, torch.full_like(ids, height - side + 1))[:, None]
    left = draws.fork(2).whole(ids, torch.full_like(ids, width - side + 1))[:, None]
    row, column = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    rows, columns = (row >= top) & (row < top + side), (column >= left) & (column < left + side)
    drawn = draws.fork(3).uniform(ids, channels, x.dtype)[:, :, None, None]
    along = torch.where(drawn < 0.5, -1.0, 1.0).to(x.dtype).expand(x.shape)
    return rows[:, None, :, None] & columns[:, None, None, :], along


def runs(x: Tensor, examples: Examples, draws: Draws, share: float) -> tuple[Tensor, Tensor]:
    """Return a run inside each example, bool, and a direction: of positions, or of elements where rows have none."""
    if examples.place.dim() == 1:
        rank, sizes = examples.element(x), examples.sizes() * (x[0].numel() if len(x) else 0)
        features = rank
    else:
        rank, sizes = beside(examples.rank(), x), examples.sizes()
        shape = x.shape[examples.place.dim() :]
        # One direction for all positions of the run, as one sign for all pixels of a square.
        features = torch.arange(shape.numel(), device=x.device).view(shape)
    length = (share * sizes).round().to(torch.int64).clamp(min=1).minimum(sizes)
    first = draws.fork(1).whole(examples.ids, sizes - length + 1)
    begin, end = (examples.spread(value, x) for value in (first, first + length))
    along = as_uniform(draws.fork(2).words(examples.spread(examples.ids, x), features), x.dtype) - 0.5
    return (rank >= begin) & (rank < end), along
