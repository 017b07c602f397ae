"""Ternary rows: the best direction against all directions, and what the two fits keep."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from compress.hyperspherical.ternary import Ternary, best_ternary, cosine_distance, twn, values

MATRICES = arrays.arrays(
    "float32", st.tuples(st.integers(1, 4), st.integers(1, 7)), elements=st.integers(-9, 9).map(float)
)


def drawn(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(MATRICES)
def test_no_direction_lies_nearer(weight):
    weight = torch.from_numpy(weight)
    found = cosine_distance(weight, best_ternary(weight))
    directions = torch.tensor(list(itertools.product((-1, 0, 1), repeat=weight.shape[1])), dtype=torch.int8)
    for row, distance in zip(weight, found, strict=True):
        every = Ternary(directions, torch.ones(len(directions)))
        assert distance <= cosine_distance(row.expand(len(directions), -1), every).min() + 1e-12


@given(MATRICES)
def test_values_are_three_a_row(weight):
    weight = torch.from_numpy(weight)
    for found in (
        best_ternary(weight),
        best_ternary(weight, fit="least_squares"),
        twn(weight),
        twn(weight, per="tensor"),
    ):
        assert found.codes.dtype == torch.int8
        assert found.scale.dtype == torch.float32
        assert (found.scale >= 0).all()
        assert set(found.codes.unique().tolist()) <= {-1, 0, 1}
        assert ((values(found) == 0) | (values(found).abs() == found.scale[:, None])).all()
        # A sign is never turned.
        assert (found.codes * weight >= 0).all()


def test_never_farther_than_a_threshold():
    weight = drawn(200, 64) ** 3
    best = cosine_distance(weight, best_ternary(weight))
    for delta in (0.3, 0.7, 1.2):
        assert (best <= cosine_distance(weight, twn(weight, delta=delta)) + 1e-12).all()
    assert best.mean() < cosine_distance(weight, twn(weight)).mean() - 0.01


def test_what_a_fit_keeps():
    weight = drawn(50, 33)
    assert torch.allclose(values(best_ternary(weight)).norm(dim=1), weight.norm(dim=1), rtol=1e-5)
    nearest = best_ternary(weight, fit="least_squares")
    error = (weight - values(nearest)).norm(dim=1)
    for factor in (0.97, 1.03):
        assert (error < (weight - factor * values(nearest)).norm(dim=1)).all()


def test_of_equal_entries_the_first_are_kept():
    found = best_ternary(torch.tensor([[1.0, 1.0, 1.0, 9.0], [2.0, -2.0, 2.0, 0.0]]))
    assert found.codes.tolist() == [[0, 0, 0, 1], [1, -1, 1, 0]]


def test_threshold_networks_on_gaussian_weights():
    found = twn(drawn(200, 2000))
    assert (found.codes == 0).float().mean().item() == pytest.approx(0.423, abs=0.003)
    tensor = twn(drawn(20, 200), per="tensor")
    assert len(tensor.scale.unique()) == 1


def test_rows_of_zeros():
    found = best_ternary(torch.zeros(2, 5))
    assert not found.codes.any()
    assert not found.scale.any()
    assert cosine_distance(torch.zeros(2, 5), found).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.zeros(0, 4), torch.tensor([[1.0, float("nan")]])])
def test_other_tensors_are_refused(weight):
    with pytest.raises(ValueError, match="ternary: "):
        best_ternary(weight)
