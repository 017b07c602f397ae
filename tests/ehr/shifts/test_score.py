"""Errors under shift."""

import numpy as np
import pytest

from ehr.metrics.resampling import draw
from ehr.shifts import score

PLACES = [(0, 0), (1, 0)]


@pytest.fixture
def asked():
    noise = np.random.default_rng(0)
    label = (noise.random((300, 2, 1)) < 0.2).astype(np.float32)
    label[:20, 1] = np.nan
    subject = np.arange(300)
    return label, subject, draw(subject, (label == 1).any((1, 2)), resamples=50, seed=0)


def passes(label, subject, draws, strengths):
    noise = np.random.default_rng(1).normal(size=label.shape)
    found = []
    for strength in strengths:
        logit = np.nan_to_num(label) * strength + noise
        found.append(score.measure(logit, label, PLACES, draws.places(subject), draws).auroc)
    return found


def test_a_model_beside_itself(asked):
    clean, *shifted = passes(*asked, (3, 2, 1, 0.5))
    own = {"lost": shifted, "moved": shifted[:1]}
    assert np.allclose(score.corruption_error(own, own), 1)
    assert score.relative_error((clean, own), (clean, own))["lost"] == (pytest.approx(1), True)
    whole = score.mean_excess(clean, own)
    byhand = np.mean([np.mean([clean - one for one in held], axis=0) for held in own.values()], axis=0)
    assert np.allclose(whole, byhand)
    assert whole[0] > 0
    assert (score.mean_excess(clean, {"none": [clean, clean]}) == 0).all()


def test_a_reference_that_loses_nothing_is_no_divisor(asked):
    clean, worse = passes(*asked, (3, 1))
    found = score.relative_error((clean, {"lost": [worse]}), (clean, {"lost": [clean]}))
    assert found["lost"] == (pytest.approx(float(clean[0] - worse[0])), False)


def test_few_positives_are_not_estimable(asked):
    label = asked[0].copy()
    label[:, 1, 0] = 0
    label[:9, 1, 0] = 1
    assert score.estimable(label, PLACES) == [(0, 0)]


def test_how_far_answers_move(asked):
    label = asked[0]
    clean = np.random.default_rng(2).random(label.shape).astype(np.float32)
    points = score.operating_points(clean, PLACES)
    assert (clean[:, 0, 0] > points[0, 0]).mean() == pytest.approx(0.1, abs=0.01)
    assert score.moved(clean, clean, label, points) == (0, 0, 0)
    other = score.moved(clean, 1 - clean, label, points)
    assert other.flips == pytest.approx(0.2, abs=0.01)
    assert other.shift > 0.9
