"""Hazards that are constant in pieces of time, of all codes at once, under censoring (torch)."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

EDGES_DAYS = (0.0, 30.0, 90.0, 180.0, 365.0, 730.0, 1095.0, 1825.0, 3650.0)
"""Where pieces begin; the last one has no end."""
CHUNK = 4_194_304


def exposure(days: Tensor) -> Tensor:
    """Return how much of each piece lies before a time, f32 [..., J].

    Args:
        days: 0 or more, f32 [...].
    """
    edges = torch.tensor(EDGES_DAYS, device=days.device)
    width = torch.diff(edges, append=torch.full_like(edges[:1], torch.inf))
    return torch.minimum((days[..., None] - edges).clamp(min=0.0), width)


def piece(days: Tensor) -> Tensor:
    """Return the piece that a time lies in, i64 [...]; an edge belongs to the piece that it ends."""
    edges = torch.tensor(EDGES_DAYS, device=days.device)
    return (torch.searchsorted(edges, days.contiguous()) - 1).clamp(min=0)


def hazard_nll(
    answer: Tensor,
    codes: Tensor,
    bias: Tensor,
    *,
    censor_days: Tensor,
    query: Tensor,
    event: Tensor,
    days: Tensor,
    chunk: int = CHUNK,
) -> Tensor:
    """Sum over queries of sum_kj (lambda_kj e_kj - d_kj log lambda_kj), each divided by its events + 1.

    A code is at risk until its event, or else until the record ends. Rates of all codes are made for a chunk of
    queries at a time, and again for its gradient.

    Args:
        answer: what the head returned, [N, J, rank].
        codes: the codes' vectors, [V, rank].
        bias: logarithms of rates per day, f32 [V, J].
        censor_days: f32 [N].
        query: query of each event, i64 [M], ascending.
        event: code of each event, i64 [M].
        days: to each event, f32 [M].
        chunk: rates in memory at once, at most.

    Returns:
        A scalar, f32.
    """
    count = torch.bincount(query, minlength=len(answer))
    share = 1.0 / (count + 1).float()
    risk = exposure(censor_days)
    size = max(1, chunk // bias.numel())
    total = answer.new_zeros((), dtype=torch.float32)
    for begin in range(0, max(len(answer), 1), size):
        part = (answer[begin : begin + size], codes, bias, risk[begin : begin + size], share[begin : begin + size])
        total = total + (checkpoint(_at_risk, *part, use_reentrant=False) if len(answer) > size else _at_risk(*part))
    log_rate = (answer[query] * codes[event][:, None]).sum(-1).float() + bias[event]
    # Everybody was counted at risk to the end: an event takes back what comes after it.
    back = exposure(days) - risk[query]
    at = log_rate.gather(1, piece(days)[:, None])[:, 0]
    own = (torch.exp(log_rate) * back).sum(-1) - at
    return total + (own * share[query]).sum()


def _at_risk(answer: Tensor, codes: Tensor, bias: Tensor, risk: Tensor, share: Tensor) -> Tensor:
    log_rate = torch.einsum("njr,vr->nvj", answer, codes).float() + bias
    return (torch.exp(log_rate) * (risk * share[:, None])[:, None]).sum()


def risk(log_rate: Tensor, days: Tensor) -> Tensor:
    """Return 1 - exp(-Lambda(t)), the probability of an event by a time, f32 [...].

    Args:
        log_rate: logarithms of rates per day, f32 [..., J].
        days: f32 [...].
    """
    return -torch.expm1(-(torch.exp(log_rate) * exposure(days)).sum(-1))
