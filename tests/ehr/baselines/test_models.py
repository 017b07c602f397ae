"""The baselines learn what is there, choose by the tuning split, and answer where nothing can be learnt."""

import numpy as np
import pytest
from scipy import sparse

from ehr.baselines.design import Columns
from ehr.baselines.models import MODELS, Labelled, answers
from ehr.metrics.measures import Answers, measure


def columns(count, seed):
    """Make 40 count columns and two dense ones, one with gaps."""
    random = np.random.default_rng(seed)
    tokens = sparse.csr_matrix(np.log1p(random.poisson(0.4, (count, 40))).astype(np.float32))
    dense = random.normal(size=(count, 2)).astype(np.float32)
    dense[random.random(count) < 0.3, 1] = np.nan
    linear = sparse.hstack([tokens, sparse.csr_matrix(np.nan_to_num(dense))], format="csr").astype(np.float64)
    return Columns(tokens, dense, linear)


def labelled(count, seed):
    """Label by two columns: outcome 0 is common, 1 has no positive, 2 is not known."""
    made = columns(count, seed)
    risk = 3 * made.tokens[:, 7].toarray()[:, 0] + 1.5 * made.dense[:, 0] - 3
    label = np.full((count, 3, 1), np.nan, np.float32)
    label[:, 0, 0] = np.random.default_rng(seed + 1).random(count) < 1 / (1 + np.exp(-risk))
    label[:, 1, 0] = 0
    return Labelled(made, label)


TRAIN, TUNING, HELD_OUT = labelled(1500, 0), labelled(400, 10), labelled(1500, 20)
SLOTS = [(0, 0), (1, 0), (2, 0)]


@pytest.fixture(scope="module")
def found():
    return list(answers(TRAIN, TUNING, [HELD_OUT.columns], SLOTS))


@pytest.mark.parametrize("model", MODELS)
def test_the_signal_is_learnt(found, model):
    logit = found[0][model][0]
    held = Answers(1 / (1 + np.exp(-logit)), HELD_OUT.label[:, 0, 0] == 1, np.zeros(1500, np.int64))
    values = measure(held, np.ones((1, 1), np.uint8))
    assert values["auroc"][0] > 0.8
    assert 0.7 < values["calibration_slope"][0] < 1.4


@pytest.mark.parametrize("model", MODELS)
def test_nothing_to_learn_gives_everyone_the_frequency(found, model):
    for slot in (1, 2):
        logit = found[slot][model][0]
        assert len(set(logit.tolist())) == 1
        assert np.isfinite(logit).all()
    assert found[1][model][0][0] < -5


@pytest.mark.parametrize("model", MODELS)
def test_equal_data_give_equal_answers_and_settings_have_defaults(found, model):
    again = next(answers(TRAIN, TUNING, [HELD_OUT.columns], SLOTS[:1]))
    assert np.array_equal(again[model][0], found[0][model][0])
    alone = next(answers(TRAIN, None, [HELD_OUT.columns], SLOTS[:1]))
    assert np.corrcoef(alone[model][0], found[0][model][0])[0, 1] > 0.8


def test_a_column_without_a_value_in_training_is_left_out():
    empty = TRAIN.columns.dense.copy()
    empty[:, 1] = np.nan
    train = Labelled(TRAIN.columns._replace(dense=empty), TRAIN.label)
    logit = next(answers(train, TUNING, [HELD_OUT.columns], SLOTS[:1]))["gradient_boosting"][0]
    assert np.isfinite(logit).all()
    assert np.std(logit) > 0.1
