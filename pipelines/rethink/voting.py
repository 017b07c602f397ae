"""The vote of paths: weights added up by answer, ties stated."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Ties = Literal["half", "wrong", "first"]


class Vote(NamedTuple):
    """What the paths of one question decide.

    Attributes:
        answer: of the greatest weight; None where several are tied or none was given.
        tied: the answers of the greatest weight, sorted; one where there is no tie.
        share: of each answer in the sum of absolute weights; equal shares where all weights are 0.
        unparsed: paths that state no answer.
    """

    answer: str | None
    tied: tuple[str, ...]
    share: Mapping[str, float]
    unparsed: int


def vote(
    answers: Sequence[str | None],
    weights: Sequence[float],
    *,
    ties: Ties = "half",
    options: Sequence[str] = (),
) -> Vote:
    """Return argmax_P sum_i 1[P_i = P] w_i.

    The sums are exactly rounded, so that no order of paths makes or breaks a tie.

    Args:
        answers: of N paths; None abstains.
        weights: of each, any finite number.
        ties: `half` and `wrong` leave a tie open, `first` gives it to the earliest path's answer.
        options: all possible answers, where they are few: they are tied where no path states one.

    Raises:
        ValueError: a weight is not finite.
    """
    if not all(math.isfinite(weight) for weight in weights):
        raise ValueError("weights of paths: expected finite numbers")
    parts: dict[str, list[float]] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            parts.setdefault(answer, []).append(weight)
    unparsed = sum(answer is None for answer in answers)
    if not parts:
        equal = dict.fromkeys(options, 1 / len(options)) if options else {}
        return Vote(None, tuple(sorted(options)), equal, unparsed)
    total = {answer: math.fsum(held) for answer, held in parts.items()}
    best = max(total.values())
    tied = tuple(sorted(answer for answer, value in total.items() if value == best))
    whole = math.fsum(abs(value) for value in total.values())
    share = {answer: value / whole if whole else 1 / len(total) for answer, value in total.items()}
    earliest = next(answer for answer in total if answer in tied)
    return Vote(earliest if len(tied) == 1 or ties == "first" else None, tied, share, unparsed)


def credit(held: Vote, truth: str, *, ties: Ties = "half") -> float:
    """Return 1 for the right answer, 0 for a wrong one; under `half` a tie that holds it gives its share."""
    if held.answer is not None:
        return float(held.answer == truth)
    return 1 / len(held.tied) if ties == "half" and truth in held.tied else 0.0


def clipped(weights: Sequence[float]) -> list[float]:
    """Return weights at least 0: a contradicted path is not heard, rather than counted against its own answer."""
    return [max(0.0, weight) for weight in weights]
