"""Paths side by side as arrays: who answered what to which question, and ballots of two answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.rethink.paths import Path
from pipelines.rethink.sources import Ballot
from pipelines.rethink.voting import Ties, Vote, vote

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Poll(NamedTuple):
    """P paths of Q questions from K sources.

    Attributes:
        questions: ids, Q of them.
        sources: names, K of them, sorted.
        options: all possible answers, where they are known; two for ballots.
        question: row of its question, i64 [P].
        source: its source, i64 [P].
        answers: of each path, None where it states none.
        steps: number of its steps, i64 [P].
    """

    questions: tuple[str, ...]
    sources: tuple[str, ...]
    options: tuple[str, ...]
    question: Ints
    source: Ints
    answers: tuple[str | None, ...]
    steps: Ints

    def members(self) -> list[Ints]:
        """Return the paths of each question, in order."""
        order = np.argsort(self.question, kind="stable")
        edges = np.searchsorted(self.question[order], np.arange(1, len(self.questions)))
        return np.split(order, edges)


def poll(
    paths: Sequence[Path], questions: Sequence[str], options: Sequence[str], sources: Sequence[str] | None = None
) -> Poll:
    """Return paths as arrays.

    Args:
        paths: P, of known questions.
        questions: ids.
        options: all possible answers, or none.
        sources: those of an earlier fit; else those that the paths have.
    """
    known = tuple(sources) if sources is not None else tuple(sorted({path.source for path in paths}))
    place = {name: at for at, name in enumerate(questions)}
    source = {name: at for at, name in enumerate(known)}
    return Poll(
        tuple(questions),
        known,
        tuple(options),
        np.array([place[path.question_id] for path in paths], dtype=np.int64),
        np.array([source[path.source] for path in paths], dtype=np.int64),
        tuple(path.answer for path in paths),
        np.array([len(path.steps) for path in paths], dtype=np.int64),
    )


def ballot(held: Poll, support: Floats) -> Ballot:
    """Return the votes of sources on questions with two answers.

    Args:
        held: paths; `options` has two.
        support: of each path, f64 [P].

    Raises:
        ValueError: there are not two options.
    """
    if len(held.options) != 2:
        raise ValueError(f"{len(held.options)} possible answers; sources are weighed where there are two")
    sign = signs(held)
    shape = (len(held.questions), len(held.sources))
    number, sums = np.zeros(shape), np.zeros((4, *shape))
    at = (held.question, held.source)
    np.add.at(number, at, 1)
    for column, value in enumerate((sign, sign * support, np.abs(sign) * support, np.abs(sign))):
        np.add.at(sums[column], at, value)
    return Ballot(*(sums / np.where(number == 0, 1, number)))


def signs(held: Poll) -> Floats:
    """Return +1 for the first option, -1 for the second, 0 for no answer, f64 [P]."""
    meaning = {held.options[0]: 1.0, held.options[1]: -1.0}
    return np.array([0.0 if answer is None else meaning[answer] for answer in held.answers])


def votes(held: Poll, weights: Floats, *, ties: Ties = "half") -> list[Vote]:
    """Return the vote of each question under weights of its paths, f64 [P]."""
    made: list[Vote] = []
    for own in held.members():
        answers = [held.answers[at] for at in own.tolist()]
        made.append(vote(answers, weights[own].tolist(), ties=ties, options=held.options))
    return made
