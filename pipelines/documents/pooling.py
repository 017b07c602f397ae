"""Question-conditioned attention pooling over the owned tokens of all windows of a passage (torch)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = -1e4
"""Score of a position that is not looked at, logit of an option that is not there: finite, so that half precision
holds it, and its exponential is exactly 0 in float32."""


class Pooled(NamedTuple):
    """What each window says to each question, before windows are put together.

    Attributes:
        mass: log of the summed exponentials of scores, f32 [P, T, N]; NEVER where a window owns nothing.
        state: mean of the window's states under its own attention, f32 [P, T, N, d].
        weight: that attention, f32 [P, T, N, L]; it sums to 1 over L.
    """

    mass: Tensor
    state: Tensor
    weight: Tensor


def pool(state: Tensor, key: Tensor, query: Tensor, owned: Tensor) -> Pooled:
    """Pool each window by itself: softmax over l of q_t . k_nl / sqrt(d_k), owned tokens only.

    Args:
        state: what is averaged, f32 [P, N, L, d].
        key: f32 [P, N, L, d_k].
        query: a row a question, f32 [T, d_k].
        owned: bool [P, N, L].
    """
    score = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])  # [P, N, T, L]
    score = torch.where(owned[:, :, None], score, NEVER)
    mass = torch.where(owned.any(-1)[:, :, None], torch.logsumexp(score, -1), NEVER)
    weight = torch.softmax(score, -1)
    return Pooled(mass.transpose(1, 2), (weight.to(state.dtype) @ state).transpose(1, 2), weight.transpose(1, 2))


def merge(pooled: Pooled) -> tuple[Tensor, Tensor]:
    """Put windows together: the same as one softmax over the tokens of all of them.

    Returns:
        The pooled states f32 [P, T, d], and the share of each window f32 [P, T, N]; exactly 0 for padding.
    """
    share = torch.softmax(pooled.mass, -1)
    return (share.to(pooled.state.dtype)[..., None] * pooled.state).sum(2), share


def among(pooled: Pooled, elsewhere: Tensor, owned: Tensor, tokens: Tensor) -> Pooled:
    """Add one window to those of every passage: so many tokens of the batch's other passages, for each question.

    Their exponentials are summed over the tokens that there are, and scaled to the number asked for. A question thus
    learns to tell its evidence from a long document's worth of what is none, and nothing more is encoded for that.

    Args:
        pooled: of a batch, T questions.
        elsewhere: passages that say nothing of a question, bool [P, T].
        owned: bool [P, N, L].
        tokens: how many beside each passage, f32 [P]; a question without such passages in the batch gets none.

    Returns:
        Pooled of N + 1 windows, its `weight` left out beyond the first position.
    """
    passages, questions, windows, width = pooled.state.shape
    mass = torch.where(elsewhere[:, :, None], pooled.mass, NEVER).transpose(0, 1).flatten(1)  # [T, P * N]
    there = pooled.state.transpose(0, 1).reshape(questions, passages * windows, width)
    state = (torch.softmax(mass, -1).to(there.dtype)[:, None] @ there)[:, 0]  # [T, d]
    number = elsewhere.T.float() @ owned.sum((1, 2)).float()  # [T]
    scaled = torch.logsumexp(mass, -1) + torch.log(tokens[:, None] / number.clamp(min=1))
    crowd = torch.where(number > 0, scaled, NEVER)  # [P, T]
    return Pooled(
        torch.cat([pooled.mass, crowd[..., None]], 2),
        torch.cat([pooled.state, state[None, :, None].expand(passages, questions, 1, width)], 2),
        pooled.weight.new_zeros((passages, questions, windows + 1, 1)),
    )


def first_token(state: Tensor, questions: int) -> Pooled:
    """Return the state of token 0 of each window for every question: pooling as published, of one window.

    Args:
        state: f32 [P, N, L, d].
        questions: T.
    """
    passages, windows, length, width = state.shape
    first = state[:, None, :, 0].expand(passages, questions, windows, width)
    weight = state.new_zeros((passages, questions, windows, length))
    weight[..., 0] = 1
    mass = torch.full((passages, questions, windows), NEVER, device=state.device)
    mass[:, :, 0] = 0
    return Pooled(mass, first, weight)
