"""Layers on the sphere: the function is kept, rows have length 1, gradients are orthogonal, values are three a row."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from compress.hyperspherical import penalties
from compress.hyperspherical.layer import (
    HypersphericalLinear,
    Sphere,
    convert,
    fold,
    held,
    nearest,
    renormalise,
    rest,
)
from compress.hyperspherical.ternary import best_ternary, cosine_distance, values
from compress.layers import as_matrix, find
from compress.sizes import recovered

MATRICES = arrays.arrays(
    "float64", st.tuples(st.integers(1, 4), st.integers(1, 7)), elements=st.integers(-99, 99).map(float)
)


class Conv1D(nn.Module):
    """The transposed linear map of Hugging Face's GPT-2."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


def kinds():
    """Return every kind of layer with an input."""
    torch.manual_seed(1)
    return [
        (nn.Linear(7, 5), torch.randn(3, 7)),
        (Conv1D(5, 7), torch.randn(3, 7)),
        (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 6, 6)),
        (nn.Embedding(9, 6), torch.arange(9)),
    ]


@pytest.mark.parametrize(("module", "x"), kinds(), ids=lambda held: type(held).__name__)
def test_conversion_keeps_the_function_and_folding_gives_it_back(module, x):
    before, weight = module(x), module.weight.detach().clone()
    convert({"it": module})
    torch.testing.assert_close(module(x), before, rtol=0, atol=1e-6)
    lengths = module.parametrizations.weight.original1
    rows = weight.T if isinstance(module, Conv1D) else weight.flatten(1)
    torch.testing.assert_close(lengths.detach(), rows.norm(dim=1))
    module.parametrizations.weight[0].mode = "ternary"
    ternary = module(x)
    codes = fold(module)[""]
    torch.testing.assert_close(module(x), ternary, rtol=1e-5, atol=1e-6)
    assert torch.equal(as_matrix(module), values(codes))
    found = recovered(as_matrix(module).numpy())
    assert found is not None
    assert (codes.scale >= 0).all()
    assert module.weight.shape == weight.shape


def test_a_layer_of_its_own_is_a_linear_map():
    torch.manual_seed(0)
    plain = nn.Linear(6, 4)
    torch.manual_seed(0)
    ours = HypersphericalLinear(6, 4)
    x = torch.randn(5, 6)
    torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-6)
    assert list(find(ours)) == [""]


@pytest.mark.parametrize("mode", ["dense", "ternary"])
@pytest.mark.parametrize("rescale", [None, 4.0])
def test_gradients_of_directions_are_orthogonal_to_them(mode, rescale):
    torch.manual_seed(2)
    layer = HypersphericalLinear(12, 8)
    sphere, direction = layer.parametrizations.weight[0], layer.parametrizations.weight.original0
    sphere.mode, sphere.rescale = mode, rescale
    layer(torch.randn(30, 12)).square().sum().backward()
    assert direction.grad.norm() > 1
    assert (direction.grad * direction).sum(1).abs().max() < 1e-4


@given(MATRICES)
def test_the_form_of_every_step_is_the_best_one(weight):
    weight = torch.from_numpy(weight)
    hard = nearest(weight).hard
    best = cosine_distance(weight, best_ternary(weight))
    ours = cosine_distance(weight, best_ternary(weight)._replace(codes=hard.sign().to(torch.int8)))
    # Entries of one size are kept together, which costs nothing where they are the last ones and equal.
    torch.testing.assert_close(ours, best, rtol=0, atol=1e-6)


def test_a_rate_of_one_is_the_plain_gradient_and_a_small_one_is_taken_times():
    torch.manual_seed(3)
    layer, x = HypersphericalLinear(12, 8), torch.randn(20, 12)
    sphere, direction = layer.parametrizations.weight[0], layer.parametrizations.weight.original0
    sphere.mode = "ternary"

    def gradient(rescale, floor):
        sphere.rescale, sphere.floor = rescale, floor
        layer.zero_grad()
        layer(x).square().sum().backward()
        return direction.grad.clone()

    plain = gradient(None, 0.1)
    torch.testing.assert_close(gradient(8.0, 1.0), plain)
    assert gradient(8.0, 0.0).norm() < 0.9 * plain.norm()
    unit = sphere.unit(direction).detach()
    threshold = nearest(unit).threshold
    rate = sphere.rate(unit, threshold)
    assert ((rate >= 0) & (rate <= 1)).all()
    torch.testing.assert_close(rate[unit.abs() == threshold], torch.ones(8))


def test_rows_come_back_to_length_one_and_stay_what_they_are():
    torch.manual_seed(4)
    layer, x = HypersphericalLinear(12, 8), torch.randn(20, 12)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(torch.rand(8, 1) + 0.5)
    before = layer(x)
    renormalise(layer)
    torch.testing.assert_close(layer.parametrizations.weight.original0.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(layer(x), before)


def test_what_is_pruned_stays_away_whatever_the_optimizer_does():
    torch.manual_seed(5)
    layer, x = HypersphericalLinear(12, 8), torch.randn(20, 12)
    sphere, direction = layer.parametrizations.weight[0], layer.parametrizations.weight.original0
    sphere.prune(direction, 3)
    assert int((as_matrix(layer) == 0).sum()) == 8 * 9
    for mode in ("dense", "ternary"):
        sphere.mode = mode
        layer.zero_grad()
        layer(x).sum().backward()
        assert not direction.grad[~sphere.mask].any()
        with torch.no_grad():
            direction.add_(1.0)
        assert not as_matrix(layer)[~sphere.mask].any()
    torch.testing.assert_close(sphere.unit(direction).norm(dim=1), torch.ones(8))


def test_a_row_of_zeros_and_a_negative_length_fold_to_codes_with_a_scale_of_zero_or_more():
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0, 0, 0, 0], [1, -1, 0, 0], [0.5, 0.5, 0.5, 0.5]]))
    convert({"it": layer})
    with torch.no_grad():
        layer.parametrizations.weight.original1[1] *= -1
    layer.parametrizations.weight[0].mode = "ternary"
    assert penalties.distance(layer) == pytest.approx(0, abs=1e-9)
    found = fold(layer)[""]
    assert found.codes.tolist() == [[0, 0, 0, 0], [-1, 1, 0, 0], [1, 1, 1, 1]]
    torch.testing.assert_close(found.scale, torch.tensor([0.0, 1.0, 0.5]))


def test_the_penalties_are_what_they_say_and_their_targets_have_no_gradient():
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(9, 7), nn.Linear(7, 5))
    convert(find(model, ("*",)))
    penalties.watch(model, "distance")
    model(torch.randn(2, 9))
    total = penalties.noted(model)
    units = [layer.weights.unit(layer.originals[0]) for _, layer in held(model)]
    by_hand = [(1 - (unit * nearest(unit).hard).sum(1)).mean() for unit in units]
    torch.testing.assert_close(total, sum(by_hand))
    total.backward()
    assert float(penalties.noted(model)) == 0
    unit = torch.nn.functional.normalize(torch.randn(4, 10), dim=1)
    small = rest(unit, 0.7)
    torch.testing.assert_close(small, (unit**2).sort(1).values[:, :7].sum(1))
    x = torch.nn.functional.normalize(torch.randn(50, 10), dim=1)
    kept = torch.where(unit.abs() >= unit.abs().sort(1).values[:, 7:8], unit, 0)
    assert ((x @ (unit - kept).T).abs() <= small.sqrt() + 1e-6).all()


def test_a_sphere_is_left_alone_by_what_asks_for_nothing():
    layer = HypersphericalLinear(4, 3)
    assert isinstance(layer.parametrizations.weight[0], Sphere)
    layer(torch.randn(2, 4))
    assert layer.parametrizations.weight[0].seen is None
    with pytest.raises(ValueError, match="no layer is trained"):
        penalties.distance(nn.Linear(2, 2))
