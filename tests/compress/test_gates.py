"""Budgets of quality: held on means and on the worst, never on outcomes with too few positives."""

import math

import pytest

from compress.gates import Budget, Quality, check


def quality(*auroc, positives=50, name="outcome", **metrics):
    return [
        Quality(f"{name} {at}", positives, {"auroc": value, "auprc": 0.3, "brier": 0.1, "ece": 0.02, **metrics})
        for at, value in enumerate(auroc)
    ]


def test_within_the_budget():
    assert check(quality(0.8, 0.7), quality(0.795, 0.695), Budget(auroc_drop=0.0051)) == []
    assert check(quality(0.8), quality(0.9), Budget(auroc_drop=0.0)) == []


def test_the_mean_is_held_and_not_each_outcome():
    before, after = quality(0.8, 0.7), quality(0.78, 0.72)
    assert check(before, after, Budget()) == []
    (found,) = check(before, after, Budget(outcome_auroc_drop=0.01))
    assert "outcome_auroc_drop: auroc of outcome 0 went from 0.8000 to 0.7800, 0.0200 worse; allowed 0.01" in str(found)


@pytest.mark.parametrize(
    ("metric", "value", "budget"),
    [("auprc", 0.2, {"auprc_drop": 0.05}), ("brier", 0.2, {"brier_rise": 0.05}), ("ece", 0.1, {"ece_rise": 0.01})],
)
def test_other_means(metric, value, budget):
    (found,) = check(quality(0.8), quality(0.8, **{metric: value}), Budget(**budget))
    assert found.budget in budget
    assert check(quality(0.8), quality(0.8, **{metric: value}), Budget()) == []


def test_shuffled_weights_fail():
    assert [found.budget for found in check(quality(0.8, 0.7), quality(0.5, 0.49), Budget())] == ["auroc_drop"]


def test_what_is_no_number_fails():
    assert check(quality(0.8), quality(math.nan), Budget())
    assert check(quality(0.8, 0.7), quality(0.8, math.nan), Budget(auroc_drop=None, outcome_auroc_drop=0.5))


def test_few_positives_are_not_held():
    before, after = quality(0.8) + quality(0.9, positives=9), quality(0.8) + quality(0.2, positives=9)
    assert check(before, after, Budget(outcome_auroc_drop=0.0)) == []
    with pytest.raises(ValueError, match="no outcome has 10 positives"):
        check(quality(0.9, positives=9), quality(0.9, positives=9), Budget())


def test_subgroups():
    groups = quality(0.8, 0.7, name="sex"), quality(0.8, 0.6, name="sex")
    (found,) = check(quality(0.8), quality(0.8), Budget(subgroup_auroc_drop=0.05), subgroups=groups)
    assert found.what == "auroc of sex 1"


def test_other_questions_are_refused():
    with pytest.raises(ValueError, match="different questions"):
        check(quality(0.8), quality(0.8, positives=51), Budget())
    with pytest.raises(ValueError, match=r"budget\.auroc_drop is -1"):
        Budget(auroc_drop=-1)
