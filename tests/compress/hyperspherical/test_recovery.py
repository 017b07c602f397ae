"""Recoveries: sums of rows and means of outputs are kept, the factored form is the dense one, the best is chosen."""

import pytest
import torch
from torch import nn

from compress.hyperspherical.recovery import (
    RECOVERIES,
    Inputs,
    Moments,
    apply_factored,
    inputs_of,
    prune,
    recover,
    with_mean,
)
from compress.layers import find
from compress.sparsity.saliency import keep_in_rows


def drawn(rows=6, columns=20, count=400, seed=0):
    """Return a matrix, a mask of 60 % zeros, and inputs with means and correlations."""
    torch.manual_seed(seed)
    mix = torch.randn(columns, columns) / columns**0.5
    weight = torch.randn(rows, columns)
    return (
        weight,
        keep_in_rows(weight.abs(), columns * 2 // 5),
        torch.randn(count, columns) @ mix + torch.randn(columns),
    )


def moments_of(x):
    return Moments(x.mean(0), x.T @ x / len(x))


def inputs(x):
    return Inputs(moments_of(x[::2]), moments_of(x[1::2]))


def test_the_mean_keeps_the_sums_of_rows_and_its_factored_form_is_the_dense_one():
    weight, mask, x = drawn()
    dense = with_mean(weight, mask)
    torch.testing.assert_close(dense.sum(1), weight.sum(1))
    torch.testing.assert_close(apply_factored(x, weight, mask), x @ dense.T, rtol=1e-5, atol=1e-4)
    assert all(len(set(row[~kept].tolist())) == 1 for row, kept in zip(dense, mask, strict=True))
    assert torch.equal(with_mean(weight, torch.ones_like(mask)), weight)


def test_a_bias_keeps_the_mean_output_on_what_it_was_made_from():
    weight, mask, x = drawn()
    made = recover(weight, mask, inputs(x), ("bias",))
    torch.testing.assert_close((x[::2] @ made.weight.T + made.bias).mean(0), (x[::2] @ weight.T).mean(0))


@pytest.mark.parametrize("name", RECOVERIES)
def test_errors_are_those_of_the_outputs(name):
    weight, mask, x = drawn()
    made = recover(weight, mask, inputs(x), (name,))
    judged = x[1::2]
    by_hand = ((judged @ (weight - made.weight).T - made.bias) ** 2).sum() / ((judged @ weight.T) ** 2).sum()
    assert made.error == pytest.approx(float(by_hand), rel=1e-3)
    if name != "mean":
        assert not made.weight[~mask].any()


def test_the_best_of_all_is_chosen_and_shifted_inputs_choose_the_bias_over_nothing():
    weight, mask, x = drawn()
    errors = {name: recover(weight, mask, inputs(x), (name,)).error for name in RECOVERIES}
    best = recover(weight, mask, inputs(x))
    assert best.error == min(errors.values())
    assert errors["bias"] < errors["zero"]
    assert recover(weight, mask, inputs(x), ("zero", "bias")).recovery == "bias"


def test_a_model_is_pruned_to_the_share_with_padding_left_out():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 10, bias=False), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2))
    batches = [torch.randn(30, 12) for _ in range(5)]
    padded = [torch.cat([batch, torch.full((7, 12), 99.0)]) for batch in batches]
    layers = find(model)

    def forward(network, batch):
        network(batch)

    plain = inputs_of(model, batches, layers, forward=forward)
    masked = inputs_of(model, padded, layers, forward=forward, token_mask=lambda name, args: torch.arange(37) < 30)
    for name, held in plain.items():
        for one, two in zip(held.made, masked[name].made, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    assert layers["0"].bias is None
    told = prune(layers, plain, 0.5, ("zero", "bias"), new_biases=False)
    assert [layer.zeros for layer in told.layers] == [10 * 6, 8 * 5]
    assert told.layers[0].recovery == "zero"
    prune(layers, plain, 0.7, ("bias",), new_biases=True)
    assert layers["0"].bias.shape == (10,)


def test_too_little_to_choose_from_is_refused():
    layer = nn.Linear(4, 3, bias=False)
    held = inputs_of(layer, [torch.randn(9, 4)] * 2, {"it": layer}, forward=lambda model, batch: model(batch))
    with pytest.raises(ValueError, match="has no bias"):
        prune({"it": layer}, held, 0.5, ("bias",))
    with pytest.raises(ValueError, match="1 calibration batch"):
        inputs_of(layer, [torch.randn(9, 4)], {"it": layer}, forward=lambda model, batch: model(batch))
