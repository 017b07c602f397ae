"""Source weights: against scikit-learn, and never fitted on what they answer."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipelines.rethink import sources
from pipelines.rethink.crossing import Crossing, crossed
from pipelines.rethink.polling import Poll
from pipelines.rethink.sources import Ballot, Fitted, choose, fit, logistic

SOURCES = ("a", "b", "c")


def drawn(number=200, seed=0):
    """Return truth and the votes of three sources, 85, 70 and 50 % right, one of them often silent."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(2, size=number)
    right = draw.random((number, 3)) < np.array([0.85, 0.7, 0.5])
    vote = np.where(right, 2 * truth[:, None] - 1, 1 - 2 * truth[:, None]).astype(float)
    vote[draw.random(number) < 0.3, 2] = 0
    return truth.astype(float), vote, right


def ballot(vote, support):
    said = np.abs(vote)
    return Ballot(vote, vote * support, said * support, said)


def test_logistic_matches_scikit_learn():
    truth, vote, _ = drawn()
    theirs = LogisticRegression(C=1 / 3.0, tol=1e-10, max_iter=1000).fit(vote, truth)
    ours = logistic(vote, truth, 3.0)
    np.testing.assert_allclose(ours, [*theirs.coef_[0], *theirs.intercept_], atol=1e-4)


def test_an_offset_is_what_a_weight_of_1_would_be():
    truth, vote, _ = drawn()
    held = logistic(vote[:, 1:], truth, 1e-8, vote[:, 0])
    gradient = np.hstack([vote[:, 1:], np.ones((len(truth), 1))]).T @ (
        truth - 1 / (1 + np.exp(-(vote[:, 1:] @ held[:-1] + held[-1] + vote[:, 0])))
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_gamma_0_is_source_weights_exactly():
    truth, vote, _ = drawn()
    noise = np.random.default_rng(1).random(vote.shape)
    plain = fit(ballot(vote, np.zeros_like(vote)), truth, penalty=1.0, gamma=0.0)
    held = fit(ballot(vote, noise), truth, penalty=1.0, gamma=0.0)
    assert (plain.score(ballot(vote, np.zeros_like(vote))) == held.score(ballot(vote, noise))).all()


def test_useful_support_is_chosen_and_useless_support_gains_nothing():
    truth, vote, right = drawn(600)
    draw = np.random.default_rng(2)
    useful = np.where(right, 0.6, 0.4) + 0.1 * draw.standard_normal(right.shape)
    assert choose(ballot(vote, useful), truth).gamma >= 1
    assert choose(ballot(vote, 0.5 + 0.1 * draw.standard_normal(right.shape)), truth).gamma <= 1


def test_support_alike_for_all_of_a_source_changes_nothing():
    truth, vote, _ = drawn()
    level = np.broadcast_to([0.2, 0.5, 0.9], vote.shape)
    held = fit(ballot(vote, level), truth, penalty=1.0, gamma=8.0)
    np.testing.assert_allclose(held.score(ballot(vote, level)), vote @ held.weight + held.intercept, atol=1e-9)


def test_content_comes_back_in_another_order_of_sources():
    truth, vote, _ = drawn()
    held = fit(ballot(vote, vote * 0.1), truth, penalty=1.0, gamma=0.5)
    mixed = Fitted.of(held.content(SOURCES), ("c", "a", "b"))
    order = [2, 0, 1]
    own = ballot(vote, vote * 0.1)
    np.testing.assert_allclose(mixed.score(Ballot(*(column[:, order] for column in own))), held.score(own))


def poll_of(vote):
    number = len(vote)
    question, source = np.divmod(np.arange(3 * number), 3)
    said = {1: "yes", -1: "no", 0: None}
    answers = tuple(said[int(value)] for value in vote.ravel())
    names = tuple(f"q{at}" for at in range(number))
    return Poll(names, SOURCES, ("yes", "no"), question, source, answers, np.ones(3 * number, dtype=np.int64))


def test_what_answers_a_question_was_fitted_without_it(monkeypatch):
    truth, vote, _ = drawn(60)
    words = ["yes" if value else "no" for value in truth]
    support = np.random.default_rng(3).random(180)
    settings = Crossing(repeats=1, bootstrap=10)
    fold = sources.folds_of(60, 5, 0)
    held = crossed("arm", poll_of(vote), words, support, settings)
    # The truths of one fold are turned over: the answers to that very fold must not move, others' must.
    turned = [("no" if word == "yes" else "yes") if fold[at] == 2 else word for at, word in enumerate(words)]
    other = crossed("arm", poll_of(vote), turned, support, settings)
    assert (held.score[fold == 2] == other.score[fold == 2]).all()
    assert (held.score[fold != 2] != other.score[fold != 2]).any()


def test_two_answers_are_needed():
    held = poll_of(np.ones((2, 3)))._replace(options=("a", "b", "c"))
    with pytest.raises(ValueError, match="3 possible answers"):
        crossed("arm", held, ["a", "b"], np.zeros(6), Crossing())
