"""Training, tuning and testing rows: by group, so that no contract or patient is on two sides, or as MAUD has them."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from pipelines.documents.schema import AUGMENT_ONLY, SPLITS, TASK

MODES = ("contract", "official")
FRACTIONS = (0.7, 0.15, 0.15)
OFFICIAL_TEST, OFFICIAL_DEV = 0.18, 0.2
"""Shares of the published split: of a task's main rows to test, of the rest to dev."""


class Assigned(NamedTuple):
    """Documents with their split.

    Attributes:
        documents: DOCUMENTS, in the order given, with `split`.
        left_out: augment-only rows that would put a group on two sides, or whose group is not known.
        unsourced: of the rows that stayed, those whose group is not known: of them nobody can say that no edited
            passage of a scored group was trained on.
    """

    documents: pl.DataFrame
    left_out: int
    unsourced: int


def assign(
    frame: pl.LazyFrame,
    *,
    mode: str = "contract",
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    counterfactuals: str = "leave",
) -> Assigned:
    """Return documents with each row on one side; the order of rows changes nothing.

    Args:
        frame: DOCUMENTS.
        mode: `contract`: a hash of group_id decides, for all tasks alike. `official`: the split that the files carry;
            where they carry none it is drawn as Wang et al. (2023) drew theirs, anew for each task: contracts are then
            disjoint within a task only, and a reader of many tasks has read the test contracts. Figures of it are
            called leaky.
        fractions: train, dev and test, for `contract`.
        seed: for `contract`.
        counterfactuals: `leave`: augment-only rows whose group is not known to be in train are left out; `train`:
            those of no known group are trained on.

    Raises:
        ValueError: another mode or word, or fractions that are no shares of one.
    """
    if mode not in MODES:
        raise ValueError(f"split is {mode}; expected one of {', '.join(MODES)}")
    if counterfactuals not in {"leave", "train"}:
        raise ValueError(f"counterfactuals is {counterfactuals}; expected leave or train")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions are {list(fractions)}; expected shares of train, dev and test that sum to 1")
    rows = frame.collect()
    if mode == "official":
        return official(rows)
    return by_group(rows, fractions, seed, counterfactuals)


def by_group(rows: pl.DataFrame, fractions: Sequence[float], seed: int, counterfactuals: str) -> Assigned:
    """Return rows split by a hash of their group; edited rows follow a known group that is in train."""
    main = ~pl.col("data_type").is_in(AUGMENT_ONLY)
    groups = rows.filter(main)["group_id"].drop_nulls().unique(maintain_order=True).to_list()
    side = {group: side_of(uniform(f"{seed}", group), fractions) for group in groups}
    split = pl.col("group_id").replace_strict(side, default=None, return_dtype=pl.String)
    unknown = ~main & split.is_null()
    placed = rows.with_columns(split.alias("split"), unknown.alias("unknown"))
    if counterfactuals == "train":
        placed = placed.with_columns(pl.when("unknown").then(pl.lit("train")).otherwise("split").alias("split"))
    kept = placed.filter(main | (pl.col("split") == "train").fill_null(value=False))
    unsourced = int(kept["unknown"].sum())
    return Assigned(kept.drop("unknown"), len(rows) - len(kept), unsourced)


def official(rows: pl.DataFrame) -> Assigned:
    """Return rows as released, or split anew by task; edited rows are in train then."""
    if rows["split"].null_count() == 0 and set(rows["split"]) <= set(SPLITS):
        return Assigned(rows, 0, int(rows["data_type"].is_in(AUGMENT_ONLY).sum()))
    main = rows.filter(pl.col("data_type") == "main")
    # A contract answers a question once; where it does twice, its least label stands for both.
    held = main.group_by(*TASK, "group_id").agg(pl.col("label").min()).sort(*TASK, "group_id")
    keys = [f"{task}|{part}|{group}" for task, part, group in held.select(*TASK, "group_id").iter_rows()]
    drawn = held.with_columns(
        pl.Series("first", [uniform("50", key) for key in keys]),
        pl.Series("second", [uniform("420", key) for key in keys]),
    )
    within = [*TASK, "label"]
    test = pl.col("first").rank("ordinal").over(within) <= (pl.len().over(within) * OFFICIAL_TEST).round()
    drawn = drawn.with_columns(test.alias("test"))
    rest = [*within, "test"]
    dev = pl.col("second").rank("ordinal").over(rest) <= (pl.len().over(rest) * OFFICIAL_DEV).round()
    sides = drawn.select(
        *TASK,
        "group_id",
        pl.when("test").then(pl.lit("test")).when(dev).then(pl.lit("dev")).otherwise(pl.lit("train")).alias("side"),
    )
    placed = rows.join(sides, on=[*TASK, "group_id"], how="left", maintain_order="left")
    # Abridged passages follow their contract inside the task; what no main row places is trained on.
    placed = placed.with_columns(pl.col("side").fill_null("train").alias("split")).drop("side")
    return Assigned(placed, 0, int(placed["data_type"].is_in(AUGMENT_ONLY).sum()))


def uniform(seed: str, key: str) -> float:
    """Return a number in [0, 1) that hangs on seed and key alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64


def side_of(number: float, fractions: Sequence[float]) -> str:
    """Return the split of a number in [0, 1)."""
    return SPLITS[0] if number < fractions[0] else SPLITS[1] if number < fractions[0] + fractions[1] else SPLITS[2]
