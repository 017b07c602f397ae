"""Masks with exact counts, and how sparsity is shared out between layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.sparsity.allocation import outliers, owl
from compress.sparsity.saliency import (
    keep,
    keep_in_columns,
    keep_in_groups,
    keep_in_rows,
    magnitude,
    pairs,
    share_of,
    wanda,
)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.data())
def test_the_lowest_go_and_of_equal_ones_the_first(values, data):
    pruned = data.draw(st.integers(0, len(values)))
    mask = keep(torch.tensor([values], dtype=torch.float32), pruned)
    order = sorted(range(len(values)), key=lambda at: (values[at], at))
    assert sorted(torch.nonzero(~mask[0])[:, 0].tolist()) == sorted(order[:pruned])
    rows = keep_in_rows(torch.tensor([values], dtype=torch.float32), len(values) - pruned)
    assert torch.equal(rows, mask)


def test_shares_are_read_as_they_are_written():
    assert share_of(10, 0.7) == 7
    assert share_of(1000, 0.29) == 290
    assert share_of(3, 0.5) == 1


def test_groups():
    score = torch.tensor([[4.0, 1.0, 3.0, 2.0, 9.0]])
    assert keep_in_groups(score, 2, 4).tolist() == [[True, False, True, False, True]]


def test_wanda_looks_at_inputs_and_at_each_row():
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])
    assert magnitude(weight, 0.5).tolist() == [[False] * 4, [True] * 4]
    assert wanda(weight, torch.tensor([9.0, 1.0, 1.0, 1.0]), 0.5).tolist() == [[True, False, False, True]] * 2


def test_outliers_take_less():
    calm, wild = torch.ones(4, 50), torch.ones(4, 50)
    wild[:, :2] = 100
    norm = torch.ones(50)
    share = {"calm": outliers(calm, norm), "wild": outliers(wild, norm)}
    assert share == {"calm": 0.0, "wild": 0.04}
    found = owl(share, {"calm": 300, "wild": 100}, 0.7)
    assert found["calm"] - found["wild"] == pytest.approx(0.16)
    assert (300 * found["calm"] + 100 * found["wild"]) / 400 == pytest.approx(0.7)
    assert owl({"a": 0.1, "b": 0.1}, {"a": 1, "b": 1}, 0.5) == {"a": 0.5, "b": 0.5}


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=6), st.floats(0, 1, width=32))
def test_every_share_can_be_pruned(held, sparsity):
    share = {str(at): value for at, (value, _) in enumerate(held)}
    entries = {str(at): count for at, (_, count) in enumerate(held)}
    found = owl(share, entries, sparsity)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in found.values())
    total = sum(found[name] * entries[name] for name in found) / sum(entries.values())
    assert total == pytest.approx(sparsity, abs=1e-9)


@given(st.integers(1, 8), st.integers(1, 20), st.data())
def test_pairs_choose_as_sorting_does(size, rows, data):
    values = data.draw(st.lists(st.integers(0, 3), min_size=size * rows, max_size=size * rows))
    score = torch.tensor(values, dtype=torch.float32).reshape(size, rows)
    kept = data.draw(st.integers(0, size))
    found = keep_in_columns(score, kept, pairs(size, score.device))
    assert torch.equal(found, keep_in_rows(score.T.contiguous(), kept).T)
