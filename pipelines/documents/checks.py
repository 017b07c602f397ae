"""Checks on documents: every violation is collected and named by its row, then all are told at once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from pipelines.documents.catalogue import Catalogue
from pipelines.documents.schema import AUGMENT_ONLY, PASSAGE, SPLITS, TASK

VIOLATIONS = pl.Schema({"rule": pl.String, "id": pl.String, "origin": pl.String, "detail": pl.String})
"""One row a violation: which rule (RULES), of which task, in which row of which file, and what is wrong. What a
passage says is never told. Rules on a whole split have no row."""
RULES: Mapping[str, str] = {
    "null": "document_id, group_id, text and id must be there",
    "empty_text": "a passage must hold a word",
    "nul_text": "a passage must not hold NUL characters",
    "unknown_id": "every id must be in the catalogue",
    "subquestion": "subquestion must be the catalogue's",
    "text_type": "text_type must be the one that the catalogue asks the question of",
    "label": "a label must be a place among the options",
    "answer": "an answer must be the option that its label stands for",
    "two_texts": "a document_id must have one text of a text_type",
    "two_answers": "a passage must have one answer to a question",
    "split": f"a split must be one of {', '.join(SPLITS)}",
    "leak": "a group must stand on one side",
    "augment_only": f"rows of {' and '.join(AUGMENT_ONLY)} must not be in a scored split",
    "missing_class": "every option must have a row in a scored split",
}
SCORED = ("dev", "test")
TOLD = 3


class Findings(NamedTuple):
    """What the checks found.

    Attributes:
        violations: VIOLATIONS, by rule and row.
        skipped: split, id and option of what has no row in a scored split, where that is allowed; the task is not
            scored there.
        duplicates: share of rows whose text, id and subquestion stood there before.
        shared_texts: passages that stand on two sides under different groups; boilerplate, or one file twice.
        rows: how many were checked.
    """

    violations: pl.DataFrame
    skipped: tuple[tuple[str, str, str], ...]
    duplicates: float
    shared_texts: int
    rows: int


def check(
    frame: pl.LazyFrame, catalogue: Catalogue, split: str | None = None, *, allow_missing_classes: bool = False
) -> Findings:
    """Return all that is wrong with documents; see `hold` for the error.

    Args:
        frame: DOCUMENTS.
        catalogue: the questions.
        split: `contract` (a group on one side), `official` (a group on one side of each task), or None for documents
            that are not split, or not labelled.
        allow_missing_classes: name what has no row in a scored split under `skipped` in place of a violation.
    """
    rows = frame.collect()
    known = joined(rows, catalogue)
    found = [null(rows), *texts(rows), *tasks(known), *doubles(rows)]
    skipped: list[tuple[str, str, str]] = []
    if split is not None:
        found += [*sides(rows, split), augment(rows)]
        absent = missing(rows, catalogue)
        skipped = absent if allow_missing_classes else []
        found.append(pl.DataFrame([] if allow_missing_classes else list(map(told, absent)), VIOLATIONS, orient="row"))
    order = {rule: at for at, rule in enumerate(RULES)}
    violations = pl.concat(found).sort(pl.col("rule").replace_strict(order, return_dtype=pl.Int32), maintain_order=True)
    repeated = rows.select(pl.struct("text", *TASK).is_duplicated().sum()).item()
    distinct = rows.filter(pl.struct("text", *TASK).is_duplicated()).select("text", *TASK).n_unique()
    share = (repeated - distinct) / max(1, len(rows))
    return Findings(violations, tuple(skipped), share, shared(rows), len(rows))


def hold(findings: Findings) -> None:
    """Refuse documents that break a rule.

    Raises:
        ValueError: one line: each rule that is broken, how often, and the first rows.
    """
    if not len(findings.violations):
        return
    parts: list[str] = []
    for (rule,), held in findings.violations.group_by(["rule"], maintain_order=True):
        first = [origin or detail for origin, detail in held.head(TOLD).select("origin", "detail").iter_rows()]
        more = f" and {len(held) - TOLD:,} more" if len(held) > TOLD else ""
        parts.append(f"{RULES[str(rule)]} ({', '.join(first)}{more})")
    raise ValueError(f"{len(findings.violations):,} violations in {findings.rows:,} rows: {'; '.join(parts)}")


def told(absent: tuple[str, str, str]) -> tuple[str, str, str | None, str]:
    """Return a missing class as a violation."""
    split, task, option = absent
    return ("missing_class", task, None, f"{split} of task {task} lacks an option: {option}")


def violation(rows: pl.DataFrame, rule: str, detail: str) -> pl.DataFrame:
    """Return rows as VIOLATIONS of one rule."""
    return rows.select(pl.lit(rule).alias("rule"), pl.col("id"), pl.col("origin"), pl.lit(detail).alias("detail"))


def null(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows without what every row needs."""
    needed = ("document_id", "group_id", "text", "id")
    return violation(rows.filter(pl.any_horizontal(pl.col(needed).is_null())), "null", "a null")


def texts(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Return rows whose text says nothing, or that holds what no tokenizer reads."""
    return [
        violation(rows.filter(pl.col("text").str.strip_chars() == ""), "empty_text", "no word"),
        violation(rows.filter(pl.col("text").str.contains("\0", literal=True)), "nul_text", "a NUL character"),
    ]


def joined(rows: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Return rows with what the catalogue says of their id: subquestion, text type, options."""
    known = pl.DataFrame(
        [(q.id, q.subquestion, q.text_type, list(q.options)) for q in catalogue.questions],
        schema={"id": pl.String, "own_part": pl.String, "own_kind": pl.String, "options": pl.List(pl.String)},
        orient="row",
    )
    return rows.join(known, on="id", how="left", maintain_order="left")


def tasks(known: pl.DataFrame) -> list[pl.DataFrame]:
    """Return rows that differ from the catalogue."""
    there = known.filter(pl.col("options").is_not_null())
    labelled = there.filter(pl.col("label").is_not_null())
    inside = (pl.col("label") >= 0) & (pl.col("label") < pl.col("options").list.len())
    option = pl.col("options").list.get(pl.col("label"), null_on_oob=True)
    unlabelled = there.filter(pl.col("label").is_null() & pl.col("answer").is_not_null())
    return [
        violation(known.filter(pl.col("options").is_null() & pl.col("id").is_not_null()), "unknown_id", "another id"),
        violation(there.filter(pl.col("subquestion") != pl.col("own_part")), "subquestion", "another subquestion"),
        violation(there.filter(pl.col("text_type") != pl.col("own_kind")), "text_type", "another text_type"),
        violation(labelled.filter(~inside), "label", "out of range"),
        violation(unlabelled, "label", "no label for the answer"),
        violation(labelled.filter(inside & (pl.col("answer") != option)), "answer", "another option"),
    ]


def doubles(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Return rows of passages with two texts, and of questions with two answers."""
    texts = rows.filter(pl.col("text").n_unique().over(PASSAGE) > 1)
    # An answer is one's own: two edited passages are two documents.
    answers = rows.filter(pl.col("label").drop_nulls().n_unique().over("document_id", "text", *TASK) > 1)
    return [violation(texts, "two_texts", "two texts"), violation(answers, "two_answers", "two answers")]


def sides(rows: pl.DataFrame, split: str) -> list[pl.DataFrame]:
    """Return rows of no known split, and those of groups that stand on two sides.

    Raises:
        ValueError: another word for the split.
    """
    if split not in {"contract", "official"}:
        raise ValueError(f"split is {split}; expected contract or official")
    within = ["group_id"] if split == "contract" else ["group_id", *TASK]
    main = rows.filter(~pl.col("data_type").is_in(AUGMENT_ONLY))
    leaks = main.filter(pl.col("split").drop_nulls().n_unique().over(within) > 1)
    # Counterfactuals of a known group must not undo the split either; those of no group are in `rows` once a split.
    edits = rows.filter(pl.col("data_type").is_in(AUGMENT_ONLY) & (pl.col("split") == "train"))
    scored = main.filter(pl.col("split").is_in(SCORED)).select(within).unique()
    leaks = pl.concat([leaks, edits.join(scored, on=within, how="semi", maintain_order="left")])
    wrong = rows.filter(~pl.col("split").is_in(SPLITS) | pl.col("split").is_null())
    return [violation(wrong, "split", "no or another split"), violation(leaks, "leak", "on two sides")]


def augment(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows that may only be trained on and stand in the test split; dev rows are left out of every figure."""
    held = rows.filter(pl.col("data_type").is_in(AUGMENT_ONLY) & (pl.col("split") == "test"))
    return violation(held, "augment_only", "in the test split")


def missing(rows: pl.DataFrame, catalogue: Catalogue) -> list[tuple[str, str, str]]:
    """Return split, id and option where a task has main rows in a scored split, but none of one of its options."""
    main = rows.filter((pl.col("data_type") == "main") & pl.col("label").is_not_null())
    seen: dict[tuple[str, str], set[int]] = {}
    for split, task, label in main.select("split", "id", "label").unique().iter_rows():
        seen.setdefault((split, task), set()).add(label)
    return [
        (split, question.id, option)
        for split in SCORED
        for question in catalogue.questions
        if (split, question.id) in seen
        for at, option in enumerate(question.options)
        if at not in seen[split, question.id]
    ]


def shared(rows: pl.DataFrame, *, data_types: Sequence[str] = ("main",)) -> int:
    """Return how many texts stand in two splits, under two groups."""
    main = rows.filter(pl.col("data_type").is_in(data_types) & pl.col("split").is_not_null())
    held = main.group_by("text").agg(pl.col("split").n_unique(), pl.col("group_id").n_unique())
    return int(held.select(((pl.col("split") > 1) & (pl.col("group_id") > 1)).sum()).item())
