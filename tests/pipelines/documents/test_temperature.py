"""Temperatures and abstention: the likelihood does not fall, and what is answered reaches its target."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.documents import temperature


def drawn(seed, count=300, scale=4.0):
    """Return logits of a reader that is too sure of itself, and labels."""
    draw = np.random.default_rng(seed)
    true = draw.normal(size=(count, 3))
    chance = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    label = np.array([draw.choice(3, p=row) for row in chance])
    logits = np.concatenate([true * scale, np.full((count, 2), -1e4)], 1)
    return logits, label


def test_a_reader_too_sure_of_itself_is_cooled_to_what_it_knows():
    logits, label = drawn(0, 4000)
    found = temperature.fit(logits, np.zeros(4000, dtype=np.int64), label, 2)
    assert found.temperature[0] == pytest.approx(4.0, rel=0.15)
    assert found.temperature[1] == 1.0


def test_options_that_are_not_there_have_probability_nought():
    logits, _ = drawn(1)
    found = temperature.probabilities(logits, np.ones(len(logits)))
    assert (found[:, 3:] == 0).all()
    assert np.allclose(found.sum(1), 1)


@given(st.integers(0, 200), st.floats(0.4, 0.99))
def test_answers_given_reach_the_target_or_none_is_withheld(seed, target):
    logits, label = drawn(seed)
    held = temperature.fit(logits, np.zeros(len(label), dtype=np.int64), label, 1, target=target)
    probability = temperature.probabilities(logits, held.temperature[np.zeros(len(label), dtype=np.int64)])
    given_out = probability.max(1) >= held.threshold
    right = probability.argmax(1) == label
    assert held.coverage == pytest.approx(given_out.mean())
    assert held.accuracy == pytest.approx(right[given_out].mean())
    assert held.accuracy >= target or held.threshold == 0


def test_it_survives_json_and_an_empty_tuning_split():
    empty = temperature.fit(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 3)
    assert empty.temperature.tolist() == [1, 1, 1]
    logits, label = drawn(3)
    held = temperature.fit(logits, np.zeros(300, dtype=np.int64), label, 1)
    again = temperature.from_json(held.to_json())
    assert np.array_equal(again.temperature, held.temperature)
    assert again[1:] == held[1:]
