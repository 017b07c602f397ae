"""Questions and recorded completions, read from JSON, JSON lines or plain text, gzipped or not."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

IDS = ("question_id", "qid", "id")


class Question(NamedTuple):
    """One question.

    Attributes:
        id: unique.
        text: as asked.
        answer: the right one, None where nobody knows.
        aliases: other ids under which the same text stands.
    """

    id: str
    text: str
    answer: str | None
    aliases: tuple[str, ...] = ()


class Completion(NamedTuple):
    """What a model said to a question.

    Attributes:
        question_id: of the question.
        source: which model and prompt.
        sample: number among the samples of one source.
        text: as it came.
    """

    question_id: str
    source: str
    sample: int
    text: str


def rows(path: Path) -> list[Any]:
    """Return the rows of a file: of one JSON list, of JSON lines, or lines of plain text (.txt).

    Raises:
        ValueError: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected .json, .jsonl or .txt, .gz or not")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{path}: cannot be read; expected UTF-8, gzipped where it ends in .gz") from None
    name = path.name.removesuffix(".gz")
    if name.endswith(".txt"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except ValueError:
            raise ValueError(f"{path}: not JSON; expected one list of objects, or an object a line") from None
    made: list[Any] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                made.append(json.loads(line))
            except ValueError:
                raise ValueError(f"{path}, line {number}: not JSON; expected an object a line") from None
    return made


def named(row: Any, path: Path, number: int, names: Sequence[str]) -> str:  # noqa: ANN401  a row of JSON
    """Return the first of some fields that a row has, as text.

    Raises:
        ValueError: it has none.
    """
    for name in names:
        if isinstance(row, Mapping) and row.get(name) is not None:
            return str(row[name])
    raise ValueError(f"{path}, row {number}: no {' or '.join(names)}; expected it in every row")


def read_questions(path: Path) -> list[Question]:
    """Read questions: an id, `question`, and `answer` where it is known (true and false are yes and no).

    A text that stands under several ids is one question, under the first.

    Raises:
        ValueError: a row lacks id or text, or one id has two texts.
    """
    made: dict[str, Question] = {}
    ids: dict[str, str] = {}
    for number, row in enumerate(rows(path), 1):
        name, text = named(row, path, number, IDS), named(row, path, number, ("question", "text"))
        if ids.setdefault(name, text) != text:
            raise ValueError(f"{path}: two questions under the id {name}; give each its own")
        answer = row.get("answer")
        said = {True: "yes", False: "no"}[answer] if isinstance(answer, bool) else answer
        if text in made:
            held = made[text]
            extra = () if name == held.id or name in held.aliases else (name,)
            made[text] = held._replace(aliases=held.aliases + extra)
        else:
            made[text] = Question(name, text, None if said is None else str(said))
    if not made:
        raise ValueError(f"{path}: holds no questions")
    return list(made.values())


def read_completions(path: Path, questions: Sequence[Question]) -> list[Completion]:
    """Read recorded completions: an id, `completion`, `source` or `model` and `prompt`, and `sample` where several.

    Where questions were merged because their text is the same, completions beyond the first of a source and sample are
    left out.

    Raises:
        ValueError: a question is unknown, a source lacks one, or two rows are one question's, source's and sample's;
            all are counted, the first ten named.
    """
    known = {name: own.id for own in questions for name in (own.id, *own.aliases)}
    merged = {own.id for own in questions if own.aliases}
    made: dict[tuple[str, str, int], Completion] = {}
    wrong: list[str] = []
    for number, row in enumerate(rows(path), 1):
        name = named(row, path, number, IDS)
        source = str(row["source"]) if row.get("source") else _source(row, path, number)
        if name not in known:
            wrong.append(f"unknown question {name}")
            continue
        key = (known[name], source, int(row.get("sample", 0)))
        if key in made and key[0] not in merged:
            wrong.append(f"question {name}: two completions of {source}, sample {key[2]}")
        made.setdefault(key, Completion(*key, named(row, path, number, ("completion", "text"))))
    sources = sorted({source for _, source, _ in made})
    held = {key[:2] for key in made}
    wrong += [
        f"question {q.id}: none of {source}" for q in questions for source in sources if (q.id, source) not in held
    ]
    if wrong or not made:
        shown = "; ".join(wrong[:10]) + ("; ..." if len(wrong) > 10 else "")
        raise ValueError(
            f"{path}: {len(wrong):,} completions do not fit the questions ({shown}); mend one of the files"
        )
    return list(made.values())


def _source(row: Mapping[str, Any], path: Path, number: int) -> str:
    """Return model and prompt as one name."""
    prompt = row.get("prompt")
    return named(row, path, number, ("model",)) + (f"/{prompt}" if prompt else "")
