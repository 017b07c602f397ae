"""Plausible ranges: both ends are plausible still, others' codes are nobody's business."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.quality.plausibility import RANGES, implausible


def count(*rows, **ranges):
    frame = pl.DataFrame(rows, schema={"code": pl.String, "numeric_value": pl.Float32}, orient="row")
    return implausible(frame, **ranges), implausible(frame.with_columns(pl.col("code").cast(pl.Categorical)), **ranges)


@pytest.mark.parametrize("code", RANGES)
def test_both_ends_are_plausible_and_what_lies_beyond_is_not(code):
    low, high = RANGES[code]
    assert low < high
    width = high - low
    assert count((code, low), (code, high), (code, None), (code, low - width), (code, high + width)) == (2, 2)


@given(st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.none() | st.integers(-5, 5).map(float)), max_size=20))
def test_counts_are_those_of_a_loop(rows):
    ranges = {"A": (-1.0, 1.0), "B": (0.0, 3.0)}
    outside = sum(v is not None and c in ranges and not ranges[c][0] <= v <= ranges[c][1] for c, v in rows)
    assert count(*rows, ranges=ranges) == (outside, outside)
