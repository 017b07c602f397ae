"""Losses against hand-computed tables and plain second implementations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr import losses


def parts(seed=0, queries=4, width=6, codes=9, targets=12):
    draw = torch.Generator().manual_seed(seed)
    query, table = torch.randn(queries, width, generator=draw), torch.randn(codes, width, generator=draw)
    owner = torch.cat([torch.arange(queries), torch.randint(queries, (targets - queries,), generator=draw)]).sort()[0]
    target = torch.randint(codes, (targets,), generator=draw)
    weight = torch.where(torch.rand(targets, generator=draw) < 0.5, 0.2, 1.0)
    return query, table, torch.randn(codes, generator=draw), owner, target, weight


def loss(query, table, bias, owner, target, weight, **how):
    return losses.set_ce(query, table, bias, target_query=owner, target=target, weight=weight, **how)


def test_set_ce_by_hand():
    # Logits 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8.
    table = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
    query, bias = torch.ones(2, 1), torch.zeros(3)
    owner, target, weight = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.2, 0.2])
    first = -(math.log(2 / 8) + 0.2 * math.log(5 / 8)) / 1.2
    second = -math.log(1 / 8)
    assert loss(query, table, bias, owner, target, weight).item() == pytest.approx(first + second, rel=1e-6)


def test_set_ce_adds_the_bias():
    query, table, bias = torch.zeros(1, 2), torch.zeros(2, 2), torch.tensor([0.0, math.log(3)])
    found = loss(query, table, bias, torch.tensor([0]), torch.tensor([1]), torch.ones(1))
    assert found.item() == pytest.approx(-math.log(3 / 4))


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_set_ce_ignores_the_order_of_a_set(seed):
    query, table, bias, owner, target, weight = parts(seed)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    order = order[torch.argsort(owner[order], stable=True)]
    shuffled = loss(query, table, bias, owner[order], target[order], weight[order])
    assert loss(query, table, bias, owner, target, weight).item() == pytest.approx(shuffled.item(), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 9, 18, 27, 1000])
def test_chunks_change_neither_loss_nor_gradient(chunk):
    query, table, bias, owner, target, weight = parts()
    leaves = [part.requires_grad_() for part in (query, table, bias)]
    whole = torch.autograd.grad(loss(*leaves, owner, target, weight), leaves)
    chunked = loss(*leaves, owner, target, weight, chunk=chunk)
    assert chunked.item() == pytest.approx(loss(*leaves, owner, target, weight).item(), rel=1e-6)
    for first, second in zip(whole, torch.autograd.grad(chunked, leaves), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_logits_of_all_queries_are_never_kept_whole():
    query, table, bias, owner, target, weight = parts(queries=50, codes=400, targets=60)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss(query.requires_grad_(), table, bias, owner, target, weight, chunk=2000)
    assert max(kept) < 50 * 400


def test_poisson_nll_by_hand():
    # Sizes 2 and 0 at rates 3 and 1/2.
    found = losses.poisson_nll(torch.tensor([math.log(3), math.log(0.5)]), torch.tensor([0, 0]))
    expected = -math.log(3**2 * math.exp(-3) / 2) - math.log(math.exp(-0.5))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_masked_bce_by_hand_and_without_gradient_of_what_is_missing():
    logit = torch.tensor([[[0.0, 2.0], [9.0, -1.0]]], requires_grad=True)
    label = torch.tensor([[[1.0, 0.0], [math.nan, 1.0]]])
    total, count = losses.masked_bce(logit, label)
    expected = math.log(2) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(1))
    assert total.item() == pytest.approx(expected, rel=1e-6)
    assert count.item() == 3
    total.backward()
    assert torch.isfinite(logit.grad).all()
    assert logit.grad[0, 1, 0] == 0


def test_masked_bce_of_nothing_is_zero():
    total, count = losses.masked_bce(torch.zeros(0, 2, 1), torch.zeros(0, 2, 1))
    assert (total.item(), count.item()) == (0, 0)


def asl_by_loops(query, table, bias, owner, target, weight):
    logit = (query @ table.T + bias).double()
    total = 0.0
    for n in range(len(query)):
        own = [(int(target[m]), float(weight[m])) for m in range(len(target)) if owner[m] == n]
        mass, codes = sum(w for _, w in own), {code for code, _ in own}
        total -= sum(w * math.log(torch.sigmoid(logit[n, code])) for code, w in own) / mass
        for code in set(range(len(table))) - codes:
            shifted = max(0.0, float(torch.sigmoid(logit[n, code])) - 0.05)
            total -= shifted**4 * math.log(1 - shifted) / len(own)
    return total


def distinct_targets(seed=0):
    query, table, bias, owner, target, weight = parts(seed)
    pairs = {(int(o), int(t)): float(w) for o, t, w in zip(owner, target, weight, strict=True)}
    order = sorted(pairs)
    return (
        query,
        table,
        bias,
        *(torch.tensor(part) for part in zip(*order, strict=True)),
        torch.tensor([pairs[p] for p in order]),
    )


def test_set_asl_is_the_sum_over_all_codes():
    query, table, bias, owner, target, weight = distinct_targets()
    everything = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    found = losses.set_asl(query, table, bias, target_query=owner, target=target, weight=weight, drawn=everything)
    assert found.item() == pytest.approx(asl_by_loops(query, table, bias, owner, target, weight), rel=1e-5)


def test_set_asl_of_drawn_codes_is_unbiased():
    query, table, bias, owner, target, weight = distinct_targets(3)
    how = {"target_query": owner, "target": target, "weight": weight}
    whole = losses.set_asl(query, table, bias, **how, drawn=torch.arange(len(table)))
    draw = torch.Generator().manual_seed(0)
    some = [
        losses.set_asl(query, table, bias, **how, drawn=torch.randperm(len(table), generator=draw)[:4])
        for _ in range(400)
    ]
    spread = torch.stack(some).std() / 20
    assert abs(torch.stack(some).mean() - whole) < 4 * spread


def test_values_are_the_mean_of_each_query():
    found = losses.value_error(torch.tensor([0.5, 0.1, 0.9]), torch.tensor([0.0, 0.1, 0.4]), torch.tensor([0, 0, 2]))
    assert found.item() == pytest.approx(0.25 / 2 + 0.25)
    assert losses.value_error(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64)).item() == 0
