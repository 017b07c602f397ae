"""The common slope of many outcomes against scikit-learn's."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from tests.benchmarks.compress.distilled import pooled_slope


def test_it_is_that_of_logistic_regression_with_an_intercept_a_group():
    draws = np.random.default_rng(0)
    group = draws.integers(0, 4, 3000)
    logit = draws.normal(size=3000) + group - 2.0
    label = (draws.random(3000) < 1 / (1 + np.exp(-(0.7 * logit - 0.3 * group)))).astype(float)
    weight = draws.integers(0, 3, 3000).astype(float)
    design = np.column_stack([logit, np.eye(4)[group]])
    other = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    other.fit(design, label, sample_weight=weight)
    assert abs(pooled_slope(logit, label, group, weight) - other.coef_[0, 0]) < 1e-6


def test_a_file_that_says_twice_too_much_has_half_the_slope():
    draws = np.random.default_rng(1)
    logit, group = draws.normal(size=2000), draws.integers(0, 3, 2000)
    label, weight = (draws.random(2000) < 1 / (1 + np.exp(-logit))).astype(float), np.ones(2000)
    one, two = (pooled_slope(times * logit, label, group, weight) for times in (1.0, 2.0))
    assert abs(one - 2 * two) < 1e-6
