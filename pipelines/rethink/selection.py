"""Fact selection: steps that say the same are one cluster, whose best supported fact stands for all of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def clusters(embedding: npt.NDArray[np.float32], *, threshold: float = 0.8) -> npt.NDArray[np.int64]:
    """Return the cluster of each step, i64 [S]: that of the first earlier leader it is close to, else its own.

    Args:
        embedding: of unit length, f32 [S, width].
        threshold: least cosine to a cluster's leader, at equality too.
    """
    leaders: list[int] = []
    found = np.zeros(len(embedding), dtype=np.int64)
    for at, own in enumerate(embedding):
        close = [number for number, leader in enumerate(leaders) if float(own @ embedding[leader]) >= threshold]
        found[at] = close[0] if close else len(leaders)
        if not close:
            leaders.append(at)
    return found


def select(
    embedding: npt.NDArray[np.float32], value: Floats, candidate: npt.NDArray[np.int64], *, threshold: float = 0.8
) -> npt.NDArray[np.int64]:
    """Return the row of the pool that replaces each step's own, i64 [S].

    Steps of all paths of one question are clustered greedily; the fact of the best supported step takes the place of
    the others' (variant I of the paper). The order of steps decides nothing but equal support: the lower row wins.

    Args:
        embedding: of the steps of one question, unit length, f32 [S, width].
        value: support of each step by its own fact, f64 [S].
        candidate: its own fact, i64 [S]; -1 where none was found.
        threshold: see `clusters`.
    """
    # The best supported first, so that they lead.
    order = np.lexsort((candidate, -value))
    member = np.empty(len(value), dtype=np.int64)
    member[order] = clusters(embedding[order], threshold=threshold)
    chosen = candidate.copy()
    for number in np.unique(member).tolist():
        inside = [at for at in order.tolist() if member[at] == number and candidate[at] >= 0]
        if inside:
            chosen[member == number] = candidate[inside[0]]
    return chosen


def replaced(texts: Sequence[str], chosen: npt.NDArray[np.int64], facts: Sequence[str]) -> list[str]:
    """Return the steps with the facts that stand for them; a step without one stays as it is."""
    return [facts[int(row)] if row >= 0 else text for text, row in zip(texts, chosen.tolist(), strict=True)]
