"""What a whole record says at a glance: how often, how lately, and with what last value each code stands in it."""

import torch
from torch import Tensor, nn

YEAR_DAYS = 365.25
SCALE = 0.25
"""Sums run over tens of tokens; this keeps them of the order of what they are added to."""


class Summary(nn.Module):
    """Three weighted sums of token embeddings, which count features would be weighted by (wide and deep learning).

    Attention averages, so a network without them has to learn counting, and which of a code's values is the last.
    After Cheng et al., Wide & Deep Learning for Recommender Systems, 2016 (here both parts share the embedding).
    """

    def __init__(self, width: int, vocabulary_size: int) -> None:
        """Set up.

        Args:
            width: of the embedding.
            vocabulary_size: V.
        """
        super().__init__()
        self.mix = nn.Linear(3 * width, width, bias=False)
        self.register_buffer("bare", torch.zeros(vocabulary_size, dtype=torch.int64))

    def forward(self, token: Tensor, embedded: Tensor, seen: Tensor, age_days: Tensor, now_days: Tensor) -> Tensor:
        """Return what is added to every query, [R, S, width].

        Args:
            token: i64 [R, T].
            embedded: their embeddings, [R, T, width].
            seen: which tokens each of S moments sees, bool [R, S, T].
            age_days: ages of tokens, f32 [R, T].
            now_days: ages at the moments, f32 [R, S].
        """
        weight = weights(token, self.get_buffer("bare")[token], seen, age_days, now_days)
        sums = (weight.to(embedded.dtype) @ embedded[:, None]).flatten(2)
        return self.mix(SCALE * sums)


def weights(token: Tensor, bare: Tensor, seen: Tensor, age_days: Tensor, now_days: Tensor) -> Tensor:
    """Return the weight of each token in three sums, f32 [R, S, 3, T].

    A token that stands n times weighs log(1 + n) in the first sum, all of them together. In the second only the last
    token of each code weighs, 1, whatever its value; in the third it weighs 2^(-years since). Tokens of one moment are
    the last ones together, so that their order tells nothing.

    Args:
        token: i64 [R, T].
        bare: the same without value bins, i64 [R, T].
        seen: bool [R, S, T].
        age_days: f32 [R, T].
        now_days: f32 [R, S].
    """
    there = seen.to(torch.float32)
    equal = (token[:, :, None] == token[:, None, :]).to(torch.float32)
    after = (bare[:, :, None] == bare[:, None, :]) & (age_days[:, :, None] > age_days[:, None, :])
    number = (there @ equal).clamp(min=1.0)
    last = there * ((there @ after.to(torch.float32)) < 0.5)
    lately = last * torch.exp2(-(now_days[:, :, None] - age_days[:, None, :]).clamp(min=0.0) / YEAR_DAYS)
    return torch.stack([there * torch.log1p(number) / number, last, lately], dim=2)
