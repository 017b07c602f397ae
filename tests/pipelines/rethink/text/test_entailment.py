"""Entailment: the order of a classifier's labels does not matter, and labels that say nothing are refused."""

import json

import numpy as np
import pytest

from pipelines.rethink.evidence import Candidate
from pipelines.rethink.paths import DENIAL, Step
from pipelines.rethink.text.entailment import columns, open_entailment
from pipelines.rethink.text.judging import TextScorer
from pipelines.rethink.text.similarity import SentenceEncoder

PAIRS = (
    ["The cat sat on the mat.", "A dog can not fly.", "The river is blue . " * 40],
    ["The cat sat.", "Dog can fly.", "A river."],
)


def test_the_order_of_labels_does_not_matter(classifier, encoder_folder):
    encoder = SentenceEncoder(encoder_folder)
    plain = open_entailment(classifier((0, 1, 2)), encoder).judge(*PAIRS)
    turned = open_entailment(classifier((2, 0, 1)), encoder).judge(*PAIRS)
    np.testing.assert_allclose(turned, plain, atol=1e-6)
    np.testing.assert_allclose(plain.sum(1), 1, atol=1e-6)
    assert (plain.max(0) - plain.min(0)).max() > 0.01


def test_labels_are_read_by_name():
    assert columns({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}, "x") == [2, 1, 0]
    for names in (
        ["LABEL_0", "LABEL_1", "LABEL_2"],
        ["entailment", "not_entailment", "neutral"],
        ["entailment", "neutral"],
    ):
        with pytest.raises(ValueError, match="say which is which"):
            columns(dict(enumerate(names)), "x")


def test_what_is_no_classifier_is_refused(classifier, encoder_folder, tmp_path):
    encoder = SentenceEncoder(encoder_folder)
    with pytest.raises(ValueError, match=r"config\.json"):
        open_entailment(tmp_path, encoder)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        open_entailment(tmp_path, encoder)
    with pytest.raises(ValueError, match="LABEL_0"):
        open_entailment(classifier((0, 1, 2), ["LABEL_0", "LABEL_1", "LABEL_2"]), encoder)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="sequence classifier"):
        open_entailment(tmp_path, encoder)


def test_the_most_similar_candidate_is_judged_and_a_denial_turns_the_judgement_over(classifier, encoder_folder):
    encoder = SentenceEncoder(encoder_folder)
    scorer = TextScorer(encoder, open_entailment(classifier((0, 1, 2)), encoder))
    said = "The cat sat on the mat."
    found = [Candidate(7, "A bird can fly.", 1.0), Candidate(3, said, 0.5), Candidate(9, said, 0.1)]
    held = scorer.support([Step(said), Step(said, DENIAL), Step("A dog.")], [found, found[::-1], []])
    assert held.candidate.tolist() == [3, 3, -1]
    assert held.rank.tolist() == [1, 1, -1]
    assert held.similarity[0] == pytest.approx(1, abs=1e-5)
    assert held.entailment[0] == held.contradiction[1] > 0
    assert held.contradiction[0] == held.entailment[1] > 0
    assert [column[2] for column in held[:3]] == [0, 0, 0]
    assert TextScorer(encoder).support([], []).candidate.tolist() == []
