"""The table of questions asked of passages, read from MAUD's files, from LegalBench's, or from one's own."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

NONE = "<NONE>"
"""Subquestion of a question that has none."""
OTHER = "<OTHER>"
"""Option 0 of a sub-question: its own option is not among the answers."""
RARE = "<RARE_ANSWERS>"
"""Contract name of MAUD's counterfactual edits."""
AUGMENT_ONLY = ("rare_answers", "synthetic")
"""Values of data_type that may be trained on, and are never scored."""
SPLITS = ("train", "dev", "test")
DOCUMENTS = pl.Schema(
    {
        "document_id": pl.String,
        "group_id": pl.String,
        "text": pl.String,
        "text_type": pl.String,
        "id": pl.String,
        "subquestion": pl.String,
        "answer": pl.String,
        "label": pl.Int64,
        "category": pl.String,
        "data_type": pl.String,
        "split": pl.String,
        "origin": pl.String,
    }
)
"""One row a passage and question. A passage is a document_id and a text_type: it has one text. `id` names the task:
`10-3` is sub-question 3 of question 10. What is not known is null. `origin` says which row of which file it was."""
TASK = ("id", "subquestion")
PASSAGE = ("document_id", "text_type")
MAUD = (
    "data_type",
    "contract_name",
    "text",
    "answer",
    "label",
    "question",
    "subquestion",
    "text_type",
    "id",
    "category",
)
NEEDED = ("document_id", "group_id", "text", "id")
SHEET = "task_prompts.jsonl"
EXPECTED = "MAUD's CSV files, LegalBench's MAUD JSONL, or DOCUMENTS as .parquet, .jsonl or .csv"


def read(path: Path) -> pl.LazyFrame:
    """Return documents as DOCUMENTS with the file's own further columns dropped.

    MAUD's three CSV files come with their split; `document_id` is the contract with a digest of the passage, since
    one contract answers one question on its passage and on the abridged passage too. `group_id` is the contract.
    Ids are never read as numbers: `10.10` stays `10.10`.

    Args:
        path: a folder or a file; see EXPECTED.

    Raises:
        ValueError: no such file, none that can be read, or a column is missing.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; expected {EXPECTED}")
    files = [path] if path.is_file() else files_of(path)
    if not files:
        raise ValueError(f"{path}: holds no documents; expected {EXPECTED}")
    return pl.concat([read_file(file) for file in files])


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that hold documents, train before dev before test."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix in {".csv", ".parquet", ".jsonl"}]
    found = [path for path in found if path.name != SHEET]
    return sorted(found, key=lambda path: (SPLITS.index(split_of(path) or SPLITS[0]), path.name))


def split_of(path: Path) -> str | None:
    """Return the split that a file's name ends with, as in MAUD_dev.csv, or None."""
    word = re.split(r"[^a-z]+", path.stem.lower())[-1]
    return word if word in SPLITS else None


def read_file(path: Path) -> pl.LazyFrame:
    """Return one file as DOCUMENTS.

    Raises:
        ValueError: it cannot be read, or a column is missing.
    """
    try:
        frame = scan(path)
        columns = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({first_line(error)}); expected {EXPECTED}") from None
    if "task" in columns and "index" in columns:
        return legalbench(frame, path.parent / SHEET, path.name)
    if "contract_name" in columns:
        missing = [name for name in MAUD if name not in columns]
        frame = maud(frame) if not missing else frame
    else:
        missing = [name for name in NEEDED if name not in columns]
        missing += [] if {"answer", "label"} & set(columns) else ["answer"]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; found {', '.join(columns)}; add or rename")
    split = split_of(path)
    given = frame if "split" in frame.collect_schema() else frame.with_columns(pl.lit(split, pl.String).alias("split"))
    return conform(given, path.name)


def scan(path: Path) -> pl.LazyFrame:
    """Return a file's own columns, those of text files as strings."""
    if path.suffix == ".parquet":
        return pl.scan_parquet(path)
    if path.suffix == ".jsonl":
        return pl.DataFrame(list(json_rows(path)), infer_schema_length=None, strict=False).lazy()
    if path.suffix == ".csv":
        return pl.scan_csv(path, infer_schema=False)
    raise ValueError(f"{path}: unknown kind of file; expected {EXPECTED}")


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file.

    Raises:
        ValueError: a line is no JSON object; an id is a number, which would lose its last zero.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row: Any = json.loads(line)
            except ValueError:
                raise ValueError(f"{path}: line {number} is no JSON; expected one object a line") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}: line {number} is no object; expected one object a line")
            if not isinstance(row.get("id", ""), str):
                raise ValueError(f"{path}: id in line {number} is a number; expected a string: put it in quotes")
            yield row


def maud(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return MAUD's columns with ours beside them."""
    return frame.with_columns(
        pl.concat_str("contract_name", text_digest(pl.col("text")), separator="#").alias("document_id"),
        pl.col("contract_name").alias("group_id"),
    )


def conform(frame: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return a frame with the columns of DOCUMENTS, what is missing filled, numbered from 1.

    Args:
        frame: NEEDED at least.
        name: what `origin` says before the number.
    """
    held = frame.collect_schema()
    filled = frame.with_columns(
        *(pl.lit(None, kind).alias(column) for column, kind in DOCUMENTS.items() if column not in held)
    )
    if "origin" not in held:
        number = pl.int_range(1, pl.len() + 1).cast(pl.String)
        filled = filled.with_columns((pl.lit(f"{name} row ") + number).alias("origin"))
    return filled.with_columns(
        pl.col("subquestion").fill_null(NONE),
        pl.col("data_type").fill_null("main"),
        # A label that is no number is null here, and named by the checks.
        pl.col("label").cast(pl.Int64, strict=False),
    ).select(pl.col(column).cast(kind) for column, kind in DOCUMENTS.items())


def legalbench(frame: pl.LazyFrame, sheet: Path, name: str) -> pl.LazyFrame:
    """Return LegalBench's MAUD rows: letters become options by the task sheet beside them.

    Neither contract nor text type is told: passages of one text are one group, and each task has its own text type.

    Raises:
        ValueError: there is no task sheet, or it lacks a task.
    """
    options = {task: found for task, (_, found) in task_sheet(sheet).items()}
    rows = frame.collect()
    unknown = sorted(set(rows["task"]) - set(options))
    if unknown:
        raise ValueError(f"{sheet}: no options for task {unknown[0]}; expected a row for each task of {name}")
    label = [ord(str(letter).strip()[:1] or "?") - ord("A") for letter in rows["answer"]]
    answer = [
        options[task][at] if 0 <= at < len(options[task]) else None
        for task, at in zip(rows["task"], label, strict=True)
    ]
    digest = text_digest(pl.col("text"))
    made = rows.with_columns(
        pl.concat_str(digest, "index", separator="#").alias("document_id"),
        digest.alias("group_id"),
        pl.col("task").alias("id"),
        pl.col("task").alias("text_type"),
        pl.Series("answer", answer, pl.String),
        pl.Series("label", label, pl.Int64),
        pl.lit("LegalBench").alias("category"),
    )
    return conform(made.lazy(), name)


def task_sheet(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Return question and options of each LegalBench task.

    Raises:
        ValueError: the file is missing, or a task's page lists no options.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected LegalBench's task pages, which say what the letters mean")
    found: dict[str, tuple[str, list[str]]] = {}
    for row in json_rows(path):
        page = str(row["readme"])
        question = re.search(r"```text\s*Question:\s*(.*?)\s*```", page, re.DOTALL)
        listed = re.search(r"```text\s*Options:\s*(.*?)\s*```", page, re.DOTALL)
        options = re.findall(r"^([A-Z]): (.*)$", listed[1], re.MULTILINE) if listed else []
        if question is None or [letter for letter, _ in options] != [chr(65 + at) for at in range(len(options))]:
            raise ValueError(f"{path}: page of {row['task']} lists no options A, B, ...; take the file as released")
        found[str(row["task"])] = (question[1], [text.strip() for _, text in options])
    return found


def text_digest(text: pl.Expr) -> pl.Expr:
    """Return the first 12 hexadecimal digits of the SHA-256 of each text."""
    return text.map_elements(digest_of, pl.String)


def digest_of(text: str) -> str:
    """Return the first 12 hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, without what it quotes of the file."""
    lines = str(error).strip().splitlines()
    return lines[0][:100] if lines else type(error).__name__
