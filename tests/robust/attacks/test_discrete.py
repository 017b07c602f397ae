"""Edits of codes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust.attacks.discrete import NONE, CodeAttack, Edits, random_edits

COUNT = 4


def table(seed, number=24):
    draw = np.random.default_rng(seed)
    return Edits(
        draw.integers(0, COUNT - 1, number),  # the last example has none
        draw.integers(0, 5, number),
        draw.integers(0, 3, number),
        draw.integers(0, 50, number),
        draw.random(number),
    )


def score_of(edits, seed, asked=None):
    """What edits gain: their sum, and what pairs of them add."""
    draw = np.random.default_rng(seed + 1)
    alone = draw.normal(size=len(edits.example))
    pairs = 0.3 * draw.normal(size=(len(alone), len(alone)))

    def score(example, picks):
        if asked is not None:
            asked.append(len(picks))
        gains = []
        for chosen in picks:
            own = chosen[chosen != NONE]
            gains.append(alone[own].sum() + sum(pairs[a, b] for a, b in itertools.combinations(sorted(own), 2)))
        return np.array(gains)

    return score


@settings(max_examples=20)
@given(st.integers(0, 500), st.integers(1, 4), st.booleans())
def test_budgets_candidates_and_positions_are_kept(seed, budget, limited):
    edits = table(seed)
    most = np.array([1, 0, 2, 5]) if limited else None
    found = CodeAttack(budget=budget, top=6, beam=2).search(score_of(edits, seed), edits, COUNT, most=most)
    assert found.gain.shape == (COUNT, budget + 1)
    assert (np.diff(found.gain, axis=1) >= 0).all()
    for example in range(COUNT):
        for allowed in range(budget + 1):
            picks = found.picks[example, allowed]
            chosen = picks[picks != NONE]
            assert len(chosen) <= min(allowed, budget if most is None else most[example])
            assert (edits.example[chosen] == example).all()
            assert len(np.unique(edits.position[chosen])) == len(chosen)
            again = score_of(edits, seed)(np.array([example]), picks[None])
            assert found.gain[example, allowed] == pytest.approx(again[0])
    assert (found.gain[COUNT - 1] == 0).all()


@settings(max_examples=20)
@given(st.integers(0, 200))
def test_a_wide_beam_is_exhaustive_search(seed):
    edits = table(seed, 12)
    score = score_of(edits, seed)
    found = CodeAttack(budget=2, top=12, beam=12).search(score, edits, COUNT)
    for example in range(COUNT):
        own = np.flatnonzero(edits.example == example)
        choices = [(), *[(a,) for a in own]]
        choices += [(a, b) for a, b in itertools.combinations(own, 2) if edits.position[a] != edits.position[b]]
        picks = np.array([[*choice, *[NONE] * (2 - len(choice))] for choice in choices])
        best = score(np.full(len(picks), example), picks).max()
        assert found.gain[example, 2] == pytest.approx(best)


def test_the_attack_does_more_than_random_edits():
    gain = {"attack": 0.0, "random": 0.0}
    for seed in range(20):
        edits = table(seed)
        score = score_of(edits, seed)
        gain["attack"] += CodeAttack(budget=3).search(score, edits, COUNT).gain[:, 3].sum()
        gain["random"] += random_edits(score, edits, COUNT, budget=3, seed=seed).gain[:, 3].sum()
    assert gain["attack"] > gain["random"] + 10


def test_saliency_spares_questions():
    edits, asked, spared = table(3), [], []
    blind = CodeAttack(budget=1, top=2).search(score_of(edits, 3, asked), edits, COUNT)
    value = score_of(edits, 3)(edits.example, np.arange(len(edits.example))[:, None])
    guided = CodeAttack(budget=1, top=2).search(score_of(edits, 3, spared), edits, COUNT, saliency=value)
    assert np.array_equal(blind.gain, guided.gain)
    assert sum(asked) == blind.asked.sum()
    assert sum(spared) == guided.asked.sum() < sum(asked)


def test_random_edits_are_candidates_and_repeat():
    edits = table(5)
    found = random_edits(score_of(edits, 5), edits, COUNT, budget=3, seed=7, most=np.array([3, 1, 0, 3]))
    for example, most in enumerate([3, 1, 0, 3]):
        picks = found.picks[example, 3]
        chosen = picks[picks != NONE]
        assert len(chosen) <= most
        assert (edits.example[chosen] == example).all()
        assert len(np.unique(edits.position[chosen])) == len(chosen)
    again = random_edits(score_of(edits, 5), edits, COUNT, budget=3, seed=7, most=np.array([3, 1, 0, 3]))
    assert np.array_equal(found.picks, again.picks)


def test_no_examples_and_no_edits_pass():
    nothing = Edits(*(np.zeros(0, dtype=np.int64) for _ in range(4)), np.zeros(0))
    score = score_of(nothing, 0)
    assert CodeAttack(budget=2).search(score, nothing, 0).gain.shape == (0, 3)
    found = CodeAttack(budget=2).search(score, nothing, 3)
    assert (found.gain == 0).all()
    assert (found.picks == NONE).all()
    with pytest.raises(ValueError, match="code attack"):
        CodeAttack(budget=0)
