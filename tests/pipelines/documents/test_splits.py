"""No group on two sides; rows in another order, or other groups beside, change nothing."""

import polars as pl
import pytest

from pipelines.documents.schema import AUGMENT_ONLY, RARE, TASK
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.splits import assign


@pytest.fixture(scope="module")
def documents():
    return simulate(Corpus(groups=120, cut="small", length=0.1, abridged=2, counterfactual=1)).documents


def test_contract_is_disjoint_by_group(documents):
    made = assign(documents.lazy(), seed=3)
    assert made.documents["split"].null_count() == 0
    sides = made.documents.group_by("group_id").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1
    share = made.documents.group_by("group_id").agg(pl.col("split").first())["split"].value_counts(normalize=True)
    shares = dict(share.iter_rows())
    assert abs(shares["train"] - 0.7) < 0.15
    assert set(shares) == {"train", "dev", "test"}
    # MAUD's counterfactuals name no contract: they are left out, and counted.
    edited = int(documents["data_type"].is_in(AUGMENT_ONLY).sum())
    assert made.left_out == edited > 0
    assert made.unsourced == 0
    assert RARE not in set(made.documents["group_id"])


def test_order_and_other_groups_change_nothing(documents):
    side = dict(assign(documents.lazy()).documents.select("origin", "split").iter_rows())
    mixed = documents.sample(fraction=1, shuffle=True, seed=1)
    assert dict(assign(mixed.lazy()).documents.select("origin", "split").iter_rows()) == side
    half = documents.filter(pl.col("group_id").str.ends_with("7"))
    assert all(
        side[origin] == split for origin, split in assign(half.lazy()).documents.select("origin", "split").iter_rows()
    )
    assert dict(assign(documents.lazy(), seed=1).documents.select("origin", "split").iter_rows()) != side
    official = dict(assign(documents.lazy(), mode="official").documents.select("origin", "split").iter_rows())
    assert dict(assign(mixed.lazy(), mode="official").documents.select("origin", "split").iter_rows()) == official


def test_counterfactuals_may_be_trained_on(documents):
    made = assign(documents.lazy(), counterfactuals="train")
    assert made.left_out == 0
    assert made.unsourced == documents["data_type"].is_in(AUGMENT_ONLY).sum()
    assert set(made.documents.filter(group_id=RARE)["split"]) == {"train"}


def test_edits_follow_a_known_group_into_train_alone(documents):
    main = assign(documents.lazy()).documents.filter(data_type="main")
    edits = main.with_columns(pl.lit("synthetic").alias("data_type"), pl.lit(None, pl.String).alias("split"))
    made = assign(pl.concat([main.with_columns(pl.lit(None, pl.String).alias("split")), edits]).lazy())
    kept = made.documents.filter(data_type="synthetic")
    assert set(kept["split"]) == {"train"}
    assert set(kept["group_id"]) == set(main.filter(split="train")["group_id"])
    assert made.left_out == len(edits) - len(kept)


def test_official_is_disjoint_by_task_and_stratified(documents):
    held = assign(documents.lazy(), mode="official").documents
    main = held.filter(data_type="main")
    assert (
        held.filter(~pl.col("data_type").is_in(AUGMENT_ONLY))
        .group_by(*TASK, "group_id")
        .agg(pl.col("split").n_unique())["split"]
        .max()
        == 1
    )
    assert main.group_by("group_id").agg(pl.col("split").n_unique())["split"].max() > 1
    for (_, _, _), rows in main.group_by(*TASK, "label"):
        test, rest = (rows["split"] == "test").sum(), (rows["split"] != "test").sum()
        assert test == pytest.approx(0.18 * len(rows), abs=0.51)
        assert (rows["split"] == "dev").sum() == pytest.approx(0.2 * rest, abs=0.51)
    assert set(held.filter(data_type="rare_answers")["split"]) == {"train"}


def test_official_keeps_what_was_released(documents):
    given = documents.with_columns(pl.lit("dev").alias("split"))
    made = assign(given.lazy(), mode="official")
    assert made.documents.equals(given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "rows"}, "split is rows; expected one of contract, official"),
        ({"fractions": (0.5, 0.5)}, "shares of train, dev and test"),
        ({"fractions": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"counterfactuals": "all"}, "expected leave or train"),
    ],
)
def test_wrong_settings(documents, settings, message):
    with pytest.raises(ValueError, match=message):
        assign(documents.lazy(), **settings)
