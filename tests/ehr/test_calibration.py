"""Calibration: closed cases, scikit-learn, what never may happen to the order of patients."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr import calibration as c


def drawn(n, true, seed=0, horizons=1):
    """Return logits [n, 1, horizons] and labels drawn from sigmoid(true(z))."""
    draw = np.random.default_rng(seed)
    z = draw.normal(-2, 1.5, (n, 1, horizons))
    y = (draw.random(z.shape) < c.sigmoid(true(z))).astype(np.float32)
    return z.astype(np.float32), y


def test_identity_leaves_logits():
    z = np.linspace(-40, 40, 12, dtype=np.float32).reshape(3, 4, 1)
    np.testing.assert_allclose(c.apply(c.identity(4), z), 1 / (1 + np.exp(-z.astype(float))), rtol=1e-6)


def test_platt_finds_a_known_line():
    z, y = drawn(40_000, lambda z: 0.5 * z + 1, seed=1)
    slope, intercept = c.platt(z.ravel().astype(float), y.ravel().astype(float))
    assert slope == pytest.approx(0.5, abs=0.03)
    assert intercept == pytest.approx(1, abs=0.06)


def test_platt_is_penalised_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    z, y = (part.ravel().astype(float) for part in drawn(400, lambda z: 2 * z, seed=2))
    held = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[:, None], y)
    slope, intercept = c.platt(z, y)
    # The prior of one standard deviation moves a fit on 400 samples by less than its standard error.
    assert slope == pytest.approx(held.coef_[0, 0], rel=0.05)
    assert intercept == pytest.approx(held.intercept_[0], abs=0.1)
    eps = 1e-4

    def loss(a, b):
        eta = a * z + b
        return (np.logaddexp(0, eta) - y * eta).sum() + (a - 1) ** 2 / 2 + b**2 / 18

    for da, db in ((eps, 0), (-eps, 0), (0, eps), (0, -eps)):
        assert loss(slope + da, intercept + db) > loss(slope, intercept)


@pytest.mark.parametrize("positives", [0, 9, 991, 1000])
def test_too_few_of_a_kind_leave_the_identity(positives):
    z = np.random.default_rng(3).normal(size=(1000, 1, 1))
    y = np.zeros((1000, 1, 1))
    y[:positives] = 1
    fitted = c.fit(z, y)
    assert (fitted.slope[0], fitted.intercept[0]) == (1, 0)
    assert (fitted.widths == 0).all()


def test_ten_positives_move_it():
    z = np.random.default_rng(3).normal(size=(1000, 1, 1))
    y = np.zeros((1000, 1, 1))
    y[:10] = 1
    assert c.fit(z, y).intercept[0] < -2


def test_a_model_that_is_upside_down_keeps_its_order():
    z, y = drawn(3000, lambda z: -z, seed=4)
    y[:, 0, 0][np.flatnonzero(y.ravel())[450:]] = 0
    fitted = c.fit(z, y)
    assert fitted.slope[0] == pytest.approx(c.FLAT)
    assert c.apply(fitted, z).mean() == pytest.approx(y.mean(), abs=0.01)


def test_perfect_separation_stays_finite():
    z = np.r_[np.full(50, -1000.0), np.full(50, 1000.0)].reshape(-1, 1, 1)
    fitted = c.fit(z, (z > 0).astype(float))
    assert np.isfinite(fitted.slope).all()
    assert 0 < fitted.slope[0] < 10


def test_isotonic_mends_what_no_line_can():
    def bent(z):
        return np.where(z > -1, 0.3 * z - 0.2, 1.5 * z + 1)

    z, y = drawn(60_000, bent, seed=5)
    fitted = c.fit(z, y)
    assert (fitted.widths > 0).any()
    true = c.sigmoid(bent(z.astype(float)))
    slope, intercept = c.platt(z.ravel().astype(float), y.ravel().astype(float))
    line = c.sigmoid(slope * z.astype(float) + intercept)
    assert np.abs(c.apply(fitted, z) - true).mean() < 0.5 * np.abs(line - true).mean()
    assert np.abs(c.apply(fitted, z) - true).mean() < 0.01


def test_isotonic_follows_scikit_learn_in_the_mean():
    from sklearn.isotonic import IsotonicRegression

    z, y = drawn(30_000, lambda z: np.tanh(z), seed=6)
    held = IsotonicRegression(out_of_bounds="clip").fit_transform(z.ravel(), y.ravel())
    assert np.abs(c.apply(c.fit(z, y), z).ravel() - held).mean() < 0.02


def test_many_equal_logits():
    z = np.round(np.random.default_rng(7).normal(size=(8000, 1, 1)) * 2) / 2
    y = (np.random.default_rng(8).random(z.shape) < c.sigmoid(z)).astype(float)
    fitted = c.fit(z, y)
    p = c.apply(fitted, z).ravel()
    for value in (-1.0, 0.0, 1.0):
        at = z.ravel() == value
        assert p[at].mean() == pytest.approx(y.ravel()[at].mean(), abs=0.03)


def test_constant_logits_give_the_prevalence():
    y = (np.arange(5000) % 5 == 0).astype(float).reshape(-1, 1, 1)
    assert c.apply(c.fit(np.zeros_like(y), y), np.zeros((1, 1, 1)))[0, 0, 0] == pytest.approx(0.2, abs=0.005)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(40, 4000), st.floats(0.1, 4), st.floats(-4, 2), st.booleans())
def test_the_map_always_rises_and_survives_json(seed, n, scale, shift, rounded):
    draw = np.random.default_rng(seed)
    z = draw.normal(0, scale, (n, 2, 2)) + shift
    z = np.round(z) if rounded else z
    y = np.where(draw.random(z.shape) < 0.2, np.nan, draw.random(z.shape) < c.sigmoid(np.sin(z) + shift))
    fitted = c.fit(z, y)
    grid = np.sort(np.r_[z.ravel(), draw.normal(0, 10, 200)])
    p = c.apply(fitted, np.repeat(grid[:, None, None], 2, 1))[:, :, 0]
    assert (np.diff(p, axis=0) >= 0).all()
    logit = grid[:, None] * fitted.slope + fitted.intercept
    logit = logit + sum(fitted.slopes[:, j] * np.clip(grid[:, None] - fitted.knots[:, j], 0, fitted.widths[:, j])
                        for j in range(fitted.knots.shape[1]))  # fmt: skip
    assert (np.diff(logit, axis=0) >= 0).all()
    read = c.from_json(json.loads(json.dumps(c.to_json(fitted))))
    for a, b in zip(fitted, read, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype == np.float32


def test_pieces_fit_the_graph():
    z, y = drawn(200_000, lambda z: z, seed=9)
    fitted = c.fit(z, y)
    assert fitted.knots.shape[1] < 64
    assert np.abs(c.apply(fitted, z) - c.sigmoid(z.astype(float))).max() < 0.05


def test_probabilities_never_fall_with_the_horizon():
    z = np.random.default_rng(10).normal(size=(100, 2, 4)).astype(np.float32)
    p = c.apply(c.identity(2), z)
    assert (np.diff(p, axis=2) >= 0).all()
    np.testing.assert_allclose(p[:, :, 1], c.sigmoid(z[:, :, :2].astype(float).max(2)), rtol=1e-6)


def test_horizons_share_one_map_and_gaps_count_nothing():
    z, y = drawn(2000, lambda z: 0.6 * z, seed=11, horizons=2)
    y[:, :, 1] = np.nan
    z[:, :, 1] = np.nan
    one, both = c.fit(z[:, :, :1], y[:, :, :1]), c.fit(z, y)
    for a, b in zip(one, both, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("logit", "label"),
    [
        (np.zeros((3, 1, 1)), np.zeros((2, 1, 1))),
        (np.zeros((3, 1)), np.zeros((3, 1))),
        (np.full((3, 1, 1), np.inf), np.zeros((3, 1, 1))),
        (np.zeros((3, 1, 1)), np.full((3, 1, 1), 2.0)),
    ],
)
def test_fit_refuses(logit, label):
    with pytest.raises(ValueError, match="calibration"):
        c.fit(logit, label)


def broken():
    good = c.to_json(c.identity(2))
    yield []
    yield {key: value for key, value in good.items() if key != "knots"}
    yield {**good, "more": []}
    for change in (
        {"slope": [1.0]},
        {"slope": [1.0, -1.0]},
        {"slope": [1.0, 0.0]},
        {"slope": [1.0, "x"]},
        {"slope": [1.0, None]},
        {"slope": [1.0, float("nan")]},
        {"intercept": [0.0, 1e300]},
        {"widths": [[0.0], [-1.0]]},
        {"knots": [[0.0], [0.0, 1.0]]},
        {"knots": [[], []], "widths": [[], []], "slopes": [[], []]},
        {"widths": [[0.0], [1.0]], "slopes": [[0.0], [-2.0]]},
        {name: [[0.0, 1.0], [0.0, 1.0]] for name in ("knots",)},
        {"knots": [[0.0, 0.5]] * 2, "widths": [[1.0, 1.0]] * 2, "slopes": [[1.0, 1.0]] * 2},
    ):
        yield {**good, **change}


@pytest.mark.parametrize("content", list(broken()))
def test_from_json_refuses(content):
    with pytest.raises(ValueError, match=r"^calibration\.json: [^\n]+$"):
        c.from_json(content)
