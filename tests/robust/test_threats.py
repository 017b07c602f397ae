"""Threats: radius, bounds, padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robust.draws import Draws
from robust.examples import Examples, apart
from robust.threats import Threat
from tests.robust.cases import SEGMENT, images, rows, six, threats

seeds = st.integers(0, 2**32)


@settings(max_examples=20)
@given(threats, seeds, st.sampled_from([0.01, 1.0, 100.0]))
def test_no_point_leaves_the_ball(threat, seed, scale):
    x, examples = rows(), six()
    draw = torch.Generator().manual_seed(seed)
    far = x + scale * torch.randn(x.shape, generator=draw, dtype=x.dtype)
    for moved in (
        threat.project(far, x, examples),
        threat.start(x, examples, Draws(seed)),
        threat.edge(x, examples, Draws(seed)),
    ):
        assert float(threat.magnitude(moved, x, examples).max()) <= threat.epsilon + 1e-6
        assert torch.equal(moved[SEGMENT == 0], x[SEGMENT == 0])
        assert threat.low is None or float(moved.min()) >= threat.low
        assert threat.high is None or float(moved.max()) <= threat.high


@settings(max_examples=20)
@given(threats, seeds)
def test_projecting_twice_is_projecting_once(threat, seed):
    x, examples = rows(), six()
    far = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    once = threat.project(far, x, examples)
    assert torch.allclose(threat.project(once, x, examples), once, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2_token", "l2_example"])
def test_radius_0_is_identity(norm):
    threat, x = Threat(norm=norm, epsilon=0), rows()
    assert torch.equal(threat.project(x + 1, x, six()), x)
    assert torch.equal(threat.start(x, six(), Draws(0)), x)


def test_points_inside_stay_where_they_are():
    x, threat = rows(), Threat(norm="l2_example", epsilon=1.0)
    near = x + 0.01
    inside = threat.project(near, x, six())
    assert torch.equal(inside[SEGMENT > 0], near[SEGMENT > 0])


def test_magnitude_by_hand():
    x = torch.zeros(1, 3, 2, dtype=torch.float64)
    moved = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]], dtype=torch.float64)
    examples = Examples(torch.tensor([[0, 0, 1]]), torch.arange(2))
    assert Threat(norm="linf").magnitude(moved, x, examples).tolist() == [4, 8]
    assert Threat(norm="l2_token").magnitude(moved, x, examples).tolist() == [5, 10]
    assert Threat(norm="l2_example").magnitude(moved, x, examples).tolist() == [5, 10]
    both = Examples(torch.tensor([[0, 0, 0]]), torch.arange(1))
    assert Threat(norm="l2_example").magnitude(moved, x, both).item() == pytest.approx(125**0.5)
    assert Threat(norm="l2_token").magnitude(moved, x, both).item() == 10


def test_starts_fill_the_ball():
    x = torch.zeros(4000, 1, 2, dtype=torch.float64)
    examples = apart(x)
    for norm in ("l2_token", "l2_example"):
        radius = Threat(norm=norm, epsilon=1.0).start(x, examples, Draws(0)).flatten(1).norm(dim=1)
        # Uniform in a disc: the square of the radius is uniform.
        assert abs(float((radius**2).mean()) - 0.5) < 0.03
    assert abs(float(Threat(epsilon=1.0).start(x, examples, Draws(0)).square().mean()) - 1 / 3) < 0.02


def test_ascent_is_the_steepest():
    gradient, examples = rows(seed=1) - 0.5, six()
    for norm in ("linf", "l2_token", "l2_example"):
        threat = Threat(norm=norm, epsilon=0.3)
        along = threat.ascent(gradient, examples)
        best = examples.total(gradient * threat.project(0.3 * along, torch.zeros_like(gradient), examples))
        for seed in range(20):
            other = threat.edge(torch.zeros_like(gradient), examples, Draws(seed))
            assert (examples.total(gradient * other) <= best + 1e-9).all()


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"norm": "l1"}, "threat.norm"), ({"epsilon": -1}, "threat.epsilon"), ({"low": 1, "high": 0}, "low below high")],
)
def test_settings_are_checked(settings, word):
    with pytest.raises(ValueError, match=word):
        Threat(**settings)


def test_inputs_are_checked():
    threat = Threat(low=0, high=1)
    threat.check(images())
    threat.check(images()[:0])
    with pytest.raises(ValueError, match="expected 0 to 1"):
        threat.check(images() + 0.5)
    with pytest.raises(ValueError, match="not finite"):
        threat.check(torch.tensor([0.5, float("nan")]))
