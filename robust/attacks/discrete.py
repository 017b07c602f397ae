"""Substitution of codes: beam search over edits that a closure applies (NumPy).

What an edit does, and which edits are plausible, is the caller's; here they are rows of a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
REPLACE, DELETE, INSERT = 0, 1, 2
NONE = -1


class Edits(NamedTuple):
    """M edits that may be made.

    Attributes:
        example: which example each changes, i64 [M].
        position: where, i64 [M]; an example takes one edit at a position.
        kind: 0 replace, 1 delete, 2 insert, i64 [M].
        token: what is put there, i64 [M]; unused where something is deleted.
        distance: how far that is from what stood there, such as steps in a tree of codes, f64 [M].
    """

    example: Ints
    position: Ints
    kind: Ints
    token: Ints
    distance: Floats


class Found(NamedTuple):
    """The best edits of each example at each budget.

    Attributes:
        gain: of the best choice of at most b edits, f64 [B, budget + 1]; never falls with b.
        picks: rows of the table of edits, i64 [B, budget + 1, budget], -1 where fewer were made.
        asked: questions to the network about each example, i64 [B].
    """

    gain: Floats
    picks: Ints
    asked: Ints


Score = Callable[[Ints, Ints], Floats]
"""Examples i64 [n] and their picks i64 [n, budget] -> what the attack raises, f64 [n]."""


@dataclass(frozen=True, kw_only=True)
class CodeAttack:
    """Beam search: each round adds one edit to the best choices of the round before."""

    budget: int = 3
    """Edits of an example, 1 or more."""
    top: int = 16
    """Edits tried in each round, the most promising ones."""
    beam: int = 3
    """Choices that each round starts from."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if min(self.budget, self.top, self.beam) < 1:
            raise ValueError("code attack: expected budget, top and beam from 1 on")

    def search(
        self, score: Score, edits: Edits, count: int, *, most: Ints | None = None, saliency: Floats | None = None
    ) -> Found:
        """Return the best edits of each example.

        Args:
            score: asks the network.
            edits: what may be done.
            count: B examples; some may have no edit.
            most: edits of each example at most, i64 [B], below the budget where it has few codes.
            saliency: how much each edit promises, f64 [M], as the product of gradient and change of embedding; where
                None, the network is asked about each edit alone (black box).
        """
        found = untouched(score, count, self.budget)
        if saliency is None:
            saliency = self.alone(score, edits)
            found.asked[:] += np.bincount(edits.example, minlength=count)
        tried = best_of(edits.example, saliency, count, self.top)
        limit = np.full(count, self.budget) if most is None else np.minimum(most, self.budget)
        beams = [[()] if len(tried[example]) else [] for example in range(count)]
        for number in range(1, self.budget + 1):
            found.gain[:, number] = found.gain[:, number - 1]
            found.picks[:, number] = found.picks[:, number - 1]
            open_beams = [beams[example] if limit[example] >= number else [] for example in range(count)]
            beams = self.round(score, edits, open_beams, tried, found, number)
        return found

    def alone(self, score: Score, edits: Edits) -> Floats:
        """Return what each edit alone gains, f64 [M]."""
        picks = np.full((len(edits.example), self.budget), NONE)
        picks[:, 0] = np.arange(len(edits.example))
        return score(edits.example, picks) if len(picks) else np.zeros(0)

    def round(
        self,
        score: Score,
        edits: Edits,
        beams: list[list[tuple[int, ...]]],
        tried: list[Ints],
        found: Found,
        number: int,
    ) -> list[list[tuple[int, ...]]]:
        """Add one edit to each choice, note what is best at this budget, and return the next choices."""
        choices: dict[tuple[int, tuple[int, ...]], None] = {}
        for example, beam in enumerate(beams):
            for chosen in beam:
                taken = {int(edits.position[pick]) for pick in chosen}
                for pick in tried[example]:
                    if int(edits.position[pick]) not in taken:
                        choices[example, tuple(sorted((*chosen, int(pick))))] = None
        if not choices:
            return [[] for _ in beams]
        example = np.array([at for at, _ in choices], dtype=np.int64)
        picks = np.full((len(choices), self.budget), NONE)
        picks[:, :number] = np.array([chosen for _, chosen in choices], dtype=np.int64)
        gain = score(example, picks)
        found.asked[:] += np.bincount(example, minlength=len(beams))
        after: list[list[tuple[int, ...]]] = []
        for at, rows in enumerate(best_of(example, gain, len(beams), self.beam)):
            after.append([tuple(int(pick) for pick in picks[row, :number]) for row in rows])
            if len(rows) and gain[rows[0]] > found.gain[at, number]:
                found.gain[at, number] = gain[rows[0]]
                found.picks[at, number] = picks[rows[0]]
        return after


def random_edits(score: Score, edits: Edits, count: int, *, budget: int, seed: int, most: Ints | None = None) -> Found:
    """Return one choice at random of each example at each budget: what the attack stands beside.

    Args:
        score: asks the network.
        edits: the same that the attack chooses from.
        count: B examples.
        budget: edits of an example.
        seed: of the choice; an example's choice hangs on its number alone.
        most: edits of each example at most, i64 [B].
    """
    found = untouched(score, count, budget)
    chosen = np.full((count, budget), NONE)
    for example, own in enumerate(best_of(edits.example, np.zeros(len(edits.example)), count, len(edits.example))):
        draw = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, example]))
        shuffled = own[draw.permutation(len(own))]
        _, first = np.unique(edits.position[shuffled], return_index=True)
        limit = budget if most is None else min(budget, int(most[example]))
        picked = shuffled[np.sort(first)][:limit]
        chosen[example, : len(picked)] = picked
    for number in range(1, budget + 1):
        picks = np.where(np.arange(budget) < number, chosen, NONE)
        found.gain[:, number] = score(np.arange(count), picks) if count else 0
        found.picks[:, number] = picks
    return found


def untouched(score: Score, count: int, budget: int) -> Found:
    """Return what is known before any edit."""
    nothing = np.full((count, budget), NONE)
    gain = np.zeros((count, budget + 1))
    if count:
        gain[:, 0] = score(np.arange(count), nothing)
    return Found(gain, np.full((count, budget + 1, budget), NONE), np.ones(count, dtype=np.int64))


def best_of(example: Ints, value: Floats, count: int, number: int) -> list[Ints]:
    """Return the rows of each example with the largest values, at most so many, the largest first."""
    order = np.lexsort((-value, example))
    ends = np.searchsorted(example[order], np.arange(count + 1))
    return [order[ends[at] : ends[at + 1]][:number] for at in range(count)]
