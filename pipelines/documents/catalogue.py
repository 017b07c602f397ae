"""The catalogue of questions: what is asked of which kind of passage, and the options to choose from."""

import hashlib
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from pipelines.documents.schema import NONE, OTHER, task_sheet

PART = re.compile(r"[-.]\d+$")
KEYS = ("id", "category", "text_type", "question", "options", "multi", "span")
EXPECTED = "a catalogue: `questions`, a list of id, category, text_type, question and options"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One task: a question, or one option of a question with several answers."""

    id: str
    """`10`, or `10-3` for sub-question 3 of question 10; always a string."""
    subquestion: str = NONE
    """The option asked for, where the question may have several answers."""
    category: str = ""
    """Under which it is counted in tables."""
    text_type: str
    """Of which passages it is asked."""
    question: str
    """In words; sub-questions share it."""
    options: tuple[str, ...]
    """At least two, all different; a label is a place among them."""
    multi: bool = False
    """Whether it is a sub-question."""
    span: bool = False
    """Whether the evidence is asked for too; nothing reads it yet."""

    def __post_init__(self) -> None:
        """Check words and options."""
        for name in ("id", "text_type", "question"):
            if not getattr(self, name).strip():
                raise ValueError(f"question {self.id!r}: {name} is empty; expected a few words")
        if len(self.options) < 2 or len(set(self.options)) != len(self.options):
            raise ValueError(f"question {self.id}: {len(self.options)} options; expected two or more, all different")
        if self.multi and len(self.options) != 2:
            raise ValueError(f"question {self.id}: a sub-question with {len(self.options)} options; expected two")

    @property
    def parent(self) -> str:
        """The question that a sub-question belongs to; its own id elsewhere. Figures are means over parents."""
        return PART.sub("", self.id) if self.subquestion != NONE else self.id


class Catalogue(NamedTuple):
    """Questions in the order of the reader's axis T."""

    questions: tuple[Question, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in order."""
        return tuple(question.id for question in self.questions)

    @property
    def parents(self) -> tuple[str, ...]:
        """The parent of each question, in order."""
        return tuple(question.parent for question in self.questions)

    @property
    def text_types(self) -> tuple[str, ...]:
        """Kinds of passages, in order of first mention."""
        return tuple(dict.fromkeys(question.text_type for question in self.questions))

    @property
    def num_options(self) -> npt.NDArray[np.int64]:
        """Options of each question, i64 [T]; C is the largest."""
        return np.array([len(question.options) for question in self.questions], np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it holds."""
        return hashlib.sha256(json.dumps(self.content(), ensure_ascii=False).encode()).hexdigest()

    def place(self) -> dict[str, int]:
        """Return the place of each id on the axis T."""
        return {question: at for at, question in enumerate(self.ids)}

    def asked(self) -> dict[str, tuple[int, ...]]:
        """Return the places of the questions asked of each text type."""
        found: dict[str, list[int]] = {}
        for at, question in enumerate(self.questions):
            found.setdefault(question.text_type, []).append(at)
        return {kind: tuple(places) for kind, places in found.items()}

    def content(self) -> list[dict[str, Any]]:
        """Return one mapping a question, as JSON and Parquet hold it (QUESTIONS)."""
        return [{**asdict(question), "options": list(question.options)} for question in self.questions]


def of(content: Sequence[Mapping[str, Any]]) -> Catalogue:
    """Return the catalogue whose content this is."""
    fields: list[dict[str, Any]] = [{**row, "options": tuple(row["options"])} for row in content]
    return checked([Question(**held) for held in fields])


def checked(questions: Sequence[Question]) -> Catalogue:
    """Return questions as a catalogue.

    Raises:
        ValueError: there is none, or an id stands twice.
    """
    if not questions:
        raise ValueError(f"no questions; expected {EXPECTED}")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"question {question.id} stands there twice; give each an id of its own")
        seen.add(question.id)
    return Catalogue(tuple(questions))


def load(path: Path) -> Catalogue:
    """Read a catalogue: YAML as people write it, or JSON as `content` gives it.

    A question with `multi: true` becomes a sub-question an option: `10` with three options becomes `10-0` to `10-2`.

    Raises:
        ValueError: the file cannot be read, a key is not known, or an id or option is no string.
    """
    try:
        text = path.read_text(encoding="utf-8")
        held: Any = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=Unique)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or 'cannot be read'}; expected {EXPECTED}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0][:100]}); expected {EXPECTED}") from None
    rows: Any = held.get("questions") if isinstance(held, dict) else held
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: no questions; expected {EXPECTED}")
    try:
        if path.suffix == ".json":
            return of(rows)
        return checked([question for row in rows for question in written(row)])
    except (TypeError, KeyError, AttributeError):
        raise ValueError(f"{path}: a question has other keys than a catalogue's; expected {EXPECTED}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def written(row: Any) -> Sequence[Question]:  # noqa: ANN401  whatever stands there
    """Return the tasks of one question of a YAML file.

    Raises:
        ValueError: a key is missing or not known, or an id or option is no string.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a question is {type(row).__name__}; expected id, category, text_type, question and options")
    unknown = [str(key) for key in row if key not in KEYS]
    missing = [key for key in ("id", "text_type", "question", "options") if key not in row]
    if unknown or missing:
        fault = f"key {unknown[0]} is not known" if unknown else f"key {missing[0]} is missing"
        raise ValueError(f"question {row.get('id', '?')}: {fault}; expected {', '.join(KEYS)}")
    if not isinstance(row["options"], list):
        raise ValueError(f"question {row['id']}: options is no list; expected a list of strings")
    words = {key: row[key] for key in ("id", "category", "text_type", "question") if key in row}
    for name, word in [*words.items(), *(("options", option) for option in row["options"])]:
        # Bare 10.10 is the number 10.1 to YAML, and a bare No is false.
        if not isinstance(word, str):
            raise ValueError(f"question {row['id']}: {name} holds {word}, no string; put it in quotes")
    for name in ("multi", "span"):
        if not isinstance(row.get(name, False), bool):
            raise ValueError(f"question {row['id']}: {name} is {row[name]}; expected true or false")
    if not row.get("multi", False):
        return of([row]).questions
    if len(set(row["options"])) != len(row["options"]):
        raise ValueError(f"question {row['id']}: options must all be different; take the second of two away")
    return of(
        [
            {**row, "id": f"{row['id']}-{at}", "subquestion": option, "options": [OTHER, option]}
            for at, option in enumerate(row["options"])
        ]
    ).questions


class Unique(yaml.SafeLoader):
    """Loads YAML and refuses a key that stands twice."""


def unique_mapping(loader: Unique, node: yaml.MappingNode) -> dict[Hashable, object]:
    """Return a mapping whose keys differ."""
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for at, key in enumerate(keys):
        if key in keys[:at]:
            raise ValueError(f"key {key} stands there twice in line {node.value[at][0].start_mark.line + 1}")
    return loader.construct_mapping(node, deep=True)


Unique.add_constructor("tag:yaml.org,2002:map", unique_mapping)


def from_frame(frame: pl.LazyFrame, questions: Mapping[str, str] | None = None) -> Catalogue:
    """Return the catalogue that documents imply: the options are the answers seen, in the order of their labels.

    For MAUD's own files, which carry no catalogue. A label between that nobody gave keeps its place, as `<LABEL k>`.

    Args:
        frame: DOCUMENTS of all splits.
        questions: words of questions by id; the id itself elsewhere.

    Raises:
        ValueError: a task has two answers for one label, or under two labels.
    """
    known = frame.filter(pl.col("label").is_not_null() & pl.col("answer").is_not_null())
    seen = known.group_by("id", "subquestion", "label").agg(
        pl.col("answer").min(), pl.col("answer").n_unique().alias("answers"), pl.col("text_type", "category").first()
    )
    rows = seen.sort("id", "label").collect()
    twice = rows.filter(pl.col("answers") > 1)
    if len(twice):
        raise ValueError(f"task {twice['id'][0]}: label {twice['label'][0]} has several answers; expected one a label")
    made: list[Question] = []
    for (name, subquestion), held in rows.group_by(["id", "subquestion"], maintain_order=True):
        options = [f"<LABEL {at}>" for at in range(max(2, 1 + int(held["label"].to_numpy().max())))]
        for at, answer in held.select("label", "answer").iter_rows():
            options[at] = answer
        made.append(
            Question(
                id=str(name),
                subquestion=str(subquestion),
                category=held["category"][0] or "",
                text_type=held["text_type"][0] or "passage",
                question=(questions or {}).get(str(name), str(name)),
                options=tuple(options),
                multi=subquestion != NONE,
            )
        )
    return checked(sorted(made, key=lambda question: natural(question.id)))


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts 9 before 10, and 10-9 before 10-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def legalbench(sheet: Path) -> Catalogue:
    """Return the catalogue of LegalBench's MAUD tasks, from their task pages."""
    return checked(
        [
            Question(id=task, category="LegalBench", text_type=task, question=question, options=tuple(options))
            for task, (question, options) in sorted(task_sheet(sheet).items())
        ]
    )


def complete(frame: pl.LazyFrame, catalogue: Catalogue) -> pl.LazyFrame:
    """Fill text_type, category, label and answer, where they are null, by the catalogue.

    Args:
        frame: DOCUMENTS.
        catalogue: questions; rows of others stay as they are, for the checks to name.
    """
    kinds = {question.id: question.text_type for question in catalogue.questions}
    categories = {question.id: question.category for question in catalogue.questions}
    options = pl.LazyFrame(
        [(q.id, at, option) for q in catalogue.questions for at, option in enumerate(q.options)],
        schema={"id": pl.String, "known_label": pl.Int64, "known_answer": pl.String},
        orient="row",
    )
    by_answer, by_label = options.rename({"known_answer": "answer"}), options.rename({"known_label": "label"})
    columns = frame.collect_schema().names()
    return (
        frame.with_columns(
            pl.col("text_type").fill_null(pl.col("id").replace_strict(kinds, default=None, return_dtype=pl.String)),
            pl.col("category").fill_null(pl.col("id").replace_strict(categories, default=None, return_dtype=pl.String)),
        )
        .join(by_answer, on=["id", "answer"], how="left", maintain_order="left")
        .with_columns(pl.col("label").fill_null(pl.col("known_label")))
        .join(by_label, on=["id", "label"], how="left", maintain_order="left")
        .with_columns(pl.col("answer").fill_null(pl.col("known_answer")))
        .select(columns)
    )
