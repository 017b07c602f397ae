"""What words and numbers tell of premise and hypothesis: what is found, what is not, which way numbers point."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pipelines.rethink.text.splitting import sentences

Floats = npt.NDArray[np.float32]
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d[\d,]*(?:\.\d+)?")
COUNTS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBERS = {word: number for number, word in enumerate(COUNTS.split())}
MONTHS = frozenset(
    [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ]
)
DENIALS = frozenset(["not", "no", "never", "none", "neither", "nor", "without", "cannot", "nobody", "nothing"])
LIMITS = frozenset(["only", "all", "every", "always", "both", "exclusively", "solely", "entirely", "just"])
HEDGES = frozenset(
    ["some", "many", "most", "often", "usually", "several", "also", "other", "popular", "famous", "best"]
)
MORE = frozenset(["more", "over", "after", "later", "longer", "least", "above", "older", "larger", "exceeds", "since"])
LESS = frozenset(
    ["less", "under", "before", "earlier", "shorter", "fewer", "below", "younger", "smaller", "within", "most"]
)
FILLING = (
    "a an the of in on at to for and or by with from as is was were are be been being has have had do does did it its "
    "he she they them his her their this that these those which who whom than then there"
)
STOP = frozenset(FILLING.split())
BUCKETS = 4096
"""Of words by hash."""
NAMES = (
    "words", "found", "missing", "pairs_found", "row_found", "row_second", "numbers", "numbers_found", "months",
    "months_found", "names", "names_found", "denial", "limit", "hedge", "more", "less", "agrees", "disagrees", "counts",
    "same_number_row", "rows",
)  # fmt: skip
BLIND = ("words", "numbers", "months", "names", "denial", "limit", "hedge", "more", "less")
"""Of these, the ones that the hypothesis alone has."""


class Aligned(NamedTuple):
    """What is found of a pair.

    Attributes:
        value: in the order of NAMES, f32 [22].
        words: buckets of the hypothesis' words, i64 [n].
        missing: buckets of those that the premise does not have, i64 [m].
    """

    value: Floats
    words: npt.NDArray[np.int64]
    missing: npt.NDArray[np.int64]


def tokens(text: str) -> list[str]:
    """Return words and numbers, lower-cased, words cut to a stem of six letters at most, `9,300` as 9300."""
    return [_stem(found) for found in WORD.findall(text.lower())]


def _stem(word: str) -> str:
    if word[0].isdigit():
        return word.replace(",", "").rstrip(".")
    if word in MONTHS or len(word) <= 4:
        return word
    return re.sub(r"(?:ing|ed|es|s|ly|'s)$", "", word)[:6]


def number_of(token: str) -> float | None:
    """Return the number that a token is, in figures or as a word up to twelve."""
    if token in NUMBERS:
        return float(NUMBERS[token])
    try:
        return float(token)
    except ValueError:
        return None


def bucket(words: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return each word's place among BUCKETS, the same on every machine."""
    return np.array([crc32(word.encode()) % BUCKETS for word in words], dtype=np.int64)


class Premise(NamedTuple):
    """A premise taken apart: the tokens of each of its sentences, and the items that each lists."""

    rows: tuple[tuple[str, ...], ...]
    items: tuple[int, ...]
    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def take(text: str) -> Premise:
    """Return a premise taken apart."""
    said = sentences(text)
    rows = tuple(tuple(tokens(row)) for row in said)
    whole = [token for row in rows for token in row]
    return Premise(
        rows,
        tuple(row.count(",") + 1 for row in said),
        frozenset(whole),
        frozenset(pairwise(whole)),
    )


def align(premise: Premise, hypothesis: str) -> Aligned:
    """Return what a pair's words and numbers tell."""
    said = tokens(hypothesis)
    content = [token for token in said if token not in STOP]
    missing = [token for token in content if token not in premise.words]
    numbers = [(token, value) for token in said if (value := number_of(token)) is not None]
    months = [token for token in said if token in MONTHS]
    names = {_stem(word.lower()) for word in re.findall(r"(?<!^)\b[A-Z][a-z]+", hypothesis)} - MONTHS
    row_share = sorted((len(set(content) & set(row)) / max(len(set(content)), 1) for row in premise.rows), reverse=True)
    more, less = any(word in MORE for word in _plain(hypothesis)), any(word in LESS for word in _plain(hypothesis))
    agrees, disagrees, counted, same = compare(premise, content, numbers, more=more, less=less)
    value = {
        "words": len(content) / 10,
        "found": _share(len(content) - len(missing), len(content)),
        "missing": len(missing) / 5,
        "pairs_found": _share(sum(pair in premise.pairs for pair in pairwise(said)), len(said) - 1),
        "row_found": row_share[0] if row_share else 0.0,
        "row_second": row_share[1] if len(row_share) > 1 else 0.0,
        "numbers": len(numbers) / 2,
        "numbers_found": _share(sum(token in premise.words for token, _ in numbers), len(numbers)),
        "months": len(months),
        "months_found": _share(sum(token in premise.words for token in months), len(months)),
        "names": len(names) / 3,
        "names_found": _share(sum(token in premise.words for token in names), len(names)),
        "denial": any(word in DENIALS or word.endswith("n't") for word in _plain(hypothesis)),
        "limit": any(word in LIMITS for word in _plain(hypothesis)),
        "hedge": any(word in HEDGES for word in _plain(hypothesis)),
        "more": more,
        "less": less,
        "agrees": agrees,
        "disagrees": disagrees,
        "counts": counted,
        "same_number_row": same,
        "rows": len(premise.rows) / 10,
    }
    return Aligned(np.array([value[name] for name in NAMES], dtype=np.float32), bucket(said), bucket(missing))


def compare(
    premise: Premise, content: Sequence[str], numbers: Sequence[tuple[str, float]], *, more: bool, less: bool
) -> tuple[float, float, float, float]:
    """Return whether numbers of the row that fits best agree, disagree, count its items, or stand there as they are.

    A number is held against those of its own kind: years against years, others against others.
    """
    if not numbers or not premise.rows:
        return 0.0, 0.0, 0.0, 0.0
    held = [len(set(content) & set(row)) for row in premise.rows]
    best = int(np.argmax(held))
    there = [value for token in premise.rows[best] if (value := number_of(token)) is not None]
    agrees = disagrees = counts = same = 0.0
    for _, value in numbers:
        kin = [other for other in there if _year(other) == _year(value)]
        counts = max(counts, float(value == premise.items[best] and value > 1))
        same = max(same, float(value in there))
        if not kin:
            continue
        above, below = any(other > value for other in kin), any(other < value for other in kin)
        holds = (more and above) or (less and below) or (not more and not less and value in kin)
        agrees, disagrees = max(agrees, float(holds)), max(disagrees, float(not holds))
    return agrees, disagrees, counts, same


def _plain(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _year(value: float) -> bool:
    return 1000 <= value <= 2100 and value == int(value)


def _share(part: int, whole: int) -> float:
    """Return a share, 1 where there is nothing to be found."""
    return part / whole if whole > 0 else 1.0
