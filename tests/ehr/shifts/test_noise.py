"""Noise of training records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.shifts.noise import Facts, RecordNoise
from ehr.timelines import Sample

FACTS = Facts(np.arange(40) >= 30, np.arange(40) == 3)


def sample(subject, tokens):
    """Return two statics and codes in visits of three."""
    token = np.concatenate([[3, 4], 5 + np.arange(tokens) % 35]).astype(np.int32)
    visit = np.concatenate([[0, 0], 1 + np.arange(tokens) // 3]).astype(np.int32)
    age = np.concatenate([[0, 0], 9000 + 10 * (np.arange(tokens) // 3)]).astype(np.float32)
    return Sample(subject, 7, token, visit, age, float(age[-1] + 5))


@given(
    tokens=st.integers(0, 60),
    subject=st.integers(0, 2**31),
    epoch=st.integers(0, 5),
    codes=st.floats(0, 1),
    visits=st.floats(0, 1),
    sex=st.floats(0, 1),
)
def test_a_reading_is_a_part_of_the_record(tokens, subject, epoch, codes, visits, sex):
    noise = RecordNoise(clean=0.1, codes=codes, visits=visits, sex=sex, rare=0.5)
    given_, drawn = sample(subject, tokens), noise.noised(sample(subject, tokens), FACTS, seed=1, epoch=epoch)
    assert 0 < len(drawn.token) <= len(given_.token)
    pairs = list(zip(given_.visit, given_.token, strict=True))
    assert all(pair in pairs for pair in zip(drawn.visit, drawn.token, strict=True))
    assert (np.diff(drawn.visit) >= 0).all()
    shift = drawn.query_age_days - given_.query_age_days
    dated = drawn.visit > 0
    at = np.searchsorted(given_.visit, drawn.visit)
    assert np.allclose(drawn.age_days[dated], given_.age_days[at][dated] + shift, atol=1e-2)
    assert (drawn.age_days >= 0).all()
    again = noise.noised(sample(subject, tokens), FACTS, seed=1, epoch=epoch)
    assert np.array_equal(drawn.token, again.token)


def test_the_share_lost_is_the_share_asked_for():
    noise = RecordNoise(clean=0, codes=0.6, visits=0, rare=0, sex=0, age_years=0)
    kept = [len(noise.noised(sample(at, 300), FACTS, seed=0, epoch=0).token) - 2 for at in range(400)]
    # The share is uniform from 0 to 0.6.
    assert np.mean(kept) == pytest.approx(300 * 0.7, rel=0.03)
    assert np.std(kept) == pytest.approx(300 * 0.6 / 12**0.5, rel=0.1)


def test_what_each_setting_takes():
    off = {"clean": 0, "codes": 0, "visits": 0, "rare": 0, "sex": 0, "age_years": 0}
    whole = sample(5, 60)
    assert np.array_equal(RecordNoise(**off).noised(whole, FACTS, seed=0, epoch=0).token, whole.token)
    rare = RecordNoise(**{**off, "rare": 1}).noised(whole, FACTS, seed=0, epoch=0)
    assert not FACTS.rare[rare.token[rare.visit > 0]].any()
    assert 3 not in RecordNoise(**{**off, "sex": 1}).noised(whole, FACTS, seed=0, epoch=0).token
    for subject in range(20):
        lost = RecordNoise(**{**off, "visits": 1}).noised(sample(subject, 60), FACTS, seed=0, epoch=0)
        counts = np.bincount(lost.visit, minlength=21)
        assert set(counts[1:]) <= {0, 3}
        assert counts[20] == 3


def test_settings_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"noise.codes is 1.5; expected 0 to 1"):
        RecordNoise(codes=1.5)
    with pytest.raises(ValueError, match="age_years -1"):
        RecordNoise(age_years=-1)
