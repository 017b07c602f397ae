"""Chances: those of scipy's hypergeometric distribution, and seldom small where nothing differs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from ehr.quality import noise
from ehr.quality.digest import Counts, Digest
from ehr.quality.noise import Question, chances, findings, questions

FAMILIES = {"code": "codes", "history": "records", "value": "values"}


@st.composite
def one(draw):
    """Return a question with any counts."""
    of, seen = draw(st.integers(1, 30_000)), draw(st.integers(1, 30_000))
    return Question("code", "a", 0.0, draw(st.integers(0, of)), of, draw(st.integers(0, seen)), seen)


def by_scipy(held):
    marked, total = held.below + held.seen_below, held.of + held.seen_of
    tails = (
        hypergeom.cdf(held.seen_below, total, marked, held.seen_of),
        hypergeom.sf(held.seen_below - 1, total, marked, held.seen_of),
    )
    return min(1.0, 2 * min(tails))


@settings(max_examples=40)
@given(st.lists(one(), min_size=1, max_size=8))
def test_chances_are_scipys(asked):
    found = chances(asked)
    for ours, held in zip(found, asked, strict=True):
        theirs = by_scipy(held)
        # Around the mean both tails may be over a half; which is doubled does not matter there.
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-290) or (ours > 0.9 and theirs > 0.9)


@given(st.integers(0, 3_000_000))
def test_factorials_are_those_of_the_gamma_function(n):
    from math import lgamma

    assert noise.log_factorial(np.array([n]))[0] == pytest.approx(lgamma(n + 1), rel=1e-12, abs=1e-12)


def test_by_hand():
    """2 and 0 of 2 each: both marked in one group has a chance of 1 in 6, on either side."""
    assert chances([Question("code", "a", 0.0, 2, 2, 0, 2)]) == pytest.approx([1 / 3])


def test_no_question_no_chance():
    assert len(chances([])) == 0
    assert findings([], FAMILIES) == []


def test_what_the_others_lack_is_nought_there():
    reference = Digest({("code", "a"): Counts((0.0,), (60, 40)), ("value", "v"): Counts((1.0,), (50, 50))}, 100)
    asked = questions(reference, Digest({}, 80))
    assert asked == [Question("code", "a", 0.0, 60, 100, 80, 80)]
    assert findings(asked, FAMILIES)[0].chance < 1e-8


def test_cuts_that_too_few_stand_apart_at_are_not_asked():
    reference = Digest({("history", "days"): Counts((0.0, 1.0), (2, 96, 2))}, 100)
    assert questions(reference, Digest({("history", "days"): Counts((0.0, 1.0), (1, 78, 1))}, 80)) == []


def test_families_share_the_chance():
    held = Question("code", "a", 0.0, 60, 100, 75, 80)
    alone = findings([held], FAMILIES)[0].chance
    beside = findings([held, held._replace(kind="history")], FAMILIES)
    assert [found.chance for found in beside] == pytest.approx([2 * alone] * 2)
    assert findings([held], FAMILIES, others=1)[0].chance == pytest.approx(2 * alone)
    crowd = [held, *(held._replace(name=f"b{i}", seen_below=48) for i in range(9))]
    assert findings(crowd, FAMILIES)[0].chance == pytest.approx(10 * alone)


def test_seldom_an_alarm_where_nothing_differs():
    """Of 100 pairs of groups from one population, with 40 codes each, at most 1 in 100 raises any."""
    random = np.random.default_rng(0)
    share = random.random(40) ** 2
    raised = 0
    for _ in range(100):
        counts = [
            {("code", f"c{i}"): Counts((0.0,), (n - k, k)) for i, k in enumerate(random.binomial(n, share).tolist())}
            for n in (2000, 150)
        ]
        asked = questions(Digest(counts[0], 2000), Digest(counts[1], 150))
        raised += findings(asked, FAMILIES)[0].chance <= 0.01
    # P(more than 5 of 100 at 1 %) is 5e-4.
    assert raised <= 5
