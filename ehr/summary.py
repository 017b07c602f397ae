"""What a whole record says at a glance: how often, how lately, and with what values each code stands in it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

YEAR_DAYS = 365.25
SCALE = 0.25
"""Sums run over tens of tokens; this keeps them of the order of what they are added to."""
SPREAD = 12**0.5
"""One over the standard deviation of a place in a distribution, which is uniform."""
SUMS, PLACED = 8, 5
"""Sums in all; those from the sixth on are of places among values, and are known by the code without its bin."""
KNEES_YEARS = (0, 20, 30, 40, 50, 60, 70, 80)
"""Ages at which the wide part's effect of age may bend."""


class Told(NamedTuple):
    """What a summary says at S moments of a row.

    Attributes:
        query: what is added to every query, [R, S, width].
        logit: what is added to every logit, f32 [R, S, M].
    """

    query: Tensor
    logit: Tensor


class Summary(nn.Module):
    """Weighted sums of token embeddings, and a linear model of the same weights (wide and deep learning).

    Attention averages, so a network without them has to learn counting, and which of a code's values is the last.
    After Cheng et al., Wide & Deep Learning for Recommender Systems, 2016. The linear part is fitted before training
    (pipelines.wide) and stays.
    """

    def __init__(self, width: int, vocabulary_size: int, slots: int, dropout: float) -> None:
        """Set up.

        Args:
            width: of the embedding.
            vocabulary_size: V.
            slots: logits of a question, M: outcomes times horizons.
            dropout: share of the codes that the sums of embeddings do without while they are learnt from.
        """
        super().__init__()
        self.dropout = dropout
        self.mix = nn.Linear(SUMS * width, width, bias=False)
        self.wide = nn.Parameter(torch.zeros(vocabulary_size, SUMS, slots), requires_grad=False)
        self.age = nn.Parameter(torch.zeros(len(KNEES_YEARS), slots), requires_grad=False)
        self.register_buffer("bare", torch.zeros(vocabulary_size, dtype=torch.int64))
        self.register_buffer("level", torch.zeros(vocabulary_size))

    def know(self, bare: npt.NDArray[np.int64], level: npt.NDArray[np.float32]) -> None:
        """Take, by token, its code without value bin, i64 [V], and its place among the code's values, 0 to 1 or NaN."""
        self.get_buffer("bare").copy_(torch.from_numpy(bare))
        self.get_buffer("level").copy_(torch.from_numpy(np.nan_to_num((level - 0.5) * SPREAD)))

    def weigh(self, token: Tensor, seen: Tensor, age_days: Tensor, now_days: Tensor) -> Tensor:
        """Return what `weights` does, scaled (arguments as in `forward`), f32 [R, S, 8, T]."""
        bare, level = (self.get_buffer(name)[token] for name in ("bare", "level"))
        return SCALE * weights(token, bare, level, seen, age_days, now_days)

    def forward(self, token: Tensor, embedded: Tensor, seen: Tensor, age_days: Tensor, now_days: Tensor) -> Told:
        """Sum up what is seen.

        Args:
            token: i64 [R, T].
            embedded: their embeddings, [R, T, width].
            seen: which tokens each of S moments sees, bool [R, S, T].
            age_days: ages of tokens, f32 [R, T].
            now_days: ages at the moments, f32 [R, S].
        """
        bare = self.get_buffer("bare")
        weight = self.weigh(token, seen, age_days, now_days)
        rows = torch.cat([self.wide[token][:, :, :PLACED], self.wide[bare[token]][:, :, PLACED:]], dim=2)
        linear = weight.flatten(2) @ rows.transpose(1, 2).flatten(1, 2) + bends(now_days) @ self.age
        if self.training and self.dropout:
            # By code, not by token: one of many tokens of a code is made up for by the others.
            kept = functional.dropout(torch.ones(len(token), len(bare), device=token.device), self.dropout)
            weight = weight * kept.gather(1, token)[:, None, None]
        sums = (weight.to(embedded.dtype) @ embedded[:, None]).flatten(2)
        return Told(self.mix(sums), linear)


def bends(age_days: Tensor) -> Tensor:
    """Return by how many decades an age is past each knee, f32 [..., 8]."""
    knees = torch.tensor(KNEES_YEARS, dtype=torch.float32, device=age_days.device) * YEAR_DAYS
    return (age_days[..., None] - knees).clamp(min=0.0) / (10 * YEAR_DAYS)


def weights(token: Tensor, bare: Tensor, level: Tensor, seen: Tensor, age_days: Tensor, now_days: Tensor) -> Tensor:
    """Return the weight of each token in eight sums, f32 [R, S, 8, T].

    A token that stands n times weighs log(1 + n) in the first sum, all of them together. In the second only the last
    token of each code weighs, 1, whatever its value; in the third it weighs 2^(-years since). In the fourth and fifth
    the highest and the lowest value of each code weigh 1. Then come levels: of the last token; of each value, over the
    number of its code's values, so that means are summed; of the highest and the lowest value.
    Tokens of one moment are the last ones together, so that their order tells nothing; so are equal values.

    Args:
        token: i64 [R, T].
        bare: the same without value bins, i64 [R, T].
        level: place of a value among those of its code, in standard deviations; 0 where it is none, f32 [R, T].
        seen: bool [R, S, T].
        age_days: f32 [R, T].
        now_days: f32 [R, S].
    """
    there, valued = seen.to(torch.float32), token != bare
    own = bare[:, :, None] == bare[:, None, :]
    value = own & valued[:, :, None]
    above = level[:, :, None] - level[:, None, :]

    def number(which: Tensor) -> Tensor:
        """Return how many seen tokens bear a relation, bool [R, T, T], to each token, f32 [R, S, T]."""
        return there @ which.to(torch.float32)

    equal = number(token[:, :, None] == token[:, None, :]).clamp(min=1.0)
    last = there * (number(own & (age_days[:, :, None] > age_days[:, None, :])) < 0.5)
    lately = last * torch.exp2(-(now_days[:, :, None] - age_days[:, None, :]).clamp(min=0.0) / YEAR_DAYS)
    place = level[:, None, :]
    mean = there * place / number(value).clamp(min=1.0)
    most, least = (there * valued[:, None] * (number(value & relation) < 0.5) for relation in (above > 0, above < 0))
    sums = (there * torch.log1p(equal) / equal, last, lately, most, least, last * place, mean, (most + least) * place)
    return torch.stack(sums, dim=2)
