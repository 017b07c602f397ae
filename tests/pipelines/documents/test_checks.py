"""Every rule finds its row, all at once, and tells nothing of what a passage says."""

import polars as pl
import pytest

from pipelines.documents.checks import RULES, VIOLATIONS, check, hold
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.splits import assign

SECRET = "thesecret"


@pytest.fixture(scope="module")
def cohort():
    return simulate(Corpus(groups=60, cut="small", length=0.1, abridged=2, counterfactual=1))


@pytest.fixture(scope="module")
def split(cohort):
    return assign(cohort.documents.lazy(), fractions=(0.6, 0.2, 0.2)).documents


def at(frame, row, **values):
    """Return a frame with values of one row changed."""
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(here).then(pl.lit(value, frame.schema[name])).otherwise(name).alias(name)
        for name, value in values.items()
    )


BREAKS = {
    "null": {"group_id": None},
    "empty_text": {"text": " \n"},
    "nul_text": {"text": f"{SECRET}\0"},
    "unknown_id": {"id": "99"},
    "subquestion": {"subquestion": "another"},
    "text_type": {"text_type": "another"},
    "label": {"label": 7},
    "answer": {"answer": f"{SECRET} holds"},
    "split": {"split": "validation"},
}


@pytest.mark.parametrize("rule", BREAKS)
def test_each_rule_names_its_row(cohort, split, rule):
    found = check(at(split, 5, **BREAKS[rule]).lazy(), cohort.catalogue, "contract", allow_missing_classes=True)
    own = found.violations.filter(rule=rule)
    assert own["origin"].to_list() == [split["origin"][5]]
    with pytest.raises(ValueError, match=" violations in ") as caught:
        hold(found)
    assert split["origin"][5] in str(caught.value)
    assert RULES[rule] in str(caught.value)
    assert SECRET not in str(caught.value) + str(found.violations.to_dicts())
    assert "\n" not in str(caught.value)


def test_sound_documents_pass(cohort, split):
    found = check(split.lazy(), cohort.catalogue, "contract", allow_missing_classes=True)
    assert found.violations.schema == VIOLATIONS
    assert len(found.violations) == 0
    assert found.duplicates == 0
    hold(found)


def test_all_violations_are_told_at_once(cohort, split):
    broken = split
    for row, change in enumerate(BREAKS.values()):
        broken = at(broken, 3 * row, **change)
    found = check(broken.lazy(), cohort.catalogue, "contract", allow_missing_classes=True)
    assert set(BREAKS) <= set(found.violations["rule"])
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the parts are looked at below
        hold(found)
    for rule in BREAKS:
        assert RULES[rule] in str(caught.value)


def test_a_label_without_its_answer_is_named(cohort):
    broken = at(cohort.documents, 2, label=None, answer="maybe")
    assert check(broken.lazy(), cohort.catalogue).violations["rule"].to_list() == ["label"]
    unlabelled = cohort.documents.with_columns(pl.lit(None, pl.Int64).alias("label"), pl.lit(None).alias("answer"))
    assert len(check(unlabelled.lazy(), cohort.catalogue).violations) == 0


def test_two_texts_and_two_answers(cohort):
    two = at(cohort.documents, 1, text=f"{SECRET} another text")
    found = check(two.lazy(), cohort.catalogue).violations
    assert set(found["rule"]) == {"two_texts"}
    kind = cohort.documents.filter(document_id=cohort.documents["document_id"][1])
    assert len(found) == len(kind)
    again = cohort.documents.row(0, named=True)
    other = pl.DataFrame([{**again, "label": 1 - min(again["label"], 1), "answer": None, "origin": "x row 1"}])
    twice = pl.concat([cohort.documents, other.cast(dict(cohort.documents.schema))])
    found = check(twice.lazy(), cohort.catalogue)
    assert found.violations["rule"].to_list() == ["two_answers"] * 2
    assert found.duplicates == pytest.approx(1 / len(twice))


def test_a_leak_between_groups_is_an_error(cohort, split):
    group = split["group_id"][0]
    rows = (split["group_id"] == group).arg_true()
    moved = {"train": "test", "dev": "train", "test": "train"}[split["split"][0]]
    broken = at(split, int(rows[0]), split=moved)
    found = check(broken.lazy(), cohort.catalogue, "contract", allow_missing_classes=True)
    assert set(found.violations["rule"]) == {"leak"}
    assert set(found.violations["origin"]) == set(split.filter(group_id=group)["origin"])
    with pytest.raises(ValueError, match="a group must stand on one side"):
        hold(found)


def test_official_leaks_within_a_task_only(cohort):
    held = assign(cohort.documents.lazy(), mode="official").documents
    fine = check(held.lazy(), cohort.catalogue, "official", allow_missing_classes=True)
    assert len(fine.violations) == 0
    # Over all tasks the published split does leak, and says so where it is asked to be by contract.
    leaky = check(held.lazy(), cohort.catalogue, "contract", allow_missing_classes=True)
    assert set(leaky.violations["rule"]) == {"leak"}


def test_an_edited_passage_of_a_scored_group_leaks(cohort, split):
    scored = split.filter(split="test", data_type="main")["group_id"][0]
    row = int((split["split"] == "train").arg_true()[0])
    broken = at(split, row, data_type="synthetic", group_id=scored)
    assert "leak" in set(
        check(broken.lazy(), cohort.catalogue, "contract", allow_missing_classes=True).violations["rule"]
    )


def test_augment_only_rows_are_not_tested_on(cohort, split):
    row = int((split["split"] == "test").arg_true()[0])
    broken = at(split, row, data_type="synthetic")
    found = check(broken.lazy(), cohort.catalogue, "contract", allow_missing_classes=True).violations
    assert "augment_only" in set(found["rule"])


def test_a_missing_class_is_an_error_or_skipped(cohort, split):
    gone = split.filter(~((pl.col("split") == "test") & (pl.col("id") == "3") & (pl.col("label") == 1)))
    found = check(gone.lazy(), cohort.catalogue, "contract")
    assert {"missing_class"} == set(found.violations["rule"])
    assert "3" in set(found.violations["id"])
    with pytest.raises(ValueError, match="test of task 3 lacks an option: beta holds"):
        hold(found)
    allowed = check(gone.lazy(), cohort.catalogue, "contract", allow_missing_classes=True)
    assert ("test", "3", "beta holds") in allowed.skipped
    hold(allowed)


def test_one_text_under_two_groups_is_counted(cohort, split):
    train = int((split["split"] == "train").arg_true()[0])
    text = split.filter(split="test", data_type="main")["text"][0]
    here = split["document_id"] == split["document_id"][train]
    copied = split.with_columns(pl.when(here).then(pl.lit(text)).otherwise("text").alias("text"))
    assert check(copied.lazy(), cohort.catalogue, "contract", allow_missing_classes=True).shared_texts == 1
    with pytest.raises(ValueError, match="expected contract or official"):
        check(split.lazy(), cohort.catalogue, "rows")
