"""Pools of facts: read, told apart by their question, and known by a digest.  No torch."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipelines.rethink.evidence import Candidate, Ints
from pipelines.rethink.paths import Step
from pipelines.rethink.text.files import IDS, Question, named, rows

Kind = Literal["bm25", "dense", "hybrid"]


class Pool(NamedTuple):
    """Facts to look for evidence in.

    Attributes:
        ids: unique names.
        texts: what they say.
        owners: the question that each was written for, None where it was written for none.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    owners: tuple[str | None, ...]


def read_pool(path: Path) -> Pool:
    """Read facts: plain lines, rows with `text` or `fact`, or questions with their own `facts`.

    Raises:
        ValueError: there are none, or two share an id.
    """
    ids, texts, owners = list[str](), list[str](), list[str | None]()
    for number, row in enumerate(rows(path), 1):
        if isinstance(row, Mapping) and isinstance(row.get("facts"), list):
            owner: str | None = named(row, path, number, IDS)
            own = [str(fact) for fact in row["facts"]]
            names = [f"{owner}:{at}" for at in range(len(own))]
        elif isinstance(row, str):
            owner, own, names = None, [row], [str(number)]
        else:
            own = [named(row, path, number, ("text", "fact"))]
            names = [str(row.get("id", number))]
            owner = None if row.get("question_id") is None else str(row["question_id"])
        ids += names
        texts += own
        owners += [owner] * len(own)
    if not ids:
        raise ValueError(f"{path}: holds no facts")
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"{path}: {len(twice):,} ids stand twice, such as {twice[0]}; give each fact its own")
    return Pool(tuple(ids), tuple(texts), tuple(owners))


def pool_digest(texts: Sequence[str]) -> str:
    """Return the SHA-256 of a pool, each text with its length before it."""
    found = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        found.update(len(content).to_bytes(8, "big") + content)
    return found.hexdigest()


def given(steps: Sequence[Step], rows: Sequence[Ints], texts: Sequence[str]) -> list[list[Candidate]]:
    """Return the rows named for each step as its candidates: a question's own facts, or another's."""
    return [[Candidate(at, texts[int(at)], 0.0) for at in own.tolist()] for _, own in zip(steps, rows, strict=True)]


def own_rows(pool: Pool, questions: Sequence[Question]) -> list[Ints]:
    """Return of each question the facts that were written for it."""
    known = {name: at for at, own in enumerate(questions) for name in (own.id, *own.aliases)}
    held: list[list[int]] = [[] for _ in questions]
    for row, owner in enumerate(pool.owners):
        if owner is not None and owner in known:
            held[known[owner]].append(row)
    return [np.array(own, dtype=np.int64) for own in held]


def same_text(pool: Pool, owned: Sequence[Ints]) -> list[Ints]:
    """Return of each question its own facts and all others that say the same, word by word."""
    said: dict[str, list[int]] = {}
    for row, text in enumerate(pool.texts):
        said.setdefault(" ".join(text.lower().split()), []).append(row)
    keys = [" ".join(text.lower().split()) for text in pool.texts]
    return [
        np.array(sorted({twin for row in own.tolist() for twin in said[keys[row]]}), dtype=np.int64) for own in owned
    ]
