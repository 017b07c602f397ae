"""The corpus has MAUD's structure, tells nothing to those who count words, and its best AUPR is what it says."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from pipelines.documents import checks, evaluation, metrics
from pipelines.documents.schema import DOCUMENTS, RARE
from pipelines.documents.simulator import bayes
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.simulator.passages import WINDOW, cue_tokens, write
from pipelines.documents.simulator.structure import FORMS, OPTIONS, structure

MAUD_CATEGORIES = {
    "Material Adverse Effect": 39,
    "Deal Protection": 31,
    "Conditions": 9,
    "Operating & Efforts": 8,
    "Knowledge": 3,
    "General": 1,
    "Remedies": 1,
}


@pytest.fixture(scope="module")
def whole():
    return simulate(Corpus(groups=12))


@pytest.fixture(scope="module")
def small():
    return simulate(Corpus(groups=400, cut="small", length=0.1, abridged=0, counterfactual=0))


def test_structure_is_mauds():
    held = structure()
    questions = held.catalogue.questions
    parents = {question.parent: question.category for question in questions}
    assert (len(questions), len(parents), len(held.catalogue.text_types)) == (144, 92, 22)
    assert Counter(parents.values()) == MAUD_CATEGORIES
    single = [question for question in questions if not question.multi]
    parts = Counter(question.parent for question in questions if question.multi)
    assert sorted(parts.values()) == [3, 4, 4, 4, 5, 5, 6, 7, 10, 14]
    assert sum(len(question.options) == 2 for question in single) == 60
    assert held.catalogue.num_options.max() == 26
    assert max(Counter(q.text_type for q in questions if q.id == f"{q.parent}" or q.id.endswith("-0")).values()) == 39
    assert len({cue.key for cue in held.cues}) == 144
    for cue in held.cues:
        assert sum(cue.prior) == pytest.approx(1)
        assert min(cue.prior) >= 0.02
    with pytest.raises(ValueError, match="cut is big; expected one of whole, small"):
        structure("big")


def test_lengths_and_rows_are_like_mauds(whole):
    main = whole.documents.filter(data_type="main").unique("text")
    tokens = main["text"].str.split(" ").list.len()
    assert 0.4 < (tokens <= 512).mean() < 0.6
    assert 0.7 < (tokens <= 1024).mean() < 0.9
    assert (tokens <= 2048).mean() > 0.95
    assert 4.2 < len(whole.documents) / whole.documents["text"].n_unique() < 5.4
    edited = whole.documents.filter(data_type="rare_answers")
    assert set(edited["group_id"]) == {RARE}
    assert 0.05 < len(edited) / len(whole.documents) < 0.15


def test_cues_stand_where_the_truth_says(whole):
    held = whole.documents.with_columns(whole.truth.select("stated", "far", "start", "end"))
    assert whole.truth["id"].equals(whole.documents["id"])
    cues = dict(zip(whole.catalogue.ids, structure().cues, strict=True))
    far = 0
    for row in held.iter_rows(named=True):
        said = row["text"][row["start"] : row["end"]].split(" ")
        cue = cues[row["id"]]
        assert said[:2] == [cue.key, OPTIONS[row["stated"]]]
        assert row["text"].split(" ").count(cue.key) == 1
        before, within = len(row["text"][: row["start"]].split()), len(row["text"][: row["end"]].split())
        # Not one of its tokens is seen by a reader of 512, or all are.
        assert before >= WINDOW if row["far"] else within <= WINDOW - 2
        far += row["far"] and row["data_type"] == "main"
    assert 0.3 < far / len(held.filter(data_type="main")) < 0.7


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.booleans())
def test_words_are_the_same_whatever_is_stated(seed, far):
    random = np.random.default_rng(seed)
    cues = [structure().cues[at] for at in random.choice(144, size=3, replace=False)]
    texts = []
    for _ in range(2):
        stated = [int(random.integers(len(cue.prior))) for cue in cues]
        generator = np.random.Generator(np.random.Philox(seed))
        texts.append(write(generator, cues, stated, far=far, tokens=100).text)
    assert Counter(texts[0].split(" ")) == Counter(texts[1].split(" "))


def test_options_differ_by_order_negation_or_scope():
    forms = {cue.form for cue in structure().cues}
    assert forms == set(FORMS)
    cue = next(cue for cue in structure().cues if cue.form == "negation" and len(cue.prior) == 2)
    random = np.random.default_rng(0)
    assert [" ".join(cue_tokens(random, cue, at)) for at in (0, 1)] == [
        f"{cue.key} alpha not beta .",
        f"{cue.key} beta not alpha .",
    ]


def test_too_many_cues_for_the_near_part_are_refused():
    with pytest.raises(ValueError, match="expected at most 510"):
        write(np.random.default_rng(0), structure().cues, [0] * 144, far=False, tokens=100)


def test_equal_settings_give_equal_rows_and_groups_do_not_meet():
    small = Corpus(groups=3, cut="small", seed=4)
    assert simulate(small).documents.equals(simulate(small).documents)
    more = simulate(Corpus(groups=4, cut="small", seed=4)).documents
    assert more.head(len(simulate(small).documents)).equals(simulate(small).documents)
    assert not simulate(Corpus(groups=3, cut="small", seed=5)).documents.equals(simulate(small).documents)
    assert simulate(small).documents.schema == DOCUMENTS
    with pytest.raises(ValueError, match="noise is 2"):
        Corpus(noise=2)
    with pytest.raises(ValueError, match="length is 0"):
        Corpus(length=0)


def test_checks_find_nothing(whole):
    found = checks.check(whole.documents.lazy(), whole.catalogue)
    assert len(found.violations) == 0
    assert found.rows == len(whole.documents)


def test_answers_have_their_prior_and_labels_their_noise(small):
    cues = structure("small").cues
    for question, cue in zip(small.catalogue.questions, cues, strict=True):
        label = small.documents.filter(id=question.id)["label"].to_numpy()
        share = np.bincount(label, minlength=len(cue.prior)) / len(label)
        # Four standard errors of 400 answers.
        assert np.abs(share - cue.prior).max() < 4 * np.sqrt(0.25 / 400)
    wrong = (small.truth["stated"] != small.documents["label"]).mean()
    assert 0.008 < wrong < 0.035


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_the_exact_bayes_value_is_that_of_a_large_draw(noise):
    random = np.random.default_rng(0)
    for cue in (structure().cues[0], structure().cues[1], structure().cues[30]):
        options = len(cue.prior)
        label = random.choice(options, p=cue.prior, size=40_000)
        other = (label + random.integers(1, options, size=len(label))) % options
        stated = np.where(random.random(len(label)) < noise, other, label)
        score = bayes.posterior(cue.prior, noise)[stated]
        drawn = metrics.minority_aupr(metrics.Answers(score, label))
        assert drawn == pytest.approx(bayes.task_value(cue.prior, noise), abs=0.015)


def test_masses_give_scikit_learns_precision():
    score, positive, negative = np.array([0.1, 0.9, 0.9]), np.array([1.0, 2, 1]), np.array([3.0, 0, 1])
    labels = np.repeat([1, 0], [4, 4])
    scores = np.concatenate([np.repeat(score, positive.astype(int)), np.repeat(score, negative.astype(int))])
    own = bayes.average_precision(score, positive, negative)
    assert own == pytest.approx(average_precision_score(labels, scores))


def test_the_oracle_reaches_the_bayes_value_near_and_far(small):
    held = structure("small")
    best = bayes.oracle(small, held, 0.02)
    assert best.sum(1) == pytest.approx(1)
    draws = evaluation.draw(small.documents["group_id"].to_list(), resamples=1)
    for far in (False, True):
        rows = np.flatnonzero(small.truth["far"].to_numpy() == far)
        part = small.documents[rows]
        values = {
            task.at: evaluation.aupr(task, best[rows], draws.of(part["group_id"].to_list()))
            for task in evaluation.scorable(evaluation.tasks_of(part, small.catalogue))
        }
        reached = evaluation.over_questions(values, small.catalogue)[0]
        assert reached == pytest.approx(bayes.headline(held, 0.02), abs=0.05)


def test_near_and_far_do_not_tell_the_answer(small):
    joined = small.documents.with_columns(small.truth["far"]).filter(pl.col("id") == "1")
    share = joined.group_by("far").agg(pl.col("label").mean()).sort("far")["label"]
    assert abs(share[0] - share[1]) < 4 * np.sqrt(0.25 / 200 + 0.25 / 200)
