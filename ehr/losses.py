"""Losses: the set of a visit's codes without order, and many outcomes with censored labels (torch)."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK = 4_194_304
SHIFT, FOCUS = 0.05, 4


def set_ce(
    query: Tensor,
    table: Tensor,
    bias: Tensor,
    *,
    target_query: Tensor,
    target: Tensor,
    weight: Tensor,
    chunk: int = CHUNK,
) -> Tensor:
    """Sum over queries of -sum_y w_y log p(y) / sum_y w_y; the order of targets plays no part.

    Logits over the vocabulary are made for a chunk of queries at a time, and again for its gradient.

    Args:
        query: decoded queries, [N, width].
        table: output embedding, [V, width].
        bias: log-frequency of tokens, f32 [V].
        target_query: query of each target, i64 [M], ascending.
        target: token ids, i64 [M].
        weight: positive weights, f32 [M].
        chunk: logits in memory at once, at most.

    Returns:
        A scalar, f32.
    """
    mass = torch.zeros(len(query), device=query.device).index_add(0, target_query, weight)
    share = weight / mass[target_query]
    size = max(1, chunk // len(table))
    # Once without a query too: a process that holds none still owes a gradient, of zero, to those that do.
    begins = range(0, max(len(query), 1), size)
    edges = torch.searchsorted(target_query, torch.tensor([*begins, len(query)], device=query.device)).tolist()
    total = query.new_zeros((), dtype=torch.float32)
    for begin, low, high in zip(begins, edges, edges[1:], strict=False):
        arguments = (query[begin : begin + size], table, bias, target_query[low:high] - begin, target[low:high])
        if len(begins) == 1:
            return total + _cross_entropy(*arguments, share[low:high])
        total = total + checkpoint(_cross_entropy, *arguments, share[low:high], use_reentrant=False)
    return total


def _cross_entropy(
    query: Tensor, table: Tensor, bias: Tensor, target_query: Tensor, target: Tensor, share: Tensor
) -> Tensor:
    logits = functional.linear(query, table).float() + bias
    log_p = logits[target_query, target] - torch.logsumexp(logits, dim=-1)[target_query]
    return -(share * log_p).sum()


def set_asl(
    query: Tensor,
    table: Tensor,
    bias: Tensor,
    *,
    target_query: Tensor,
    target: Tensor,
    weight: Tensor,
    drawn: Tensor,
) -> Tensor:
    """Sum over queries of the asymmetric focal loss of each code's presence (Ridnik et al. 2021, eq. 7).

    With p = sigmoid(z) and p' = max(p - 0.05, 0): -sum_y w_y log p over the set, divided by sum_y w_y, and
    -p'^4 log(1 - p') over codes that are not of the set, estimated from some that are drawn and divided by the size
    of the set. (gamma+ 0, gamma- 4.)

    Args:
        query: decoded queries, [N, width].
        table: output embedding, [V, width].
        bias: log-frequency of tokens, f32 [V].
        target_query: query of each target, i64 [M], ascending.
        target: token ids, i64 [M].
        weight: positive weights, f32 [M].
        drawn: distinct codes drawn as negatives, i64 [S]; all of them make the sum exact.

    Returns:
        A scalar, f32.
    """
    mass = torch.zeros(len(query), device=query.device).index_add(0, target_query, weight)
    size = torch.bincount(target_query, minlength=len(query)).float()
    present = (query[target_query] * table[target]).sum(-1).float() + bias[target]
    positive = -(weight / mass[target_query] * functional.logsigmoid(present)).sum()
    logits = functional.linear(query, table[drawn]).float() + bias[drawn]
    chance = (torch.sigmoid(logits) - SHIFT).clamp(min=0.0)
    loss = -(chance**FOCUS) * torch.log1p(-chance)
    # What is of the set is no negative of its own query.
    place = torch.full((len(table),), len(drawn), device=drawn.device).scatter(
        0, drawn, torch.arange(len(drawn), device=drawn.device)
    )
    own = torch.zeros(len(query), len(drawn) + 1, device=query.device)
    own[target_query, place[target]] = 1.0
    negative = (loss * (1 - own[:, :-1])).sum(-1) * len(table) / len(drawn)
    return positive + (negative / size.clamp(min=1)).sum()


def value_error(foretold: Tensor, level: Tensor, target_query: Tensor) -> Tensor:
    """Sum over queries of the mean squared error of the values asked for.

    Args:
        foretold: 0 to 1, f32 [M].
        level: 0 to 1, f32 [M].
        target_query: query of each, i64 [M].

    Returns:
        A scalar, f32.
    """
    if not len(target_query):
        return foretold.sum()
    count = torch.bincount(target_query).float()
    return ((foretold - level) ** 2 / count[target_query]).sum()


def poisson_nll(log_rate: Tensor, target_query: Tensor) -> Tensor:
    """Sum over queries of the Poisson negative log-likelihood of the size of the target set.

    Args:
        log_rate: f32 [N].
        target_query: query of each target, i64 [M].

    Returns:
        A scalar, f32: sum of exp(r) - n r + log n!.
    """
    size = torch.bincount(target_query, minlength=len(log_rate)).float()
    log_rate = log_rate.float()
    return (torch.exp(log_rate) - size * log_rate + torch.lgamma(size + 1)).sum()


def masked_bce(logit: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy over the labels that are there.

    Args:
        logit: f32 [B, K, H].
        label: 0, 1 or NaN where censored or not applicable, f32 [B, K, H].

    Returns:
        Sum over labels and their number, both f32 scalars.
    """
    there = ~torch.isnan(label)
    # NaN times zero is NaN in the gradient too, so that absent labels are replaced before the loss.
    loss = functional.binary_cross_entropy_with_logits(logit.float(), torch.where(there, label, 0.0), reduction="none")
    return torch.where(there, loss, 0.0).sum(), there.sum().float()
