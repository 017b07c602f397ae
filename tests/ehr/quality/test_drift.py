"""Unit drift: units are found, other populations are not, spreads are those of sorted values."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.events import EVENTS
from ehr.quality import drift as d
from ehr.vocabulary import Settings, Vocabulary, count, merge


def events(**values):
    """Return EVENTS of values by code, one patient each."""
    rows = [(at, None, code, float(value), None) for code, held in values.items() for at, value in enumerate(held)]
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


def spread(**values):
    return d.spread_of_counts(merge([count(events(**values))]))


WEIGHTS = np.random.default_rng(0).normal(80, 15, 2000)


@pytest.mark.parametrize(
    ("factor", "found"), [(2.2046, 1), (1 / 2.2046, 1), (2.54, 1), (18, 1), (1 / 88.57, 1), (1, 0), (1.15, 0), (0.9, 0)]
)
def test_units_drift_and_populations_do_not(factor, found):
    measure = d.drifted(spread(A=WEIGHTS), spread(A=WEIGHTS[:500] * factor), least=200, factor=1.8)
    assert measure == (found, 1, "A" if found else "")


def test_celsius_and_fahrenheit():
    celsius = np.random.default_rng(1).normal(37, 0.6, 1000)
    assert d.drifted(spread(A=celsius), spread(A=celsius * 1.8 + 32), least=200, factor=1.8).found == 1


def test_wide_values_may_move_within_their_middle():
    # Counts of a skewed test: the median triples, and stays among usual values.
    skewed = np.random.default_rng(2).lognormal(0, 2, 2000)
    assert d.drifted(spread(A=skewed), spread(A=skewed * 3), least=200, factor=1.8).found == 0


def test_medians_at_zero_have_no_ratio():
    held = spread(A=np.linspace(-1, 1, 500))
    assert d.drifted(held, spread(A=np.linspace(4, 6, 500)), least=200, factor=1.8).found == 1
    assert d.drifted(held, spread(A=np.linspace(-0.5, 1, 500)), least=200, factor=1.8).found == 0
    below = spread(A=np.linspace(-3, -2, 500))
    assert d.drifted(below, spread(A=np.linspace(2, 3, 500)), least=200, factor=1.8).found == 1


def test_few_values_and_codes_of_one_side_are_not_compared():
    far = WEIGHTS * 10
    assert d.drifted(spread(A=WEIGHTS), spread(A=far[:199]), least=200, factor=1.8).of == 0
    assert d.drifted(spread(A=WEIGHTS[:199]), spread(A=far), least=200, factor=1.8).of == 0
    assert d.drifted(spread(A=WEIGHTS), spread(B=far), least=200, factor=1.8).of == 0
    assert d.drifted(spread(A=WEIGHTS), spread(A=far[:200]), least=200, factor=1.8) == (1, 1, "A")


def test_the_first_three_codes_are_named():
    codes = ("D", "B", "A", "C")
    found = d.drifted(
        spread(**dict.fromkeys(codes, WEIGHTS)), spread(**dict.fromkeys(codes, WEIGHTS * 3)), least=200, factor=1.8
    )
    assert found == (4, 4, "A, B, C")


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60))
def test_spreads_are_those_of_sorted_values(values):
    ordered = sorted(values)
    found = spread(A=values).row(0, named=True)
    for name, share in (("low", 0.1), ("middle", 0.5), ("high", 0.9)):
        # The smallest value with so many at or below it.
        assert found[name] == next(v for at, v in enumerate(ordered, 1) if at >= share * len(ordered) - 1e-9)
    assert found["valued"] == len(values)


def test_bins_of_a_vocabulary_tell_the_spread_too():
    counts = merge([count(events(A=WEIGHTS, B=[7.0] * 300))])
    vocabulary = Vocabulary.fit(counts, Settings(min_patients=1))
    frozen = d.spread_of_cuts(vocabulary.cuts)
    # A code whose values are all alike has one bin, and no spread.
    assert frozen["code"].to_list() == ["A"]
    np.testing.assert_allclose(frozen.row(0)[2:], d.spread_of_counts(counts).row(0)[2:], rtol=0.02)
    assert d.drifted(frozen, spread(A=WEIGHTS * 2.2), least=200, factor=1.8).found == 1
    assert d.drifted(frozen, spread(A=WEIGHTS[:400]), least=200, factor=1.8).found == 0
