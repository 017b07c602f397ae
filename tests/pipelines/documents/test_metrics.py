"""The metric against scikit-learn and against tables computed by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from pipelines.documents.metrics import (
    Answers,
    average_precision,
    balanced_accuracy,
    calibration_error,
    chance,
    class_values,
    luck,
    macro_f1,
    margin,
    minority,
    minority_aupr,
    missing,
    over_parents,
    over_runs,
    over_tasks,
    weighted_precision,
)


def random_answers(seed, options=None):
    """Rows of a task, every option at least once and none in all rows; coarse scores tie."""
    random = np.random.default_rng(seed)
    options = options or int(random.integers(2, 8))
    label = np.concatenate([np.arange(options), random.integers(options, size=int(random.integers(1, 40)))])
    score = random.normal(size=(len(label), options))
    return Answers(score if seed % 2 else np.round(score), label)


def published(answers, at):
    """The metric of one class as the paper's steps say, on scikit-learn."""
    score, label = answers
    s = np.array([2 * row[at] - row.sum() for row in score])
    y = label == at
    return average_precision_score(~y, -s) if y.mean() > 0.5 else average_precision_score(y, s)


def test_a_thousand_draws_equal_scikit_learn():
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for seed in range(1000):
            answers = random_answers(seed)
            at = seed // 2 % answers.score.shape[1]
            assert abs(class_values(answers)[at] - published(answers, at)) < 1e-12, seed


def test_by_hand():
    # Class 0 has 2 of 5 rows: margins of C = 2 are L0 - L1 = 3, 1, 1, 0, -2, its rows the first and third. Ties count
    # at once: recall 1/2 at precision 1, then recall 1 at precision 2/3. Class 1 has 3 of 5 and is turned over into it.
    score = np.array([[3, 0], [1, 0], [2, 1], [0, 0], [0, 2.0]])
    label = np.array([0, 1, 0, 1, 1])
    expected = 1 / 2 * 1 + 1 / 2 * 2 / 3
    assert class_values(Answers(score, label)) == pytest.approx([expected, expected])
    assert minority_aupr(Answers(score, label)) == pytest.approx(5 / 6)
    assert chance(label, 2) == pytest.approx(0.4)


def test_questions_and_tasks_are_other_means():
    # Question 10 has three sub-questions and counts once among questions, three times among tasks.
    values = {"9": 1.0, "10-0": 0.1, "10-1": 0.2, "10-2": 0.3, "10.10": 0.5}
    parents = {"9": "9", "10-0": "10", "10-1": "10", "10-2": "10", "10.10": "10.10"}
    assert over_parents(values, parents) == pytest.approx((1.0 + 0.2 + 0.5) / 3)
    assert over_tasks(values) == pytest.approx(2.1 / 5)
    assert np.isnan(over_parents({}, {}))
    assert np.isnan(over_tasks({}))


def test_runs_are_averaged_first():
    assert over_runs([{"a": 0.2, "b": 1.0}, {"a": 0.4, "b": 0.0}]) == pytest.approx({"a": 0.3, "b": 0.5})
    with pytest.raises(ValueError, match="the same tasks"):
        over_runs([{"a": 0.2}, {"b": 0.2}])


@given(st.integers(0, 10**6))
def test_perfect_is_one_and_constant_is_the_minority_share(seed):
    label = random_answers(seed).label
    options = int(label.max()) + 1
    perfect = np.eye(options)[label]
    assert minority_aupr(Answers(perfect, label)) == pytest.approx(1)
    assert minority_aupr(Answers(np.zeros_like(perfect), label)) == pytest.approx(chance(label, options))


@given(st.integers(0, 10**6))
def test_what_does_not_change_it(seed):
    answers = random_answers(seed)
    random = np.random.default_rng(seed)
    own = class_values(answers)
    order = random.permutation(len(own))
    # Options in another order.
    place = np.argsort(order)
    moved = Answers(answers.score[:, order], place[answers.label])
    assert class_values(moved) == pytest.approx(own[order], abs=1e-9)
    # Rows in another order.
    rows = random.permutation(len(answers.label))
    assert class_values(Answers(answers.score[rows], answers.label[rows])) == pytest.approx(own, abs=1e-9)
    # Of two options, a number of its own added to each row.
    two = random_answers(seed, options=2)
    shifted = Answers(two.score + random.integers(-3, 4, size=(len(two.label), 1)), two.label)
    assert class_values(shifted) == pytest.approx(class_values(two), abs=1e-9)


def test_more_than_two_options_feel_a_constant_a_row():
    # 2 (L_c + k) - sum (L_j + k) = s_c + (2 - C) k: known of the published metric, so logits are taken as they are.
    score = np.array([[1.0, 0, 0], [0.9, 0, 0], [0, 1, 0], [0, 0, 1]])
    label = np.array([0, 1, 1, 2])
    shifted = score + np.array([[5.0], [0], [0], [0]])
    assert class_values(Answers(score, label)) != pytest.approx(class_values(Answers(shifted, label)))


def test_both_classes_of_a_binary_task_agree_except_at_one_half():
    score = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    uneven = class_values(Answers(score, np.array([0, 1, 0, 0])))
    assert uneven[0] == pytest.approx(uneven[1])
    even = class_values(Answers(score, np.array([1, 0, 0, 1])))
    assert even[0] != pytest.approx(even[1])


def test_a_class_without_rows_is_an_error():
    with pytest.raises(ValueError, match="option 2 has none or all of 2 rows"):
        minority_aupr(Answers(np.zeros((2, 3)), np.array([0, 1])))
    with pytest.raises(ValueError, match="option 0 has none or all"):
        minority_aupr(Answers(np.zeros((3, 2)), np.array([0, 0, 0])))
    assert missing(np.array([0, 1]), 4) == [2, 3]
    assert missing(np.array([0, 0]), 2) == [0, 1]


def test_the_margin_is_over_the_options_given():
    assert margin(np.array([[0.2, 0.3, 0.5]])) == pytest.approx(np.array([[-0.6, -0.4, 0.0]]))
    half = np.array([True, False])
    assert minority(np.array([1.0, 2.0]), half)[1].tolist() == [True, False]


@given(st.integers(0, 10**6))
def test_weights_are_rows_that_stand_there_more_often(seed):
    score, label = random_answers(seed, options=2)
    random = np.random.default_rng(seed)
    times = random.integers(0, 4, size=(len(label), 3))
    found = weighted_precision(score[:, 1], label == 1, times.astype(float))
    for own, column in zip(found, times.T, strict=True):
        repeated = np.repeat(np.arange(len(label)), column)
        if (label[repeated] == 1).any():
            assert own == pytest.approx(average_precision(score[repeated, 1], label[repeated] == 1))
        else:
            assert np.isnan(own)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_accuracy_and_f1_equal_scikit_learn(seed):
    random = np.random.default_rng(seed)
    options = int(random.integers(2, 6))
    label = np.concatenate([np.arange(options), random.integers(options, size=20)])
    chosen = random.integers(options, size=len(label))
    assert balanced_accuracy(chosen, label, options) == pytest.approx(balanced_accuracy_score(label, chosen))
    assert macro_f1(chosen, label, options) == pytest.approx(f1_score(label, chosen, average="macro"))


def test_calibration_error_by_hand():
    # Two rows at 0.9 and two sure ones fall into one bin of ten: 3 of 4 are right, the mean confidence is 0.95.
    confidence = np.array([0.9, 0.9, 1.0, 1.0])
    right = np.array([True, False, True, True])
    assert calibration_error(confidence, right, bins=10) == pytest.approx(0.2)
    assert calibration_error(np.array([0.9, 0.9, 0.05, 0.05]), right, bins=10) == pytest.approx((0.8 + 1.9) / 4)
    assert calibration_error(np.array([0.9, 0.9]), right[:2], bins=10) == pytest.approx(0.4)


@pytest.mark.parametrize(("counts", "options"), [((3, 11), 2), ((1, 4), 2), ((2, 5, 6), 3)])
def test_luck_is_the_mean_over_random_orders(counts, options):
    label = np.repeat(np.arange(options), counts)
    draw = np.random.default_rng(0)
    values = [
        np.mean(
            [
                average_precision(*minority(draw.permutation(len(label)).astype(float), label == at))
                for at in range(options)
            ]
        )
        for _ in range(3000)
    ]
    assert luck(label, options) == pytest.approx(np.mean(values), abs=4 * np.std(values) / 3000**0.5)
    assert luck(label, options) > chance(label, options)
