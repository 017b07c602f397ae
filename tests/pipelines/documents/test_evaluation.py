"""Predictions on disk, their scores, intervals by group, and baselines beside."""

import numpy as np
import polars as pl
import pytest

from pipelines.documents import baselines, metrics
from pipelines.documents.evaluation import SCORES, draw, evaluate, interval
from pipelines.documents.predictions import PREDICTIONS, aligned, evidence, from_matrix, scan
from pipelines.documents.simulator import bayes
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.simulator.structure import structure
from pipelines.documents.splits import assign

NOISE = 0.02


@pytest.fixture(scope="module")
def cohort():
    return simulate(Corpus(groups=200, cut="small", length=0.1, abridged=2, counterfactual=1, noise=NOISE))


@pytest.fixture(scope="module")
def split(cohort):
    return assign(cohort.documents.lazy(), fractions=(0.4, 0.2, 0.4)).documents


@pytest.fixture(scope="module")
def test_rows(split):
    return split.filter(split="test")


@pytest.fixture(scope="module")
def models(cohort, split, test_rows):
    held = structure("small")
    stated = dict(zip(cohort.documents["origin"], bayes.oracle(cohort, held, NOISE), strict=True))
    train, dev = split.filter(split="train"), split.filter(split="dev")
    return {
        "oracle": np.array([stated[origin] for origin in test_rows["origin"]]),
        "majority": baselines.majority(train, test_rows, cohort.catalogue),
        "random": baselines.random(test_rows, cohort.catalogue),
        "words": baselines.bag_of_words(train, dev, test_rows, cohort.catalogue),
    }


@pytest.fixture(scope="module")
def scores(models, test_rows, cohort):
    return evaluate(test_rows, models, cohort.catalogue, resamples=200).scores


def value(scores, model, metric, **where):
    where = {"level": "all", "data_type": "main", **where}
    return scores.filter(model=model, metric=metric, **where).row(0, named=True)


def test_the_headline_is_the_mean_over_questions_of_the_metric(scores, models, test_rows, cohort):
    main = test_rows.with_row_index().filter(data_type="main")
    values, parents = {}, {}
    for question, options in zip(cohort.catalogue.questions, cohort.catalogue.num_options, strict=True):
        rows = main.filter(id=question.id)
        score = models["oracle"][rows["index"].to_numpy()][:, :options]
        values[question.id] = metrics.minority_aupr(metrics.Answers(score, rows["label"].to_numpy()))
        parents[question.id] = question.parent
    found = value(scores, "oracle", "minority_aupr")
    assert found["value"] == pytest.approx(metrics.over_parents(values, parents))
    assert found["rows"] == len(main)
    assert found["tasks"] == 6
    classic = value(scores, "oracle", "minority_aupr_tasks")["value"]
    assert classic == pytest.approx(metrics.over_tasks(values))
    assert classic != pytest.approx(found["value"])
    assert found["lower"] < found["value"] < found["upper"]


def test_counting_words_is_at_chance_and_the_oracle_is_not(scores):
    assert scores.schema == SCORES
    chance = value(scores, "oracle", "chance")["value"]
    assert value(scores, "majority", "minority_aupr")["value"] == pytest.approx(chance)
    for blind in ("random", "words"):
        found = value(scores, blind, "minority_aupr")
        # Precision of few rows is above the share even by luck.
        assert chance - 0.05 < found["value"] < chance + 0.12
        gain = value(scores, "oracle", f"minority_aupr_over_{blind}")
        assert gain["lower"] > 0.3
        assert gain["value"] == pytest.approx(value(scores, "oracle", "minority_aupr")["value"] - found["value"])
    assert value(scores, "oracle", "minority_aupr")["value"] > 0.85


def test_neighbours_of_a_word_tell_the_answer(cohort, split, test_rows, scores):
    # Order is what tells: with pairs of words as features the same regression leaves chance.
    train, dev = split.filter(split="train"), split.filter(split="dev")
    pairs = {"pairs": baselines.bag_of_words(train, dev, test_rows, cohort.catalogue, longest=2)}
    found = evaluate(test_rows, pairs, cohort.catalogue, resamples=2).scores
    words = value(scores, "words", "minority_aupr")["value"]
    assert value(found, "pairs", "minority_aupr")["value"] > words + 0.15


def test_accuracy_equals_scikit_learn(scores, models, test_rows, cohort):
    from sklearn.metrics import balanced_accuracy_score, f1_score

    main = test_rows.with_row_index().filter(data_type="main")
    balanced, f1, right = [], [], []
    for question, options in zip(cohort.catalogue.questions, cohort.catalogue.num_options, strict=True):
        rows = main.filter(id=question.id)
        best = models["oracle"][rows["index"].to_numpy()][:, :options].argmax(1)
        balanced.append(balanced_accuracy_score(rows["label"], best))
        f1.append(f1_score(rows["label"], best, average="macro"))
        right.append((best == rows["label"].to_numpy()).sum())
    assert value(scores, "oracle", "balanced_accuracy")["value"] == pytest.approx(np.mean(balanced))
    assert value(scores, "oracle", "macro_f1")["value"] == pytest.approx(np.mean(f1))
    assert value(scores, "oracle", "accuracy")["value"] == pytest.approx(sum(right) / len(main))
    # The oracle knows how sure it is.
    assert value(scores, "oracle", "ece")["value"] < 0.03
    assert value(scores, "random", "ece")["value"] > 0.1


def test_categories_and_tasks_have_rows_and_abridged_stands_apart(scores, cohort):
    categories = scores.filter(level="category", model="oracle", metric="minority_aupr", data_type="main")
    assert categories["name"].to_list() == ["General", "Conditions", "Knowledge"]
    assert categories["tasks"].to_list() == [1, 3, 2]
    tasks = scores.filter(level="task", model="oracle", metric="minority_aupr", data_type="main")
    assert tasks["name"].to_list() == list(cohort.catalogue.ids)
    abridged = value(scores, "oracle", "minority_aupr", data_type="abridged")
    assert abridged["value"] != value(scores, "oracle", "minority_aupr")["value"]
    assert set(scores["data_type"]) == {"main", "abridged"}


def test_predictions_rescored_from_disk_are_the_same(tmp_path, models, test_rows, cohort, scores):
    held = from_matrix(test_rows, models["oracle"], cohort.catalogue, "0123")
    assert held.schema == PREDICTIONS
    assert held.group_by("document_id", "id").agg(pl.col("probability").sum())[
        "probability"
    ].to_list() == pytest.approx([1] * len(test_rows))
    assert held.filter(chosen=True).height == len(test_rows)
    (tmp_path / "predictions").mkdir()
    half = len(held) // 2
    held[half:].sample(fraction=1, shuffle=True, seed=0).write_parquet(tmp_path / "predictions" / "a.parquet")
    held[:half].write_parquet(tmp_path / "predictions" / "b.parquet")
    again = aligned(scan(tmp_path), test_rows, cohort.catalogue)
    assert again == pytest.approx(models["oracle"], abs=1e-7)
    found = evaluate(test_rows, {"oracle": again}, cohort.catalogue, resamples=2).scores
    exact = evaluate(test_rows, {"oracle": models["oracle"].astype(np.float32)}, cohort.catalogue, resamples=2).scores
    assert found["value"].to_list() == pytest.approx(exact["value"].to_list(), abs=1e-6)


def test_predictions_that_do_not_fit_are_refused(tmp_path, models, test_rows, cohort):
    held = from_matrix(test_rows, models["oracle"], cohort.catalogue)
    with pytest.raises(ValueError, match=" rows have no prediction"):
        first = (pl.col("document_id") == test_rows["document_id"][0]) & (pl.col("id") == test_rows["id"][0])
        aligned(held.filter(~first).lazy(), test_rows, cohort.catalogue)
    with pytest.raises(ValueError, match=r"expected each of [23] once"):
        aligned(pl.concat([held, held]).lazy(), test_rows, cohort.catalogue)
    with pytest.raises(ValueError, match="a probability is no number"):
        aligned(held.with_columns(pl.lit(float("nan")).alias("probability")).lazy(), test_rows, cohort.catalogue)
    with pytest.raises(ValueError, match="task 99 is not in the catalogue"):
        from_matrix(test_rows.with_columns(pl.lit("99").alias("id")), models["oracle"], cohort.catalogue)
    held.drop("chosen").write_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no column chosen"):
        scan(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no such file or folder"):
        scan(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.parquet"):
        scan(tmp_path / "empty")


def test_evidence_by_document_and_task():
    pieces = [{"start": 3, "end": 9, "weight": 0.5}]
    row = {"document_id": "n", "group_id": "p", "id": "1", "subquestion": "", "option": "a", "model_digest": ""}
    rows = [
        {**row, "option_index": at, "probability": 0.5, "chosen": not at, "abstain": False, "truncated": False}
        | {"evidence": pieces}
        for at in (0, 1)
    ]
    assert evidence(pl.DataFrame(rows, schema=PREDICTIONS)) == {("n", "1"): [(3, 9, 0.5)]}


def test_a_missing_class_is_an_error_or_skipped(models, test_rows, cohort):
    gone = (test_rows["id"] != "3") | (test_rows["label"] == 0)
    rows = test_rows.filter(gone)
    held = {"oracle": models["oracle"][gone.to_numpy()]}
    with pytest.raises(ValueError, match="1 tasks have an option with none or all of the rows, the first 3"):
        evaluate(rows, held, cohort.catalogue, resamples=2)
    found = evaluate(rows, held, cohort.catalogue, resamples=2, allow_missing_classes=True)
    assert found.skipped == (("main", "3"), ("abridged", "3"))
    assert "3" not in set(found.scores.filter(level="task")["name"])
    with pytest.raises(ValueError, match="no rows of main or abridged"):
        evaluate(rows.filter(pl.lit(value=False)), {"oracle": models["oracle"][:0]}, cohort.catalogue)


def test_edited_rows_are_never_scored(models, test_rows, cohort, scores):
    edits = test_rows.filter(data_type="main").with_columns(pl.lit("rare_answers").alias("data_type"))
    both = pl.concat([test_rows, edits])
    wrong = np.concatenate([models["oracle"], np.zeros((len(edits), models["oracle"].shape[1]))])
    found = evaluate(both, {"oracle": wrong}, cohort.catalogue, resamples=2).scores
    for data_type in ("main", "abridged"):
        assert value(found, "oracle", "minority_aupr", data_type=data_type)["value"] == pytest.approx(
            value(scores, "oracle", "minority_aupr", data_type=data_type)["value"]
        )


def test_rows_repeated_inside_groups_leave_the_interval(models, test_rows, cohort):
    def width(rows, probability, groups=None):
        rows = rows if groups is None else rows.with_columns(groups)
        found = evaluate(rows, {"words": probability}, cohort.catalogue, resamples=200).scores
        row = value(found, "words", "minority_aupr")
        return row["value"], row["upper"] - row["lower"]

    main = test_rows.with_row_index().filter(data_type="main")
    own = models["words"][main["index"].to_numpy()]
    main = main.drop("index")
    times = 4
    many, more = pl.concat([main] * times), np.concatenate([own] * times)
    assert width(many, more) == pytest.approx(width(main, own))
    # Each row as a group of its own would look like four times the data.
    rows = pl.Series("group_id", [f"g{at}" for at in range(len(many))])
    assert width(many, more, rows)[1] < 0.7 * width(main, own)[1]


def test_draws_are_of_groups_and_repeatable():
    held = draw(["b", "a", "b"], resamples=5, seed=1)
    assert held.groups == ("a", "b")
    assert held.weight[:, 0].tolist() == [1, 1]
    assert held.weight.sum(0).tolist() == [2] * 6
    assert held.of(["b", "a"]).shape == (2, 6)
    assert (draw(["b", "a", "b"], resamples=5, seed=1).weight == held.weight).all()
    assert interval(np.array([0.5, 0.6, 0.8])) == pytest.approx((0.5, 0.405, 0.595))


def test_shares_count_a_row_more(split, cohort):
    train = split.filter(split="train", data_type="main")
    found = baselines.shares(train, cohort.catalogue)
    label = train.filter(id="3")["label"]
    place = cohort.catalogue.place()["3"]
    assert found[place, :2] == pytest.approx((np.bincount(label, minlength=2) + 1) / (len(label) + 2))
    assert found[place, 2] == 0
    assert found.sum(1) == pytest.approx(1)


def test_scores_in_random_order_are_not_marked_better_than_the_majority_by_resampling(test_rows, cohort):
    """With few rows precision is above the share by luck alone; resampling must not add to that."""
    few = test_rows.filter(pl.col("group_id").is_in(test_rows["group_id"].unique().sort()[:14].implode()))
    models = {
        "random": baselines.random(few, cohort.catalogue),
        "majority": baselines.majority(test_rows, few, cohort.catalogue),
    }
    found = evaluate(few, models, cohort.catalogue, resamples=300, allow_missing_classes=True).scores
    gain = value(found, "random", "minority_aupr_over_majority")
    chance, luck = (value(found, "random", name)["value"] for name in ("chance", "luck"))
    assert chance < luck
    assert gain["lower"] < luck - chance < gain["upper"]
    assert gain["lower"] < gain["value"] < gain["upper"]
