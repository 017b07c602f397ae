"""Whether counts of one group of patients differ from those of another by more than chance: exact, and many at once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.quality.digest import Counts, Digest

ALPHA = 0.01
"""Chance that a report on patients like those learnt from raises any alarm, at most."""
LEAST = 5
"""A question is asked where at least so many patients of the two groups together stand on either side of a cut."""
STEPS = 100_000
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Question(NamedTuple):
    """One cut of one table: how many of each group lie at or below it.

    Attributes:
        kind: of the table.
        name: of the table.
        cut: the value.
        below: patients of the reference at or below it.
        of: patients of the reference.
        seen_below: of the others.
        seen_of: the others.
    """

    kind: str
    name: str
    cut: float
    below: int
    of: int
    seen_below: int
    seen_of: int

    @property
    def share(self) -> float:
        """Share of the reference above the cut."""
        return 1 - self.below / self.of

    @property
    def seen_share(self) -> float:
        """Share of the others above the cut."""
        return 1 - self.seen_below / self.seen_of


class Finding(NamedTuple):
    """A table at the cut where the groups differ most.

    Attributes:
        question: the cut.
        chance: p-value of the table among all that were asked: Bonferroni within its family, times the families.
    """

    question: Question
    chance: float


def questions(reference: Digest, seen: Digest) -> list[Question]:
    """Return every cut at which two digests can be compared; what one of them lacks is in bin 0 there.

    Args:
        reference: of the patients learnt from; its cuts are asked about.
        seen: of others, with at least the same cuts.
    """
    found: list[Question] = []
    for (kind, name), held in reference.tables.items():
        other = seen.tables.get((kind, name))
        if other is None and kind in ("code", "feed"):
            other = Counts(held.cuts, (seen.everyone, *(0 for _ in held.cuts)))
        if other is None or not sum(other.patients) or not sum(held.patients):
            continue
        below = np.cumsum(held.patients)
        found += [
            Question(kind, name, cut, int(below[i]), int(below[-1]), at_or_below(other, cut), sum(other.patients))
            for i, cut in enumerate(held.cuts)
        ]
    return [held for held in found if LEAST <= held.below + held.seen_below <= held.of + held.seen_of - LEAST]


def at_or_below(counts: Counts, cut: float) -> int:
    """Return how many patients lie at or below a cut that the table has."""
    place = int(np.searchsorted(counts.cuts, cut))
    assert place < len(counts.cuts), "the other digest lacks this cut"
    assert counts.cuts[place] == cut, "the other digest lacks this cut"
    return sum(counts.patients[: place + 1])


def chances(asked: Sequence[Question]) -> Floats:
    """Return two-sided p-values, f64 [N]: twice the tail of the hypergeometric distribution, at most 1.

    Were the groups drawn from one population, the patients at or below a cut would be divided between them as a
    draw without replacement divides them (Fisher 1935): no estimate and no large sample is asked for.
    """
    if not asked:
        return np.zeros(0)
    a, of, b, size = (
        np.array([getattr(held, name) for held in asked], np.int64) for name in ("below", "of", "seen_below", "seen_of")
    )
    marked, total = a + b, of + size
    # The tail away from the mean: of those above it the unmarked are counted, whose lower tail it is.
    above = b * total > size * marked
    tail = lower_tail(np.where(above, size - b, b), np.where(above, total - marked, marked), size, total)
    return np.minimum(1.0, 2 * tail)


def lower_tail(x: Ints, marked: Ints, drawn: Ints, total: Ints) -> Floats:
    """Return P(X <= x) where `drawn` of `total` are drawn of which `marked` are marked, f64 [N].

    Args:
        x: at most the mean, `drawn` times `marked` over `total`; below it each probability is less than the next.
        marked: i64 [N].
        drawn: i64 [N].
        total: i64 [N].
    """
    term = np.exp(log_mass(x, marked, drawn, total))
    found, at = term.copy(), x.astype(np.float64)
    kept, taken, whole = (part.astype(np.float64) for part in (marked, drawn, total))
    for _ in range(STEPS):
        # p(x - 1) / p(x); 0 where x is the least there can be.
        term = term * at * (whole - kept - taken + at) / ((kept - at + 1) * (taken - at + 1))
        at = at - 1
        found = found + term
        if (term <= 1e-15 * found).all():
            break
    return np.minimum(found, 1.0)


def log_mass(x: Ints, marked: Ints, drawn: Ints, total: Ints) -> Floats:
    """Return log P(X = x), f64 [N]."""

    def choose(n: Ints, k: Ints) -> Floats:
        return log_factorial(n) - log_factorial(k) - log_factorial(n - k)

    return choose(marked, x) + choose(total - marked, drawn - x) - choose(total, drawn)


def log_factorial(n: Ints) -> Floats:
    """Return log n! by Stirling's series, exact to rounding, f64 [N]; small numbers by the table."""
    small = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 32)))])
    held = np.maximum(n, 31).astype(np.float64)
    series = 1 / (12 * held) - 1 / (360 * held**3) + 1 / (1260 * held**5)
    return np.where(
        n < 32, small[np.minimum(n, 31)], held * np.log(held) - held + np.log(2 * np.pi * held) / 2 + series
    )


def findings(asked: Sequence[Question], families: Mapping[str, str], *, others: int = 0) -> list[Finding]:
    """Return each table at its most telling cut, with a chance that holds for all of them together.

    Families share the bearable chance evenly, so that thousands of codes do not drown one score; within a family the
    number of its questions multiplies each p-value (Bonferroni), however they hang together.

    Args:
        asked: questions.
        families: family by kind.
        others: families that are asked elsewhere and share the chance.

    Returns:
        The least likely first.
    """
    alone = chances(asked)
    family = [families[held.kind] for held in asked]
    sizes = {name: family.count(name) for name in set(family)}
    best: dict[tuple[str, str], Finding] = {}
    for held, chance, name in zip(asked, alone.tolist(), family, strict=True):
        joint = min(1.0, chance * sizes[name] * (len(sizes) + others))
        key = (held.kind, held.name)
        if key not in best or joint < best[key].chance or (joint == best[key].chance and apart(held, best[key])):
            best[key] = Finding(held, joint)
    return sorted(best.values(), key=lambda found: (found.chance, -distance(found.question), found.question[:2]))


def distance(held: Question) -> float:
    """Return by how much the shares above the cut differ."""
    return abs(held.share - held.seen_share)


def apart(held: Question, best: Finding) -> bool:
    """Tell whether a question sets the groups further apart."""
    return distance(held) > distance(best.question)
