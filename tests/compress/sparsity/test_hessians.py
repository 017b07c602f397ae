"""Hessians: the same however inputs are divided, padded or summed; damping that grows until it helps."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.sparsity.hessians import Hessian, SingularHessian, error, factor
from tests.compress.sparsity import oracle

X = oracle.inputs(60, 7)


def summed(*parts, **kwargs):
    found = Hessian(7, dtype=torch.float64, **kwargs)
    for part in parts:
        found.update(*part) if isinstance(part, tuple) else found.update(part)
    return found


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 60), max_size=4), held_out=st.sampled_from([0.0, 0.1, 0.25]))
def test_any_division_into_batches(cuts, held_out):
    edges = [0, *sorted(cuts), 60]
    whole = summed(X, held_out=held_out)
    parts = summed(*(X[a:b] for a, b in itertools.pairwise(edges)), held_out=held_out)
    assert parts.tokens == whole.tokens
    torch.testing.assert_close(parts.gram, whole.gram, rtol=1e-12, atol=1e-12)
    if held_out:
        assert parts.held_out.tokens == whole.held_out.tokens == 60 - whole.tokens
        torch.testing.assert_close(parts.held_out.gram, whole.held_out.gram, rtol=1e-12, atol=1e-12)


def test_it_is_the_mean_of_outer_products():
    torch.testing.assert_close(summed(X).normalised(), sum(torch.outer(x, x) for x in X) / 60)


def test_padding_adds_nothing_whatever_it_holds():
    padded = torch.full((3, 30, 7), math.nan, dtype=torch.float64)
    mask = torch.zeros(3, 30, dtype=torch.bool)
    mask[:, 5:25] = True
    padded[mask] = X
    found = summed((padded, mask))
    assert found.tokens == 60
    torch.testing.assert_close(found.gram, summed(X).gram, rtol=1e-12, atol=1e-12)


def test_processes_are_merged():
    left, right = summed(X[:23], held_out=0.1), summed(X[23:], held_out=0.1)
    left.merge(right)
    torch.testing.assert_close(left.gram + left.held_out.gram, summed(X).gram)
    with pytest.raises(ValueError, match="the same layer"):
        left.merge(Hessian(6))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_inputs_that_are_not_finite_are_refused(value):
    x = X.clone()
    x[3, 2] = value
    with pytest.raises(ValueError, match="not finite"):
        summed(x)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\]"):
        summed(X[:, :6])
    with pytest.raises(ValueError, match="a mask"):
        summed((X, torch.ones(3, dtype=torch.bool)))


def test_nothing_left_after_masking():
    with pytest.raises(ValueError, match="no token is left"):
        summed((X, torch.zeros(60, dtype=torch.bool))).normalised()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_factor_serves_every_trailing_inverse(dtype):
    hessian = summed(X).normalised().to(dtype)
    found = factor(hessian)
    torch.testing.assert_close(found.upper.T @ found.upper, torch.linalg.inv(found.hessian), rtol=1e-3, atol=1e-4)
    for i in range(7):
        trailing = torch.linalg.inv(found.hessian[i:, i:])[0, 0]
        torch.testing.assert_close(found.upper[i, i] ** 2, trailing, rtol=1e-3, atol=1e-4)
    assert found.damping == 0.01


@pytest.mark.parametrize("size", [1, 7, 300, 1025])
def test_both_ways_to_the_factor_agree(size):
    """With blocks that are halved unevenly and not at all, and to one rounding or so in float64."""
    x = torch.randn(2 * size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    hessian = x.T @ x / len(x)
    found, other = (factor(hessian, reference=reference).upper for reference in (False, True))
    assert torch.equal(found, found.triu())
    torch.testing.assert_close(found, other, rtol=1e-9, atol=1e-11)


def test_damping_grows_until_there_is_an_inverse():
    """A matrix with one negative eigenvalue, as rounding makes them: -0.5 of a mean diagonal of about 1."""
    hessian = torch.eye(8, dtype=torch.float64)
    hessian[0, 1] = hessian[1, 0] = 1.5
    found = factor(hessian)
    assert found.damping == pytest.approx(1.0)
    assert torch.isfinite(found.upper).all()
    assert torch.equal(hessian.diagonal(), torch.ones(8, dtype=torch.float64))


def test_few_tokens_are_enough_with_damping():
    single = Hessian(64)
    single.update(torch.randn(3, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(factor(single.normalised()).upper).all()
    assert factor(single.normalised(), damping=0.0).damping > 0


def test_no_damping_helps():
    hessian = torch.eye(4) - 1e9 * torch.ones(4, 4) + 1e9 * torch.eye(4)
    with pytest.raises(SingularHessian, match="has no inverse, not even with 10 of its mean"):
        factor(hessian, tries=4)


def test_relative_errors():
    w = oracle.weights(3, 7)
    changed = w * (torch.rand(w.shape) > 0.5)
    expected = ((X @ (w - changed).T) ** 2).sum() / ((X @ w.T) ** 2).sum()
    assert error(w, changed, X.T @ X) == pytest.approx(float(expected))
    assert error(w * 0, w * 0, X.T @ X) == 0
    assert error(w * 0, w, X.T @ X) == math.inf
