"""SparseGPT on one matrix: against an oracle that eliminates column by column, and its exact counts."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.sparsity import grids, saliency
from compress.sparsity.hessians import Hessian, error, squared
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import factored, prune_group, prune_matrix
from tests.compress.sparsity import oracle

ROWS, COLUMNS, TOKENS = 9, 24, 200


def hessian(x):
    found = Hessian(x.shape[1], dtype=x.dtype)
    found.update(x)
    return found


X, W = oracle.inputs(TOKENS, COLUMNS), oracle.weights(ROWS, COLUMNS)
H = hessian(X)


def exact(sparsity, rows=ROWS):
    done = [0]

    def choose(score, column):
        due = saliency.share_of(rows * (column + score.shape[1]), sparsity) - done[0]
        done[0] += due
        order = torch.argsort(score.flatten(), stable=True)
        kept = torch.ones(score.numel(), dtype=torch.bool)
        kept[order[:due]] = False
        return kept.reshape(score.shape)

    return choose


def reference(sparsity):
    def choose(score, _):
        return score > torch.sort(score.flatten())[0][int(score.numel() * sparsity)]

    return choose


def two_of_four(score, _):
    kept = torch.zeros_like(score, dtype=torch.bool)
    return kept.scatter(1, torch.topk(score, 2, dim=1).indices, value=True)


CASES = {
    "exact": (SparseGPT(mask_block=8, update_block=8), exact(0.5), 8, None),
    "70 %": (SparseGPT(mask_block=8, update_block=8, sparsity=0.7), exact(0.7), 8, None),
    "reference": (SparseGPT(mask_block=8, update_block=8, threshold="reference"), reference(0.5), 8, None),
    "one block": (SparseGPT(mask_block=128, update_block=128), exact(0.5), COLUMNS, None),
    "wide masks": (SparseGPT(mask_block=12, update_block=4), exact(0.5), 12, None),
    "narrow masks": (SparseGPT(mask_block=4, update_block=12), exact(0.5), 4, None),
    "2:4": (SparseGPT(pattern="2:4", update_block=8), two_of_four, 4, None),
    "4 bits": (SparseGPT(mask_block=8, update_block=8, bits=4), exact(0.5), 8, 4),
    "3 bits alone": (SparseGPT(sparsity=0.0, mask_block=8, update_block=8, bits=3), exact(0.0), 8, 3),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_oracle(case):
    chosen, choose, group, bits = CASES[case]
    if case not in ("reference", "2:4"):
        choose = exact(chosen.sparsity)
    rounding = grids.fit(W, bits).round if bits else None
    weight, mask, loss = oracle.sparsegpt(W, oracle.damped(X), choose, group=group, round_to=rounding)
    found = prune_matrix(W, H, chosen)
    assert torch.equal(found.mask, mask)
    torch.testing.assert_close(found.weight, weight, rtol=1e-9, atol=1e-9)
    assert found.loss == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_the_damped_error(case):
    chosen = CASES[case][0]
    found = prune_matrix(W, H, chosen)
    assert found.loss == pytest.approx(squared(W - found.weight, oracle.damped(X)) / 2, rel=1e-9)


def test_the_reference_takes_one_more_and_all_ties():
    tied = torch.ones(4, 8, dtype=torch.float64)
    tied[:, 0] = 9
    identity = hessian(torch.eye(8, dtype=torch.float64))
    chosen = SparseGPT(threshold="reference", mask_block=8, update_block=8)
    assert int((~prune_matrix(W, H, replace(chosen, sparsity=0.25)).mask).sum()) == 3 * (ROWS * 8 // 4 + 1)
    assert int((prune_matrix(tied, identity, chosen).weight == 0).sum()) == 28
    assert int((prune_matrix(tied, identity, replace(chosen, threshold="exact")).weight == 0).sum()) == 16


def test_without_correlation_it_is_magnitude_by_block_and_survivors_stay():
    identity = hessian(torch.eye(COLUMNS, dtype=torch.float64) * COLUMNS**0.5)
    found = prune_matrix(W, identity, SparseGPT(mask_block=8, update_block=8))
    blocks = [saliency.magnitude(part, 0.5) for part in W.split(8, dim=1)]
    assert torch.equal(found.mask, torch.cat(blocks, 1))
    torch.testing.assert_close(found.weight, W * found.mask, rtol=0, atol=1e-12)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 7), columns=st.integers(1, 21), sparsity=st.integers(0, 20).map(lambda part: part / 20),
    mask_block=st.sampled_from([1, 2, 4, 8, 128]), update_block=st.sampled_from([4, 8, 128]),
)  # fmt: skip
def test_counts_are_exact(rows, columns, sparsity, mask_block, update_block):
    x, w = oracle.inputs(40, columns, correlated=False), oracle.weights(rows, columns)
    chosen = SparseGPT(sparsity=sparsity, mask_block=mask_block, update_block=update_block)
    found = prune_matrix(w, hessian(x), chosen)
    assert int((~found.mask).sum()) == saliency.share_of(rows * columns, sparsity)
    assert torch.equal(found.weight == 0, ~found.mask)
    assert torch.isfinite(found.weight).all()


@pytest.mark.parametrize(("pattern", "columns"), [("2:4", 24), ("4:8", 24), ("1:4", 12), ("2:4", 22), ("1:3", 24)])
def test_groups_hold_n_of_m(pattern, columns):
    kept, size = map(int, pattern.split(":"))
    whole = columns // size * size
    chosen = SparseGPT(pattern=pattern, tail="dense", mask_block=12, update_block=12 if size == 3 else 8)
    found = prune_matrix(W[:, :columns], hessian(X[:, :columns]), chosen)
    assert ((found.weight[:, :whole] != 0).unflatten(1, (-1, size)).sum(-1) == kept).all()
    assert (found.weight[:, whole:] != 0).all()


def test_a_pattern_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"pattern 2:4 does not divide 22 columns; leave the layer out, or set tail"):
        prune_matrix(W[:, :22], hessian(X[:, :22]), SparseGPT(pattern="2:4"))


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_no_worse_than_wanda_and_magnitude_strictly_on_correlated_inputs(sparsity):
    norm = H.gram.diagonal().sqrt()
    found = error(W, prune_matrix(W, H, SparseGPT(sparsity=sparsity)).weight, H.gram)
    assert found < error(W, W * saliency.wanda(W, norm, sparsity), H.gram)
    assert found < error(W, W * saliency.magnitude(W, sparsity), H.gram)


def test_the_scale_of_inputs_changes_nothing():
    for factor in (0.25, 1024.0):
        assert torch.equal(
            prune_matrix(W, hessian(X * factor), SparseGPT()).weight, prune_matrix(W, H, SparseGPT()).weight
        )
    other = prune_matrix(W, hessian(X * 3.7), SparseGPT())
    assert torch.equal(other.mask, prune_matrix(W, H, SparseGPT()).mask)


@pytest.mark.parametrize("bits", [None, 4])
def test_blocks_of_updates_change_no_weight_under_a_given_mask(bits):
    mask = saliency.magnitude(W, 0.5)
    found = [
        prune_matrix(W, H, SparseGPT(update_block=block, mask_block=128, bits=bits), mask=mask) for block in (1, 8, 128)
    ]
    for other in found[1:]:
        assert torch.equal(other.mask, mask)
        torch.testing.assert_close(other.weight, found[0].weight, rtol=1e-10, atol=1e-12)


def test_a_dead_input_gets_zeros():
    x = X.clone()
    x[:, [3, 17]] = 0
    found = prune_matrix(W, hessian(x), SparseGPT(sparsity=0.2))
    assert (found.weight[:, [3, 17]] == 0).all()
    assert torch.isfinite(found.weight).all()
    assert int((found.weight == 0).sum()) == saliency.share_of(ROWS * COLUMNS, 0.2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_dtype_is_kept(dtype):
    weight = W.to(dtype)
    before = weight.clone()
    single = Hessian(COLUMNS, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    single.update(X)
    found = prune_matrix(weight, single, SparseGPT())
    assert found.weight.dtype == dtype
    assert torch.equal(weight, before)
    assert int((found.weight == 0).sum()) == ROWS * COLUMNS // 2


@pytest.mark.parametrize("grid", ["minmax", "mse"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zero_stays_zero_and_values_lie_on_the_grid(bits, grid):
    found = prune_matrix(W, H, SparseGPT(bits=bits, grid=grid))
    assert found.grid is not None
    assert (found.weight[~found.mask] == 0).all()
    for row, scale in zip(found.weight, found.grid.scale, strict=True):
        assert len(torch.unique(torch.round(row / scale))) <= 2**bits
    torch.testing.assert_close(found.grid.round(found.weight), found.weight)


def test_a_searched_grid_is_no_worse_in_its_own_norm():
    def lost(grid):
        return (grid.round(W) - W).abs().pow(grids.NORM).sum(1)

    assert (lost(grids.fit(W, 3, search=True)) <= lost(grids.fit(W, 3))).all()
    assert (lost(grids.fit(W, 3, search=True)) < lost(grids.fit(W, 3))).any()


def test_a_row_of_zeros_has_a_grid():
    nothing = torch.zeros(2, 4)
    assert torch.equal(grids.fit(nothing, 4).round(nothing), nothing)


@pytest.mark.parametrize(("heavy", "joint_wins"), [(True, True), (False, False)])
def test_half_the_weights_at_four_bits_beside_three_bits_alone(heavy, joint_wins):
    """The comparison of section 3.5 of the paper, at equal storage: it goes by how heavy the tails of weights are."""
    x, w = oracle.inputs(1000, 128), oracle.weights(64, 128)
    w = w * w.abs() if heavy else w
    gram = hessian(x).gram
    joint = error(w, prune_matrix(w, hessian(x), SparseGPT(bits=4)).weight, gram)
    alone = error(w, prune_matrix(w, hessian(x), SparseGPT(sparsity=0.0, bits=3)).weight, gram)
    assert (joint < alone) == joint_wins


def test_a_factor_is_shared():
    held = factored(H, SparseGPT())
    for seed in range(3):
        w = oracle.weights(5, COLUMNS, seed)
        assert torch.equal(prune_matrix(w, held, SparseGPT()).weight, prune_matrix(w, H, SparseGPT()).weight)


@pytest.mark.parametrize("chosen", [SparseGPT(), SparseGPT(bits=4), SparseGPT(pattern="2:4"), SparseGPT(sparsity=0.3)])
def test_matrices_of_the_same_inputs_walked_over_together(chosen):
    held = factored(H, chosen)
    parts = [oracle.weights(rows, COLUMNS, rows) for rows in (5, 9, 2)]
    for part, found in zip(parts, prune_group(parts, held, chosen), strict=True):
        alone = prune_matrix(part, H, chosen)
        assert torch.equal(found.mask, alone.mask)
        torch.testing.assert_close(found.weight, alone.weight, rtol=1e-12, atol=1e-12)
        assert found.loss == pytest.approx(alone.loss)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sparsity": 1.5}, "sparsity is 1.5"),
        ({"sparsity": 1.0, "threshold": "reference"}, "below 1"),
        ({"pattern": "4:2"}, "0 < n <= m"),
        ({"pattern": "half"}, "such as 2:4"),
        ({"mask_block": 100}, "one to divide the other"),
        ({"bits": 9}, "expected 2 to 8"),
        ({"bits": 4, "method": "wanda"}, "expected 2 to 8 with sparsegpt"),
        ({"method": "best"}, "method is best; expected one of sparsegpt"),
        ({"pattern": "2:4", "allocation": "owl"}, "fixes every layer"),
        ({"pattern": "2:7"}, "a multiple of the m"),
        ({"held_out": 0.7}, "held_out"),
    ],
)
def test_bad_settings_are_answered(wrong, told):
    with pytest.raises(ValueError, match=told):
        SparseGPT(**wrong)
