"""Exact nearest neighbours over embeddings: blocked products, the k best of each block kept."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
FIRST = 4_096
"""Rows of the pool in the first product."""


class Near(NamedTuple):
    """The neighbours of each query, nearest first.

    Attributes:
        place: rows of the pool, i64 [Q, k]; -1 where there are fewer.
        similarity: inner products, f32 [Q, k]; -inf where there are fewer.
    """

    place: Ints
    similarity: Floats


def unit(embedding: Floats) -> Floats:
    """Return rows of length 1, so that the inner product is the cosine; a row of zeros stays."""
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    return (embedding / np.where(length == 0, 1, length)).astype(np.float32)


def nearest(
    query: Floats,
    pool: Floats,
    k: int,
    *,
    own: Ints | None = None,
    block: int = 65_536,
    queries: int = 256,
) -> Near:
    """Return the k rows of the pool with the greatest inner product, exactly; equal ones by their row.

    Memory beside the inputs is queries x block numbers.

    Args:
        query: f32 [Q, width].
        pool: f32 [N, width].
        k: neighbours, 1 or more.
        own: of each query, a row of the pool that is itself and is left out; -1 where it is not there.
        block: rows of the pool a product, at most.
        queries: rows of the queries a product.

    Raises:
        ValueError: the widths differ, or k is less than 1.
    """
    if query.shape[1] != pool.shape[1]:
        raise ValueError(f"queries have {query.shape[1]} numbers, the pool {pool.shape[1]}; embed both alike")
    if k < 1:
        raise ValueError(f"k = {k}: expected 1 or more neighbours")
    parts = [
        _block(query[at : at + queries], pool, k, None if own is None else own[at : at + queries], block)
        for at in range(0, len(query), queries)
    ]
    if not parts:
        return Near(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))
    return Near(np.concatenate([part.place for part in parts]), np.concatenate([part.similarity for part in parts]))


def _block(query: Floats, pool: Floats, k: int, own: Ints | None, block: int) -> Near:
    """Return the neighbours of a few queries.

    The k-th best so far is a bar that ever fewer rows pass, and only what passes is ranked. So blocks grow with what
    has been seen: small ones raise the bar, large ones are passed over once.
    """
    rows = len(query)
    best = np.full((rows, k), -np.inf, dtype=np.float32)
    place = np.full((rows, k), -1, dtype=np.int64)
    begin = 0
    while begin < len(pool):
        end = begin + min(block, max(begin, FIRST))
        found = query @ pool[begin:end].T
        if own is not None:
            inside = np.flatnonzero((own >= begin) & (own < begin + found.shape[1]))
            found[inside, own[inside] - begin] = -np.inf
        _merge(best, place, found, begin)
        begin = end
    return Near(place, best)


def _merge(best: Floats, place: Ints, found: Floats, begin: int) -> None:
    """Put what beats the k-th best of each query in its place, in order."""
    rows, width, k = len(best), found.shape[1], best.shape[1]
    passed = np.flatnonzero(found > best[:, -1:])
    edges = np.searchsorted(passed, np.arange(rows + 1) * width)
    for row in np.flatnonzero(np.diff(edges)).tolist():
        mine = passed[edges[row] : edges[row + 1]] - row * width
        values = found[row, mine]
        if len(mine) > k:
            # Ties with the k-th stay in, and are settled below by their row.
            enough = values >= np.partition(values, len(values) - k)[len(values) - k]
            mine, values = mine[enough], values[enough]
        both = np.concatenate([best[row], values])
        held = np.concatenate([place[row], mine + begin])
        # Stable: earlier rows of the pool stand first among equals.
        kept = np.argsort(-both, kind="stable")[:k]
        best[row], place[row] = both[kept], held[kept]
