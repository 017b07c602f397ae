"""Randomness by counter: what is drawn for an example hangs on a seed and its id, whoever stands beside it (torch)."""

from typing import NamedTuple

import torch
from torch import Tensor

from robust.examples import Examples

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = 2**64 - 1


def signed(word: int) -> int:
    """Return 64 bits as the signed number that torch holds them in."""
    word &= MASK
    return word - 2**64 if word >= 2**63 else word


def shifted(word: Tensor, bits: int) -> Tensor:
    """Return 64-bit words shifted right, zeros coming in from the left."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def mixed(word: Tensor) -> Tensor:
    """Return well-mixed words i64, one for each: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    word = word + signed(GOLDEN)
    word = (word ^ shifted(word, 30)) * signed(FIRST)
    word = (word ^ shifted(word, 27)) * signed(SECOND)
    return word ^ shifted(word, 31)


class Draws(NamedTuple):
    """A stream of random numbers.

    Attributes:
        seed: any whole number.
    """

    seed: int

    def fork(self, number: int) -> "Draws":
        """Return another stream: that of a step, a restart or a use, by its number."""
        word = torch.tensor(signed(self.seed), dtype=torch.int64)
        return Draws(int(mixed(mixed(word) ^ number)))

    def words(self, ids: Tensor, place: Tensor) -> Tensor:
        """Return random words i64 for pairs of an id and a place of the example, of the shape they broadcast to."""
        seed = mixed(torch.tensor(signed(self.seed), dtype=torch.int64, device=ids.device))
        return mixed(mixed(mixed(ids) ^ seed) + place)

    def uniform(self, ids: Tensor, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return numbers from 0 to below 1, [B, count], a row for each id i64 [B]."""
        place = torch.arange(count, device=ids.device)
        return as_uniform(self.words(ids[:, None], place), dtype)

    def whole(self, ids: Tensor, below: Tensor) -> Tensor:
        """Return a whole number from 0 to below a bound for each example, i64 [B]; 0 where the bound is 0."""
        return (self.uniform(ids, 1, torch.float64)[:, 0] * below).to(torch.int64)

    def elements(self, x: Tensor, examples: Examples) -> Tensor:
        """Return numbers from 0 to below 1 of the shape of x.

        An element's number hangs on the id of its example and on its place inside the example, and not on how
        examples are packed; what belongs to no example has numbers that mean nothing.
        """
        ids = examples.spread(examples.ids, x)
        return as_uniform(self.words(ids, examples.element(x)), x.dtype)

    def normal(self, x: Tensor, examples: Examples) -> Tensor:
        """Return standard normal numbers of the shape of x, as `elements` does (Box and Muller 1958)."""
        radius = self.fork(1).elements(x, examples)
        angle = self.fork(2).elements(x, examples)
        return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * torch.pi * angle)


def as_uniform(word: Tensor, dtype: torch.dtype) -> Tensor:
    """Return words as numbers from 0 to below 1; 53 bits as f64, 24 otherwise, which f32 holds without rounding."""
    bits = 53 if dtype == torch.float64 else 24
    held = torch.float64 if dtype == torch.float64 else torch.float32
    return (shifted(word, 64 - bits).to(held) * 2.0**-bits).to(dtype)
