"""Refit: falls with every step, ends at least squares, and stays on its support."""

import pytest
import torch

from compress.sparsity.hessians import Hessian, damped_more, error, factor, squared
from compress.sparsity.matrix import MORE_DAMPING, compress_matrix
from compress.sparsity.refit import refit_matrix
from compress.sparsity.saliency import magnitude
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import factored, prune_matrix
from tests.compress.sparsity import oracle

ROWS, COLUMNS = 6, 32
X, W = oracle.inputs(400, COLUMNS), oracle.weights(ROWS, COLUMNS)
H = Hessian(COLUMNS, dtype=torch.float64)
H.update(X)
F = factored(H, SparseGPT())


@pytest.mark.parametrize("pattern", [None, "2:4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_falls_with_every_step(pattern, dtype):
    sparse = prune_matrix(W, F, SparseGPT(pattern=pattern))
    hessian = F.hessian.to(dtype)
    found = refit_matrix(W.to(dtype), sparse.weight.to(dtype), hessian, steps=20, mask=sparse.mask)
    scale = found.errors[0]
    assert len(found.errors) == 21
    assert all(after <= before + 1e-6 * scale for before, after in zip(found.errors, found.errors[1:], strict=False))
    assert found.errors[1] < found.errors[0]
    assert squared(W - found.weight, F.hessian) == pytest.approx(found.errors[-1], rel=1e-3)
    assert (found.weight[~sparse.mask] == 0).all()


def test_many_steps_end_at_least_squares():
    sparse = W * magnitude(W, 0.5)
    found = refit_matrix(W, sparse, F.hessian, steps=60)
    for row, start, dense in zip(found.weight, sparse, W, strict=True):
        at = start != 0
        best = torch.linalg.solve(F.hessian[at][:, at], F.hessian[at] @ dense)
        torch.testing.assert_close(row[at], best, rtol=1e-6, atol=1e-8)


def test_held_out_inputs_choose_the_step():
    """Few calibration inputs: the last step fits them best, and other inputs worse than an earlier one."""
    few, other = oracle.inputs(24, COLUMNS, seed=5), oracle.inputs(24, COLUMNS, seed=5) + 2 * torch.randn(24, COLUMNS)
    small = factor(few.T @ few / 24, damping=1e-4)
    sparse = W * magnitude(W, 0.5)
    judge = other.T @ other / 24
    found = refit_matrix(W, sparse, small.hessian, steps=40, held_out=judge)
    assert squared(W - found.weight, judge) == pytest.approx(min(found.errors))
    assert min(found.errors) <= found.errors[0]


def test_no_step_leaves_what_was_there():
    sparse = W * magnitude(W, 0.5)
    assert torch.equal(refit_matrix(W, sparse, F.hessian, steps=0).weight, sparse)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "wanda+refit", "sparsegpt"])
@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_methods_beside_each_other(method, pattern):
    settings = SparseGPT(method=method, pattern=pattern, held_out=0.0)
    found = compress_matrix(W, H, F, settings)
    assert int((found.weight == 0).sum()) == ROWS * COLUMNS // 2
    assert found.recovery == ("refit" if method in ("wanda+refit", "sparsegpt") else "none")
    if method == "wanda":
        assert ((found.weight == 0).sum(1) == COLUMNS // 2).all()
    plain = compress_matrix(W, H, F, SparseGPT(method=method, pattern=pattern, held_out=0.0, refit_steps=0))
    assert squared(W - found.weight, F.hessian) <= squared(W - plain.weight, F.hessian)


@pytest.mark.parametrize("bits", [3, 4])
def test_rounding_after_the_refit_is_kept_where_it_is_better(bits):
    joint = compress_matrix(W, H, F, SparseGPT(bits=bits, refit_steps=0))
    found = compress_matrix(W, H, F, SparseGPT(bits=bits))
    lost = [((W - part.weight) @ F.hessian * (W - part.weight)).sum(1) for part in (found, joint)]
    assert (lost[0] <= lost[1]).all()
    assert (lost[0] < lost[1]).any()
    assert (found.weight[~found.mask] == 0).all()
    assert all(len(torch.unique(row)) <= 2**bits for row in found.weight)


def test_a_dead_input_stays_zero_through_the_refit():
    x = X.clone()
    x[:, 4] = 0
    held = Hessian(COLUMNS, dtype=torch.float64)
    held.update(x)
    for method in ("sparsegpt", "wanda+refit"):
        settings = SparseGPT(method=method, sparsity=0.1)
        found = compress_matrix(W, held, factored(held, settings), settings)
        assert (found.weight[:, 4] == 0).all()


def test_the_error_told_of_held_out_rows_is_of_weights_that_never_saw_them():
    """Few rows: what was pruned and refitted on all of them would look better on those held out."""
    held = Hessian(COLUMNS, dtype=torch.float64, held_out=0.25)
    held.update(oracle.inputs(48, COLUMNS, seed=3))
    settings = SparseGPT(held_out=0.25)
    found = compress_matrix(W, held, factored(held, settings), settings)
    other = Hessian(COLUMNS, dtype=torch.float64)
    other.gram, other.tokens = held.gram.clone(), held.tokens
    apart = factored(other, settings)
    alone = prune_matrix(W, apart, settings)
    judge = held.held_out.normalised()
    least = min(
        min(refit_matrix(W, alone.weight, damped_more(apart, times), steps=20, mask=alone.mask, held_out=judge).errors)
        for times in MORE_DAMPING
    )
    assert found.held_out_error == pytest.approx(least / squared(W, judge))
    assert found.held_out_error > error(W, found.weight, judge)


@pytest.mark.parametrize("damping", [0.01, 0.1])
def test_more_damping(damping):
    plain = factor(H.normalised(), damping=damping)
    torch.testing.assert_close(damped_more(plain, 1.0), plain.hessian)
    torch.testing.assert_close(damped_more(plain, 10.0), factor(H.normalised(), damping=10 * damping).hessian)
