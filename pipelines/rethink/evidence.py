"""Evidence for steps: who finds it, who judges it, and SUPPORT, from which all votes can be worked out again."""

from collections.abc import Sequence
from pathlib import Path as File
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.rethink.paths import Path, Step

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
SUPPORT = pl.Schema(
    {
        "question_id": pl.String(),
        "path_id": pl.String(),
        "step": pl.Int32(),
        "candidate_id": pl.String(),
        "rank": pl.Int32(),
        "similarity": pl.Float32(),
        "entailment": pl.Float32(),
        "contradiction": pl.Float32(),
    }
)
NONE = -1


class Candidate(NamedTuple):
    """A piece of evidence that was found for a step.

    Attributes:
        place: its row in the pool.
        text: what it says.
        found: how well it fits by the measure of who found it; higher is better.
    """

    place: int
    text: str
    found: float


class Support(NamedTuple):
    """How the evidence stands to the steps of one path, S of them.

    Attributes:
        similarity: M, of the most similar candidate, -1 to 1, f32 [S].
        entailment: E, probability that the candidate entails the step, f32 [S]; 0 where nothing judges it.
        contradiction: C, probability that it contradicts the step, f32 [S].
        candidate: row of the pool, -1 where no candidate was found, i64 [S].
        rank: of the candidate among those found, from 0, i32 [S]; -1 where none was.
    """

    similarity: Floats
    entailment: Floats
    contradiction: Floats
    candidate: Ints
    rank: npt.NDArray[np.int32]


class Retriever(Protocol):
    """Who finds evidence."""

    def retrieve(self, steps: Sequence[Step], without: Sequence[Ints], *, top: int) -> list[list[Candidate]]:
        """Return candidates of each step, best first, none of the rows of the pool that it must not see."""
        ...


class Scorer(Protocol):
    """Who judges evidence."""

    def support(self, steps: Sequence[Step], candidates: Sequence[Sequence[Candidate]]) -> Support:
        """Return how the best candidate of each step stands to it."""
        ...


def empty(steps: int) -> Support:
    """Return the support of steps for which nothing was found."""
    zeros = np.zeros(steps, dtype=np.float32)
    return Support(zeros, zeros.copy(), zeros.copy(), np.full(steps, NONE), np.full(steps, NONE, dtype=np.int32))


def gather(
    paths: Sequence[Path], retriever: Retriever, scorer: Scorer, without: Sequence[Ints], *, top: int = 10
) -> list[Support]:
    """Return the support of each path.

    Args:
        paths: P.
        retriever: finds candidates.
        scorer: judges them.
        without: of each path, the rows of the pool that it must not see.
        top: candidates a step.
    """
    steps = [step for path in paths for step in path.steps]
    hidden = [rows for path, rows in zip(paths, without, strict=True) for _ in path.steps]
    whole = scorer.support(steps, retriever.retrieve(steps, hidden, top=top))
    return divide(whole, [len(path.steps) for path in paths])


def divide(whole: Support, sizes: Sequence[int]) -> list[Support]:
    """Cut the support of all steps into that of paths."""
    edges = np.cumsum(sizes)[:-1]
    return [Support(*parts) for parts in zip(*(np.split(column, edges) for column in whole), strict=True)]


def table(paths: Sequence[Path], supports: Sequence[Support], ids: Sequence[str]) -> pl.DataFrame:
    """Return SUPPORT, a row a step.

    Args:
        paths: P.
        supports: of each.
        ids: names of the rows of the pool.
    """
    rows = [
        (path.question_id, path.path_id, at, ids[place] if place >= 0 else None, rank, m, e, c)
        for path, support in zip(paths, supports, strict=True)
        for at, (m, e, c, place, rank) in enumerate(zip(*(column.tolist() for column in support), strict=True))
    ]
    return pl.DataFrame(rows, schema=SUPPORT, orient="row")


def stored(paths: Sequence[Path], file: File, ids: Sequence[str]) -> list[Support]:
    """Return the support of each path as an earlier run left it, so that no model is needed.

    Raises:
        ValueError: the file is no SUPPORT, lacks a step, or cites what is not in the pool.
    """
    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{file}: cannot be read ({str(error).splitlines()[0][:100]}); expected SUPPORT") from None
    if frame.schema != SUPPORT:
        raise ValueError(f"{file}: expected the columns {', '.join(SUPPORT.names())}; found {', '.join(frame.columns)}")
    place = {name: at for at, name in enumerate(ids)}
    if unknown := set(frame["candidate_id"].drop_nulls()) - place.keys():
        raise ValueError(f"{file}: {len(unknown):,} candidates are not in the pool; give the facts it was made with")
    held = {(row[0], row[1], row[2]): row[3:] for row in frame.iter_rows()}
    made: list[Support] = []
    for path in paths:
        found = [held.get((path.question_id, path.path_id, at)) for at in range(len(path.steps))]
        if None in found:
            raise ValueError(f"{file}: a step of question {path.question_id} is missing; run without --support")
        rows = [row for row in found if row is not None]
        m, e, c = (np.array([row[at] for row in rows], dtype=np.float32) for at in (2, 3, 4))
        places = np.array([NONE if row[0] is None else place[row[0]] for row in rows], dtype=np.int64)
        made.append(Support(m, e, c, places, np.array([row[1] for row in rows], dtype=np.int32)))
    return made
