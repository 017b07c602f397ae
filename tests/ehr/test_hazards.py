"""Hazards constant in pieces: sums by hand, the exact likelihood, and rates that come back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.hazards import EDGES_DAYS, exposure, hazard_nll, piece, risk
from ehr.heads import HazardHead

PIECES = len(EDGES_DAYS)


@settings(deadline=None)
@given(st.floats(0, 20_000, width=32))
def test_pieces_of_a_time_sum_to_it(days):
    parts = exposure(torch.tensor([days]))[0]
    assert parts.sum().item() == pytest.approx(days, rel=1e-5)
    widths = np.diff([*EDGES_DAYS, np.inf])
    assert (parts.numpy() <= widths).all()
    at = int(piece(torch.tensor([days]))[0])
    assert EDGES_DAYS[at] <= days
    assert at == PIECES - 1 or days <= EDGES_DAYS[at + 1]
    assert (parts[at + 1 :] == 0).all()


def by_loops(log_rate, censor, events):
    """Return the loss from rates [N, V, J], in loops over codes."""
    total = 0.0
    edges = [*EDGES_DAYS, np.inf]
    for n in range(len(log_rate)):
        own = {code: days for at, code, days in events if at == n}
        for k in range(log_rate.shape[1]):
            until = own.get(k, censor[n])
            loss = 0.0
            for j in range(PIECES):
                loss += np.exp(log_rate[n, k, j]) * max(0.0, min(until, edges[j + 1]) - edges[j])
            if k in own:
                j = next(j for j in range(PIECES) if until <= edges[j + 1])
                loss -= log_rate[n, k, j]
            total += loss / (len(own) + 1)
    return total


@pytest.mark.parametrize("chunk", [1, 100, 10_000])
def test_the_loss_is_the_likelihood(chunk):
    draw = torch.Generator().manual_seed(0)
    answer = torch.randn(4, PIECES, 3, generator=draw) * 0.3
    codes = torch.randn(6, 3, generator=draw)
    bias = torch.randn(6, PIECES, generator=draw) - 6
    censor = torch.tensor([10.0, 400.0, 5000.0, 0.0])
    events = [(0, 2, 5.0), (1, 0, 30.0), (1, 5, 365.5), (2, 1, 0.0), (2, 3, 4999.0)]
    query, event, days = (torch.tensor(part) for part in zip(*events, strict=True))
    leaves = [part.requires_grad_() for part in (answer, codes, bias)]
    found = hazard_nll(*leaves, censor_days=censor, query=query, event=event, days=days, chunk=chunk)
    log_rate = torch.einsum("njr,vr->nvj", answer, codes) + bias
    expected = by_loops(log_rate.detach().double().numpy(), censor.tolist(), events)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    gradient = torch.autograd.grad(found, leaves)
    whole = hazard_nll(*leaves, censor_days=censor, query=query, event=event, days=days)
    for one, two in zip(gradient, torch.autograd.grad(whole, leaves), strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_nothing_asked_owes_a_gradient_of_zero():
    answer = torch.zeros(0, PIECES, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    found = hazard_nll(
        *(answer, torch.zeros(5, 3), torch.zeros(5, PIECES)),
        censor_days=torch.zeros(0), query=none, event=none, days=torch.zeros(0),
    )  # fmt: skip
    found.backward()
    assert found.item() == 0


def test_rates_come_back_under_censoring():
    """The rate that minimises the loss is events over time at risk, which is what was put in."""
    draw = np.random.default_rng(0)
    true = np.where(np.arange(PIECES) < 4, 1 / 200, 1 / 2000)
    widths = np.diff([*EDGES_DAYS, 1e9])
    hazard = np.concatenate([[0], np.cumsum(true * widths)])
    times = np.interp(draw.exponential(size=2_000), hazard, [*EDGES_DAYS, 1e9])
    censor = draw.uniform(100, 4_000, 2_000)
    seen = times < censor
    bias = torch.full((1, PIECES), -7.0, requires_grad=True)
    learner = torch.optim.Adam([bias], lr=0.15)
    # One event a query at most: the divisors are taken out by scaling each query's own part back.
    for _ in range(60):
        parts = []
        for side in (True, False):
            rows = np.flatnonzero(seen == side)
            loss = hazard_nll(
                torch.zeros(len(rows), PIECES, 1), torch.zeros(1, 1), bias,
                censor_days=torch.from_numpy(censor[rows]).float(),
                query=torch.arange(len(rows) if side else 0), event=torch.zeros(len(rows) if side else 0).long(),
                days=torch.from_numpy(times[rows] if side else times[:0]).float(),
            )  # fmt: skip
            parts.append(loss * (2 if side else 1))
        learner.zero_grad()
        sum(parts).backward()
        learner.step()
    found = bias.detach().exp()[0].numpy()
    enough = np.histogram(times[seen], [*EDGES_DAYS, 1e9])[0]
    for j in np.flatnonzero(enough > 100):
        assert found[j] == pytest.approx(true[j], rel=4 / np.sqrt(enough[j]))


def test_risk_rises_with_time_and_is_exact_for_small_rates():
    log_rate = torch.full((PIECES,), -10.0)
    days = torch.tensor([0.0, 1.0, 365.0, 4000.0, 1e6])
    found = risk(log_rate.expand(5, -1), days)
    assert (torch.diff(found) > 0).all()
    assert torch.allclose(found, -torch.expm1(-days * float(np.exp(-10.0))), rtol=1e-5)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True), st.sampled_from([(0, 30), (30, 1125), (0, 9_999)])
)
def test_the_direction_of_an_outcome_is_the_gradient_of_its_log_hazard(own, window):
    torch.manual_seed(0)
    head = HazardHead(8, 6, rank=4)
    with torch.no_grad():
        head.bias.normal_(-8, 1)
        head.codes.weight.normal_()
    x = torch.zeros(8, requires_grad=True)
    log_rate = torch.einsum("jr,nr->nj", head.weight(x).unflatten(-1, (head.pieces, -1)), head.codes(torch.tensor(own)))
    lies = exposure(torch.tensor(float(window[1]))) - exposure(torch.tensor(float(window[0])))
    torch.log((torch.exp(log_rate + head.bias[own]) * lies).sum()).backward()
    assert torch.allclose(head.direction(torch.tensor(own), *window), x.grad, atol=1e-5)
