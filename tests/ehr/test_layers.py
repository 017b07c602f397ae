"""Layers against what they claim: relative rotation, attention as in the formula, rows of padding that stay finite."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ehr import layers

INVERSE = 1 / layers.log_periods(8, *layers.PERIOD_DAYS)


def test_periods_are_spaced_by_their_logarithm():
    periods = 1 / INVERSE
    assert periods[0].item() == pytest.approx(0.25)
    assert periods[-1].item() == pytest.approx(200 * 365.25)
    ratios = periods[1:] / periods[:-1]
    assert torch.allclose(ratios, ratios[:1], rtol=1e-4)


@given(st.floats(0, 30_000), st.floats(-60, 60), st.floats(-20_000, 20_000))
def test_scores_hang_on_the_difference_of_ages(age, apart, shift):
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16, generator=draw, dtype=torch.float64)

    def score(first, second, anchor):
        def turned(x, at):
            delta = torch.tensor([[at - anchor]], dtype=torch.float64)
            turns = delta[:, None, :, None] * INVERSE.double()
            angle = 2 * math.pi * turns
            return layers.rotate(x.float(), (torch.cos(angle).float(), torch.sin(angle).float()))

        return (turned(query, first) * turned(key, second)).sum().item()

    assert score(age, age + apart, age) == pytest.approx(score(age + shift, age + shift + apart, age), abs=1e-4)


@pytest.mark.parametrize("delta", [0.0, 0.1, -3.7, 365.25, -20_000.5, 36_000.0])
def test_rotation_keeps_its_phase_over_decades(delta):
    cosine, sine = layers.rotary(torch.tensor([[delta]]), torch.zeros(1, 1), INVERSE)
    exact = 2 * math.pi * torch.tensor([delta]).double() * INVERSE.double()
    assert torch.allclose(cosine.flatten().double(), torch.cos(exact), atol=1e-6)
    assert torch.allclose(sine.flatten().double(), torch.sin(exact), atol=1e-6)


def test_what_attention_sees_hangs_on_the_age_difference_alone():
    torch.manual_seed(0)
    age = torch.rand(1, 9) * 30_000
    query, key = torch.randn(1, 1, 9, 16), torch.randn(1, 1, 9, 16)
    scores = [
        layers.rotate(query, turn) @ layers.rotate(key, turn).mT
        for turn in (layers.rotary(age, torch.tensor([[anchor]]), INVERSE) for anchor in (0.0, 29_999.7))
    ]
    assert torch.allclose(*scores, atol=1e-4)


def test_rotation_is_made_in_f32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosine, _ = layers.rotary(torch.tensor([[12_345.678]]), torch.zeros(1, 1), INVERSE)
    assert cosine.dtype == torch.float32
    assert torch.equal(cosine, layers.rotary(torch.tensor([[12_345.678]]), torch.zeros(1, 1), INVERSE)[0])


def naive(query, key, value, visible):
    """Attention by loops, in f64."""
    out = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=torch.float64)
    for r, h, i in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        seen = [j for j in range(key.shape[2]) if visible[r, i, j]]
        scores = torch.stack([query[r, h, i] @ key[r, h, j] for j in seen]).double() / math.sqrt(query.shape[-1])
        for j, share in zip(seen, torch.softmax(scores, 0), strict=True):
            out[r, h, i] += share * value[r, h, j].double()
    return out


def test_self_attention_is_the_formula():
    torch.manual_seed(0)
    attention = layers.SelfAttention(32, 2)
    x = torch.randn(2, 7, 32)
    visible = torch.rand(2, 7, 7) < 0.5
    visible |= torch.eye(7, dtype=torch.bool)
    turn = layers.rotary(torch.rand(2, 7) * 100, torch.zeros(1, 1), INVERSE)
    parts = (layers.split(part, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    query, key, value = parts
    expected = naive(layers.rotate(query, turn), layers.rotate(key, turn), value, visible)
    expected = layers.merge(expected).float() @ attention.out.weight.T
    assert torch.allclose(attention(x, layers.hide(visible), turn), expected, atol=1e-5)


def test_cross_attention_is_the_formula_with_a_key_of_its_own():
    torch.manual_seed(0)
    attention = layers.CrossAttention(32, 2)
    torch.nn.init.normal_(attention.nothing)
    x, record = torch.randn(2, 3, 32), torch.randn(2, 5, 32)
    visible = torch.rand(2, 3, 5) < 0.5
    visible[0, 0] = False
    shown = torch.cat([torch.ones(2, 3, 1, dtype=torch.bool), visible], dim=-1)
    turn, record_turn = (
        layers.rotary(torch.rand(2, 3), torch.zeros(1, 1), INVERSE),
        layers.rotary(torch.rand(2, 5), torch.zeros(1, 1), INVERSE),
    )
    query = layers.rotate(layers.split(attention.query(x), 2), turn)
    key, value = (layers.split(part, 2) for part in attention.key_value(record).chunk(2, dim=-1))
    nothing = attention.nothing.expand(2, 2, 2, 1, 16)
    key = torch.cat([nothing[0], layers.rotate(key, record_turn)], dim=2)
    value = torch.cat([nothing[1], value], dim=2)
    expected = layers.merge(naive(query, key, value, shown)).float() @ attention.out.weight.T
    found = attention(x, record, layers.hide(shown), turn, record_turn)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_query_that_sees_nothing_reads_the_key_of_its_own_alone():
    torch.manual_seed(0)
    attention = layers.CrossAttention(32, 2)
    shown = torch.zeros(1, 1, 6, dtype=torch.bool)
    shown[..., 0] = True
    turn, record_turn = (
        layers.rotary(torch.zeros(1, 1), torch.zeros(1, 1), INVERSE),
        layers.rotary(torch.zeros(1, 5), torch.zeros(1, 1), INVERSE),
    )
    x = torch.randn(1, 1, 32)
    found = [attention(x, torch.randn(1, 5, 32) * 9, layers.hide(shown), turn, record_turn) for _ in range(2)]
    assert torch.equal(*found)
    assert torch.isfinite(found[0]).all()


def test_swiglu_is_the_formula():
    torch.manual_seed(0)
    mix = layers.SwiGLU(8, 16)
    x = torch.randn(3, 8)
    gate, value = mix.gate_value.weight[:16], mix.gate_value.weight[16:]
    expected = (torch.nn.functional.silu(x @ gate.T) * (x @ value.T)) @ mix.out.weight.T
    assert torch.allclose(mix(x), expected, atol=1e-6)


def test_time2vec_starts_with_periods_of_half_to_64_units():
    features = layers.Time2Vec(4, 8)
    periods = 2 * math.pi / features.frequency
    assert periods[0].item() == pytest.approx(0.5)
    assert periods[-1].item() == pytest.approx(64, rel=1e-4)
    assert features(torch.zeros(2, 3)).shape == (2, 3, 4)
