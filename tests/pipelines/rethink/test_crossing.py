"""Arms side by side: planted evidence is found, swapped evidence is not, and gains add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.rethink.controls import another, auroc, auroc_by_source, split_gain
from pipelines.rethink.crossing import MAJORITY, SOURCES, Crossing, evaluate, report
from pipelines.rethink.evidence import Support
from tests.pipelines.rethink.test_sources import drawn, poll_of

SETTINGS = Crossing(folds=3, repeats=1, bootstrap=200)


@pytest.fixture(scope="module")
def found():
    truth, vote, right = drawn(300)
    words = ["yes" if value else "no" for value in truth]
    draw = np.random.default_rng(5)

    def supports(shift):
        made = []
        for hit in right.ravel():
            m = np.clip(0.6 + shift * (hit - 0.5) + 0.1 * draw.standard_normal(2), 0, 1).astype(np.float32)
            nothing = np.zeros(2, dtype=np.float32)
            made.append(Support(m, nothing, nothing, np.arange(2), np.zeros(2, dtype=np.int32)))
        return made

    held = {"planted": supports(0.2), "noise": supports(0.0)}
    poll = poll_of(vote)
    arms = evaluate(poll, words, held, SETTINGS)
    return report(poll, words, held, arms, SETTINGS), arms


def row(found, name):
    return next(own for own in found[0]["arms"] if own["arm"] == name)


def test_planted_evidence_adds_to_source_weights_and_noise_does_not(found):
    assert row(found, f"{SOURCES} + planted")["over_source_weights"]["lower"] > 0
    noise = row(found, f"{SOURCES} + noise")["over_source_weights"]
    assert noise["lower"] <= 0.01
    assert abs(noise["value"]) < 0.03


def test_auroc_within_sources(found):
    auroc = found[0]["auroc"]
    assert auroc["f1, planted"]["mean"] > 0.8
    assert 0.45 < auroc["f1, noise"]["mean"] < 0.55


def test_gains_over_the_majority_are_former_ties_and_the_rest(found):
    for own in found[0]["arms"]:
        if own["over_majority"] is not None:
            assert own["over_majority"]["ties"] + own["over_majority"]["rest"] == pytest.approx(
                own["over_majority"]["value"]
            )


def test_counts(found):
    told = found[0]
    assert told["questions"] == 300
    assert told["unparsed"] == sum(source["unparsed"] for source in told["sources"]) > 0
    assert row(found, MAJORITY)["accuracy"]["value"] >= row(found, MAJORITY)["ties_wrong"]
    sizes = [own["effective_size"] for own in told["arms"] if own["effective_size"] is not None]
    assert all(0 <= size <= 3 for size in sizes)


def test_every_question_gets_anothers_evidence_and_each_once():
    held = another(50, 3)
    assert sorted(held.tolist()) == list(range(50))
    assert (held != np.arange(50)).all()
    with pytest.raises(ValueError, match="two or more"):
        another(1, 0)


def test_a_source_that_is_always_right_has_no_auroc():
    poll = poll_of(np.ones((4, 3)))
    assert auroc_by_source(poll, ["yes"] * 4, np.arange(12.0)) == {}
    assert split_gain(np.array([1.0, 0.0]), np.array([True, False])) == {"ties": 0.5, "rest": 0.0}


def test_settings_are_checked():
    with pytest.raises(ValueError, match="folds of 2"):
        Crossing(folds=1)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=2, max_size=30))
def test_auroc_matches_scikit_learn(rows):
    hit, value = np.array([own for own, _ in rows]), np.array([own for _, own in rows])
    if hit.any() and not hit.all():
        assert auroc(hit, value) == pytest.approx(roc_auc_score(hit, value))
