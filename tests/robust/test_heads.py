"""Losses, divergences and margins of both heads, against torch, scipy and loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from robust.aims import Target, goal_of
from robust.examples import Examples, apart
from robust.heads import Classes, Outcomes

NAN = float("nan")


def logits(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels():
    return torch.tensor([[[1.0, NAN], [0.0, 1.0]], [[NAN, NAN], [NAN, NAN]], [[0.0, 0.0], [1.0, 0.25]]])


def test_losses_are_torchs_over_the_answers_that_there_are():
    z, y = logits(3, 2, 2), labels()
    there = ~y.isnan()
    expected = functional.binary_cross_entropy_with_logits(z[there], y[there].double(), reduction="sum")
    assert torch.isclose(Outcomes().loss(z, y).sum(), expected)
    assert Outcomes().known(y).tolist() == [3, 0, 4]
    several = torch.tensor([[0, -1], [2, 1]])
    z = logits(2, 2, 3)
    expected = functional.cross_entropy(z.flatten(0, 1), several.flatten(), ignore_index=-1, reduction="sum")
    assert torch.isclose(Classes().loss(z, several).sum(), expected)
    assert Classes().known(several).tolist() == [1, 2]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 3.0, 40.0]))
def test_divergence_is_torchs_and_not_below_0(seed, scale):
    a, b = logits(4, 3, seed=seed, scale=scale), logits(4, 3, seed=seed + 1, scale=scale)
    label = torch.tensor([0, 1, 2, -1])
    expected = functional.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    expected[3] = 0
    assert torch.allclose(Classes().divergence(a, b, label), expected, atol=1e-9)
    assert (Classes().divergence(a, b, label) >= -1e-9).all()
    assert (Classes().divergence(a, a, label).abs() < 1e-9).all()
    found = Outcomes().divergence(a, b, torch.ones(4, 3))
    p, q = (torch.stack([z, torch.zeros_like(z)], -1).log_softmax(-1) for z in (a, b))
    assert torch.allclose(found, functional.kl_div(q, p, log_target=True, reduction="none").sum((1, 2)), atol=1e-9)
    assert (found >= -1e-9).all()


def test_divergence_skips_what_is_missing_and_its_gradient_is_finite():
    a, b = logits(3, 2, 2).requires_grad_(), logits(3, 2, 2, seed=1).requires_grad_()
    found = Outcomes().divergence(a, b, labels())
    assert found[1] == 0
    found.sum().backward()
    for z in (a, b):
        assert torch.isfinite(z.grad).all()
        assert (z.grad[labels().isnan()] == 0).all()
        assert (z.grad[~labels().isnan()] != 0).all()


def test_mixture_is_the_mean_divergence_to_the_mean():
    parts = [logits(4, 3, seed=seed) for seed in range(3)]
    label = torch.zeros(4, dtype=torch.int64)
    p = torch.stack([part.softmax(-1) for part in parts])
    expected = (p * (p / p.mean(0)).log()).sum(-1).mean(0)
    assert torch.allclose(Classes().mixture(parts, label), expected)
    p = torch.stack([torch.stack([part.sigmoid(), 1 - part.sigmoid()], -1) for part in parts])
    expected = (p * (p / p.mean(0)).log()).sum((2, 3)).mean(0)
    assert torch.allclose(Outcomes().mixture(parts, torch.zeros(4, 3)), expected)
    assert (Classes().mixture([parts[0]] * 3, label).abs() < 1e-12).all()


def test_margin_is_above_0_where_an_answer_is_wrong():
    z = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 5.0, 1.0]])
    label = torch.tensor([0, 2, -1])
    assert Classes().margin(z, label)[:2].tolist() == [-1, 2]
    assert Classes().margin(z, label)[2] < -1e20
    assert Classes().ratio(z, label)[:2].tolist() == [-0.5, 1]
    y = torch.tensor([[1.0, NAN, 0.0], [0.0, 1.0, NAN], [NAN, NAN, NAN]])
    assert Outcomes().margin(z, y)[:2].tolist() == [0, 2]
    assert Outcomes().margin(z, y)[2] < -1e20


def test_margin_works_on_two_classes_where_the_ratio_is_not_defined():
    z, label = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
    assert Classes().margin(z, label).item() == 2
    with pytest.raises(ValueError, match="needs 3 classes"):
        Classes().ratio(z, label)


def test_goals_count_for_examples():
    y = torch.tensor([[1.0], [0.0], [1.0]])
    z = torch.tensor([[2.0], [1.0], [-3.0]])
    examples = Examples(torch.zeros(1, 1, dtype=torch.int64), torch.arange(2), torch.tensor([0, 0, 1]))
    assert goal_of("margin", Target(Outcomes(), y), examples)(z).tolist() == [1, 3]
    loss = goal_of("cross_entropy", Target(Outcomes(), y), examples)(z)
    assert loss[0] == pytest.approx(float(functional.softplus(torch.tensor([-2.0, 1.0])).sum()))


def test_aims_are_checked():
    target, examples = Target(Outcomes(), torch.zeros(2, 1)), apart(torch.zeros(2, 1))
    for aim, word in (("ratio", "classes alone"), ("divergence", "clean"), ("speed", "expected cross_entropy")):
        with pytest.raises(ValueError, match=word):
            goal_of(aim, target, examples)


def test_no_rows_are_no_loss():
    assert Outcomes().loss(torch.zeros(0, 2, 2), torch.zeros(0, 2, 2)).shape == (0,)
    assert Classes().loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0,)
