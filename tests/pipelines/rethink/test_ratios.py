"""Tempered density ratios: exact at temper 0, and held to a floor of the effective sample size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rethink.ratios import effective_size, estimate, log_ratio, smoothed, weigh

logs = st.lists(st.floats(-6, 6), min_size=1, max_size=30).map(np.array)


@given(logs, st.integers(0, 2**32 - 1))
def test_temper_0_is_the_mean_bit_for_bit(log_weight, seed):
    value = np.random.default_rng(seed).random(len(log_weight))
    assert estimate(log_weight, value, 0.0) == value.mean()


@given(logs, st.floats(0, 1))
def test_weights_are_a_distribution_of_a_size_between_1_and_all(log_weight, temper):
    held = weigh(log_weight, temper)
    assert (held.weight >= 0).all()
    assert held.weight.sum() == pytest.approx(1)
    assert 1 - 1e-9 <= held.size <= len(log_weight)


@given(logs, st.floats(0.01, 1), st.floats(0, 30))
def test_the_floor_holds_or_the_temper_is_0(log_weight, temper, floor):
    held = weigh(log_weight, temper, floor=floor)
    assert held.size >= min(floor, len(log_weight)) - 1e-9
    assert held.temper <= temper
    assert held.lowered == (held.temper < temper)


def test_by_hand():
    # exp(0.5 * log 4) = 2 against 1: weights 2/3 and 1/3, size 9 / 5.
    held = weigh(np.log([4.0, 1.0]), 0.5)
    np.testing.assert_allclose(held.weight, [2 / 3, 1 / 3])
    assert held.size == pytest.approx(9 / 5)
    assert estimate(np.log([4.0, 1.0]), np.array([1.0, 0.0]), 0.5) == pytest.approx(2 / 3)
    assert log_ratio(np.array([0.3]), np.array([0.1]))[0] == pytest.approx(np.log(2))
    assert log_ratio(np.array([1.0, 0.0]), np.array([1e-6, 0.5]), mix=1.0).tolist() == [2, -2]


def test_no_neighbours_give_the_models_own_probability_and_a_ratio_of_1():
    model = np.array([0.01, 0.5])
    assert (smoothed(np.zeros(2), np.zeros(2), model) == model).all()
    assert (log_ratio(model, model) == 0).all()


def test_contradicted_paths_weigh_nothing_and_all_contradicted_weigh_alike():
    held = weigh(np.array([5.0, 0.0, 0.0]), 1.0, allowed=np.array([False, True, True]))
    np.testing.assert_allclose(held.weight, [0, 0.5, 0.5])
    refused = weigh(np.array([5.0, 0.0]), 1.0, allowed=np.array([False, False]))
    assert refused.refused
    np.testing.assert_allclose(refused.weight, [0.5, 0.5])


@given(logs, st.randoms(use_true_random=False))
def test_order_changes_nothing(log_weight, random):
    order = np.array(random.sample(range(len(log_weight)), len(log_weight)))
    np.testing.assert_allclose(weigh(log_weight[order], 0.7).weight, weigh(log_weight, 0.7).weight[order], rtol=1e-12)
    assert effective_size(np.ones(len(log_weight))) == len(log_weight)
