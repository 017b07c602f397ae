"""Measures against scikit-learn and closed forms; resamples against plain repetition of samples."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from ehr.metrics import curves
from ehr.metrics.measures import BINS, METRICS, Answers, mass_bins, measure
from ehr.metrics.resampling import draw, interval
from ehr.metrics.scores import SCORES, row, slot, table

ONCE = np.ones((400, 1), dtype=np.uint8)


@st.composite
def answers(draw_from, levels=None):
    """Scores with many ties, both classes, several samples a patient."""
    seed = draw_from(st.integers(0, 2**32 - 1))
    count = draw_from(st.integers(2, 120))
    steps = levels or draw_from(st.sampled_from([2, 3, 7, 1000]))
    random = np.random.default_rng(seed)
    label = np.zeros(count, dtype=bool)
    label[: draw_from(st.integers(1, count - 1))] = True
    probability = (random.integers(0, steps, count) + 0.5) / steps
    return Answers(probability, label, np.sort(random.integers(0, 30, count)))


def typical(count=3000, seed=0, slope=1.0):
    random = np.random.default_rng(seed)
    z = random.normal(-2, 1.2, count)
    label = random.random(count) < 1 / (1 + np.exp(-slope * z))
    return Answers(1 / (1 + np.exp(-z)), label, np.arange(count) // 8)


@settings(deadline=None)
@given(answers())
def test_ranking_equals_scikit_learn_with_ties(given_answers):
    found = measure(given_answers, ONCE)
    label, probability = given_answers.label, given_answers.probability
    assert found["auroc"][0] == pytest.approx(roc_auc_score(label, probability), abs=1e-12)
    assert found["auprc"][0] == pytest.approx(average_precision_score(label, probability), abs=1e-12)
    assert found["brier"][0] == pytest.approx(brier_score_loss(label, probability), abs=1e-12)
    assert found["lift"][0] == pytest.approx(found["auprc"][0] / label.mean())


@settings(deadline=None, max_examples=50)
@given(answers(), st.integers(0, 1000))
def test_a_resample_is_its_samples_repeated(given_answers, seed):
    weight = np.random.default_rng(seed).integers(0, 4, (30, 5)).astype(np.uint8)
    found = measure(given_answers, np.concatenate([np.ones((30, 1), np.uint8), weight], 1))
    for b in range(5):
        times = weight[given_answers.place, b]
        label, probability = np.repeat(given_answers.label, times), np.repeat(given_answers.probability, times)
        if 0 < label.sum() < len(label):
            assert found["auroc"][1 + b] == pytest.approx(roc_auc_score(label, probability), abs=1e-12)
            assert found["auprc"][1 + b] == pytest.approx(average_precision_score(label, probability), abs=1e-12)
            assert found["brier"][1 + b] == pytest.approx(brier_score_loss(label, probability), abs=1e-12)
        else:
            assert np.isnan(found["auroc"][1 + b])


@settings(deadline=None, max_examples=50)
@given(answers())
def test_curves_equal_scikit_learn(given_answers):
    probability, label = given_answers.probability, given_answers.label
    false, true = curves.roc(probability, label)
    x, y, _ = roc_curve(label, probability, drop_intermediate=False)
    assert np.allclose(false, x)
    assert np.allclose(true, y)
    recall, precision = curves.precision_recall(probability, label)
    p, r, _ = precision_recall_curve(label, probability)
    assert np.allclose(recall, r[-2::-1])
    assert np.allclose(precision, p[-2::-1])


def test_net_benefit_is_its_definition():
    held = typical()
    for threshold in (0.01, 0.1, 0.3, held.probability[5]):
        called = held.probability >= threshold
        true, false = (called & held.label).sum(), (called & ~held.label).sum()
        expected = (true - false * threshold / (1 - threshold)) / len(held.label)
        found = curves.net_benefit(held.probability, held.label, np.array([threshold]))
        assert found[0] == pytest.approx(expected, abs=1e-12)
    assert curves.net_benefit(held.probability, held.label, np.array([0.9999]))[0] == 0


def test_calibration_equals_scikit_learn_without_penalty():
    held = typical(slope=0.6)
    z = np.log(held.probability / (1 - held.probability))
    found = measure(held, np.ones((375, 1), np.uint8))
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[:, None], held.label)
    assert found["calibration_slope"][0] == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
    # The intercept makes expected and observed events equal.
    shifted = 1 / (1 + np.exp(-z - found["calibration_intercept"][0]))
    assert shifted.sum() == pytest.approx(held.label.sum(), abs=1e-6)


def test_one_step_is_close_to_a_fit_of_the_resample():
    held = typical(slope=0.8)
    draws = draw(held.place, held.label, resamples=20, seed=3)
    found = measure(held, draws.weight)
    for b in range(1, 21):
        weight = draws.weight[held.place, b].astype(float)
        z = np.log(held.probability / (1 - held.probability))
        fitted = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(z[:, None], held.label, weight)
        assert found["calibration_slope"][b] == pytest.approx(fitted.coef_[0, 0], abs=0.02)


def test_calibration_error_is_its_definition_and_bins_keep_ties_together():
    held = typical()
    bins = mass_bins(held.probability)
    gaps = [abs((held.probability[bins == b] - held.label[bins == b]).sum()) / len(held.label) for b in range(BINS)]
    assert measure(held, np.ones((375, 1), np.uint8))["ece"][0] == pytest.approx(sum(gaps), abs=1e-12)
    tied = np.repeat([0.1, 0.2, 0.3], [1000, 10, 10])
    assert all(len(set(mass_bins(tied)[tied == value])) == 1 for value in (0.1, 0.2, 0.3))


def test_reliability_covers_every_sample():
    held = typical()
    found = curves.reliability(held.probability, held.label)
    assert len(found.expected) == 10
    assert np.all(np.diff(found.expected) > 0)
    assert np.all((found.lower <= found.observed) & (found.observed <= found.upper))


def test_thin_keeps_the_ends_and_the_shape():
    false, true = curves.roc(typical(20_000).probability, typical(20_000).label)
    x, y = curves.thin(false, true, 100)
    assert len(x) <= 100
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(false, x, y) - true).max() < 0.02


def test_draws_keep_strata_and_seeds():
    subject = np.repeat(np.arange(50), 3)
    positive = subject < 8
    first, again = (draw(subject, positive, resamples=40, seed=5) for _ in range(2))
    assert np.array_equal(first.weight, again.weight)
    assert not np.array_equal(first.weight, draw(subject, positive, resamples=40, seed=6).weight)
    assert (first.weight[:, 0] == 1).all()
    assert (first.weight[:8].sum(0) == 8).all()
    assert (first.weight[8:].sum(0) == 42).all()


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Patients with several, correlated samples: the truth is the AUROC of two normals one apart.
    truth, covered, trials = 0.7602, 0, 120
    random = np.random.default_rng(11)
    for _ in range(trials):
        frail = np.repeat(random.random(150) < 0.3, 4)
        shared = np.repeat(random.normal(size=150), 4)
        z = frail + 0.8 * shared + 0.6 * random.normal(size=600)
        place = np.repeat(np.arange(150), 4)
        held = Answers(1 / (1 + np.exp(-z)), frail, place)
        _, lower, upper = interval(measure(held, draw(place, frail, resamples=200, seed=1).weight)["auroc"])
        covered += lower <= truth <= upper
    assert 0.88 <= covered / trials <= 0.99


def test_centred_intervals_hold_their_value():
    value, lower, upper = interval(np.array([0.004, 0.006, 0.008, 0.010, 0.012]), centred=True)
    assert value == 0.004
    assert upper - 0.004 == pytest.approx(0.004 - lower)
    assert row(np.array([0.004, 0.006, 0.008, 0.010, 0.020]), "ece")[1] == 0
    assert row(np.array([0.004, 0.006, 0.008, 0.010, 0.020]), "auprc_over_noise")[1] < 0


def test_intervals_of_auprc_lie_about_the_truth():
    # Patients drawn twice stand beside themselves, so that resamples are more precise than cohorts.
    truth, trials, missed, plainly = 0.0271, 100, 0, 0
    random, place = np.random.default_rng(4), np.arange(1500)
    for seed in range(trials):
        label = random.random(1500) < 0.02
        held = Answers(1 / (1 + np.exp(-random.normal(size=1500) - 0.3 * label)), label, place)
        found = measure(held, draw(place, label, resamples=100, seed=seed).weight)["auprc"]
        plainly += truth < np.percentile(found[1:], 2.5)
        value, lower, upper = row(found, "auprc")
        assert lower < value < upper
        missed += not lower <= truth <= upper
    # Thirty positives are few: it misses more often than it says, but less than the percentiles as they are.
    assert missed <= 12
    assert plainly > 15


def questions(resamples=50):
    held = typical()
    label = np.where(np.random.default_rng(1).random(3000) < 0.1, np.nan, held.label.astype(np.float32))
    rare = np.full(3000, 0.0)
    rare[:9] = 1
    noise = np.random.default_rng(2).random(3000)
    draws = draw(held.place, held.label, resamples=resamples, seed=0)
    models = {"ours": held.probability, "noise": noise}
    slots = [
        slot(name, 365, column, models, draws.places(held.place), draws)
        for name, column in (("common", label), ("rare", rare))
    ]
    return slots, table(slots, ["ours", "noise"])


def test_scores_hold_every_metric_and_nothing_for_few_positives():
    _, scores = questions()
    assert scores.schema == SCORES
    common = scores.filter(outcome="common", model="ours")
    assert set(METRICS) | {"auroc_over_noise", "auprc_over_noise"} == set(common["metric"])
    assert common["value"].null_count() == 0
    known = np.random.default_rng(1).random(3000) >= 0.1
    assert common["count"][0] == known.sum()
    assert common["positives"][0] == typical().label[known].sum()
    rare = scores.filter(outcome="rare")
    assert rare["value"].null_count() == len(rare)
    assert rare["positives"].unique().to_list() == [9]


def test_differences_are_paired_and_macro_is_the_mean_of_what_is_estimable():
    _, scores = questions()
    value = {(row["model"], row["outcome"], row["metric"]): row for row in scores.iter_rows(named=True)}
    gain = value["ours", "common", "auroc_over_noise"]
    parts = [value[model, "common", "auroc"]["value"] for model in ("ours", "noise")]
    assert gain["value"] == pytest.approx(parts[0] - parts[1])
    assert gain["lower"] > 0
    assert value["ours", "macro", "auroc"]["value"] == pytest.approx(parts[0])
    assert value["ours", "macro", "auroc_over_noise"]["value"] == pytest.approx(gain["value"])


def test_a_model_against_itself_differs_by_nothing():
    held = typical()
    draws = draw(held.place, held.label, resamples=30, seed=0)
    models = {"a": held.probability, "b": held.probability}
    slots = [slot("x", 1, held.label.astype(float), models, draws.places(held.place), draws)]
    gain = table(slots, ["a", "b"]).filter(pl.col("metric").str.contains("_over_"))
    assert (gain["value"] == 0).all()
    assert (gain["lower"] == 0).all()
    assert (gain["upper"] == 0).all()
