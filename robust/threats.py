"""What an attacker may do: how far each example may be moved, and in which norm (torch)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robust.draws import Draws
from robust.examples import Examples, beside

Norm = Literal["linf", "l2_token", "l2_example"]
TINY = 1e-12
SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Threat:
    """A ball around every example, cut off at the bounds of what inputs can be."""

    norm: Norm = "linf"
    """linf: each element; l2_token: the vector at each row or position; l2_example: all of an example together."""
    epsilon: float = 0.1
    """Radius, 0 or more, in units of the input."""
    low: float | None = None
    """Least value that an input can have, such as 0 for pixels."""
    high: float | None = None
    """Greatest value."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.norm not in get_args(Norm):
            raise ValueError(f"threat.norm is {self.norm}; expected one of {', '.join(get_args(Norm))}")
        if not self.epsilon >= 0:
            raise ValueError(f"threat.epsilon is {self.epsilon}; expected 0 or more")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"threat.low is {self.low} and threat.high is {self.high}; expected low below high")

    def check(self, x: Tensor) -> None:
        """Refuse inputs that no input can be.

        Raises:
            ValueError: values are not finite, or outside the bounds by more than 1e-6.
        """
        if not x.numel():
            return
        low, high = (float(end) for end in torch.aminmax(x.detach()))
        if not low > -torch.inf or not high < torch.inf:
            raise ValueError("inputs hold values that are not finite; look at what makes them")
        for end, bound, sign in ((low, self.low, 1), (high, self.high, -1)):
            if bound is not None and sign * (bound - end) > SLACK:
                raise ValueError(
                    f"inputs reach from {low:g} to {high:g}; expected {self.low} to {self.high} "
                    "(normalise inside the network, or change threat.low and threat.high)"
                )

    def start(self, x: Tensor, examples: Examples, draws: Draws) -> Tensor:
        """Return a random point of the ball around x, uniform in it before the bounds cut.

        Args:
            x: inputs, [R, ...] or [R, T, ...].
            examples: B of them.
            draws: by which it is random.
        """
        if self.norm == "linf":
            move = self.epsilon * (2 * draws.elements(x, examples) - 1)
            return self.project(x + move, x, examples)
        along = self.unit(draws.fork(1).normal(x, examples), examples)
        if self.norm == "l2_token":
            features = max(1, x[(0,) * examples.place.dim()].numel()) if x.numel() else 1
            size = draws.fork(2).elements(self.first(x, examples), examples) ** (1 / features)
        else:
            features = self.elements(x, examples).clamp(min=1).to(x.dtype)
            drawn = draws.fork(2).uniform(examples.ids, 1, x.dtype)[:, 0]
            size = examples.spread(drawn ** (1 / features), x)
        return self.project(x + self.epsilon * size * along, x, examples)

    def edge(self, x: Tensor, examples: Examples, draws: Draws) -> Tensor:
        """Return random noise of the full radius: signs for linf, directions for the others."""
        return self.project(x + self.epsilon * self.ascent(draws.normal(x, examples), examples), x, examples)

    def project(self, moved: Tensor, x: Tensor, examples: Examples) -> Tensor:
        """Return the point of the threat near `moved`; what may not be moved is x bit for bit.

        The bounds are applied last: with x inside them they only bring a point nearer to x.
        """
        move = moved - x
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(moved, x - self.epsilon), x + self.epsilon)
        else:
            size = self.size(move, examples)
            inside = torch.where(size > self.epsilon, x + move * (self.epsilon / size.clamp(min=TINY)), moved)
        if self.low is not None or self.high is not None:
            inside = inside.clamp(self.low, self.high)
        if self.epsilon == 0:
            return x.clone()
        return torch.where(examples.movable(x), inside, x)

    def magnitude(self, moved: Tensor, x: Tensor, examples: Examples) -> Tensor:
        """Return how far each example was moved, in the norm of the threat, [B]; of tokens the farthest."""
        move = (moved - x).abs()
        if self.norm == "linf":
            return examples.largest(move)
        if self.norm == "l2_token":
            return examples.largest(self.size(move, examples))
        return examples.total(move.square()).sqrt()

    def ascent(self, gradient: Tensor, examples: Examples) -> Tensor:
        """Return the direction of steepest ascent of length 1: signs for linf, unit vectors for the others."""
        return gradient.sign() if self.norm == "linf" else self.unit(gradient, examples)

    def unit(self, value: Tensor, examples: Examples) -> Tensor:
        """Return vectors divided by their length, which stay 0 where they are 0."""
        held = torch.where(examples.movable(value), value, 0)
        return held / self.size(held, examples).clamp(min=TINY)

    def size(self, value: Tensor, examples: Examples) -> Tensor:
        """Return the length of each token's or example's vector, of a shape that broadcasts with the value."""
        if self.norm == "l2_token":
            inner = tuple(range(examples.place.dim(), value.dim()))
            return value.square().sum(inner, keepdim=True).sqrt() if inner else value.abs()
        return examples.spread(examples.total(value.square()).sqrt(), value)

    @staticmethod
    def first(x: Tensor, examples: Examples) -> Tensor:
        """Return zeros, one for each row or position, of a shape that broadcasts with x."""
        return beside(x.new_zeros(examples.place.shape), x)

    @staticmethod
    def elements(x: Tensor, examples: Examples) -> Tensor:
        """Return the number of elements of each example that may be moved, i64 [B]."""
        features = x[(0,) * examples.place.dim()].numel() if x.numel() else 0
        return examples.sizes() * features
