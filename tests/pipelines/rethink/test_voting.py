"""The vote: weights added up exactly, ties stated."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rethink.voting import clipped, credit, vote

answers = st.lists(st.sampled_from(["yes", "no", None]), min_size=1, max_size=15)
weight = st.floats(0, 10)


@given(answers)
def test_equal_weights_are_the_majority(held):
    found = vote(held, [1.0] * len(held), options=("yes", "no"))
    counted = Counter(answer for answer in held if answer)
    best = [answer for answer in ("no", "yes") if counted[answer] == max(counted["yes"], counted["no"])]
    assert list(found.tied) == best
    assert found.answer == (best[0] if len(best) == 1 else None)
    assert found.unparsed == held.count(None)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), weight), min_size=1, max_size=12), st.randoms())
def test_order_makes_and_breaks_no_tie(paths, random):
    mixed = random.sample(paths, len(paths))
    one, other = (vote([a for a, _ in held], [w for _, w in held]) for held in (paths, mixed))
    assert (one.answer, one.tied, dict(one.share)) == (other.answer, other.tied, dict(other.share))


def test_a_tie_that_plain_addition_would_break():
    # 0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1 in the last bit.
    found = vote(["yes"] * 3 + ["no"] * 3, [0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    assert found.tied == ("no", "yes")
    assert credit(found, "yes") == 0.5
    assert credit(found, "yes", ties="wrong") == 0
    assert vote(["yes", "no"], [1, 1], ties="first").answer == "yes"


@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), weight), min_size=1, max_size=12), st.floats(0, 5))
def test_more_support_never_lowers_an_answers_share(paths, more):
    answer, own = paths[0]
    before = vote([a for a, _ in paths], [w for _, w in paths])
    after = vote([a for a, _ in paths], [own + more, *(w for _, w in paths[1:])])
    if math.fsum(w for _, w in paths):
        assert after.share[answer] >= before.share[answer] - 1e-12


def test_nothing_stated_is_a_tie_of_all_options():
    found = vote([None, None], [1, 1], options=("yes", "no"))
    assert found == (None, ("no", "yes"), {"yes": 0.5, "no": 0.5}, 2)
    assert credit(found, "no") == 0.5
    assert vote([None], [1.0]).tied == ()
    assert credit(vote([None], [1.0]), "no") == 0


def test_weights_have_to_be_finite():
    with pytest.raises(ValueError, match="finite"):
        vote(["yes"], [float("nan")])
    assert clipped([-1.0, 2.0]) == [0, 2]
