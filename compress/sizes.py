"""How many bytes weights take: in full, packed, after zstd, and at the bound of entropy.  No torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from compress.packing import zstd
from compress.report import Sizes

Array = npt.NDArray[Any]
DENSER_AS_TRITS = 0.6
"""Share of zeros up to which five trits a byte (1.6 bit) are no larger than a bit and a sign (2 - zeros)."""


class Recovered(NamedTuple):
    """A matrix of three values a row.

    Attributes:
        codes: int8 [R, C] of -1, 0 and 1.
        scale: f32 [R], 0 or more.
    """

    codes: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]


def recovered(weight: Array) -> Recovered | None:
    """Return codes and scale of a matrix whose rows hold -a, 0 and a alone, to the last bit; None for another one.

    Args:
        weight: f32 [R, C].
    """
    size = np.abs(weight)
    scale = size.max(axis=1, initial=0).astype(np.float32)
    # A NaN equals nothing, so that a matrix with one is not ternary.
    if not bool(((weight == 0) | (size == scale[:, None])).all()) or not bool(np.isfinite(scale).all()):
        return None
    return Recovered(np.sign(weight).astype(np.int8), scale)


def measure(source: Mapping[str, Array] | Path | bytes) -> Sizes:
    """Measure weights by name, or a file as it is.

    Args:
        source: arrays by name, a file, or its content. Of arrays, `packed` is what the smallest of our forms takes
            (trits or bitmaps of ternary rows, bitmaps of pruned matrices, whole numbers else) and `zstd` is that of
            their bytes in f32. Of a file all but `zstd` is its length: a file does not tell what it holds.
    """
    if isinstance(source, Path):
        return measure(source.read_bytes())
    if isinstance(source, bytes):
        return Sizes(len(source), len(source), len(zstd(source)), float(len(source)))
    arrays = [np.asarray(array, dtype=np.float32) for array in source.values()]
    raw = sum(array.nbytes for array in arrays)
    content = b"".join(array.tobytes() for array in arrays)
    return Sizes(raw, sum(map(packed_bytes, arrays)), len(zstd(content)), sum(map(entropy_bytes, arrays)))


def whole(before: bytes, after: bytes, parts: Mapping[str, Array]) -> dict[str, Sizes]:
    """Return the sizes of a model file before and after, as `model before` and `model after`.

    Args:
        before: the file in f32.
        after: the file as a runtime opens it.
        parts: the weights, whose bound with the rest of the file is the bound of the whole.
    """
    first, last = measure(before), measure(after)
    rest = max(0, len(before) - sum(4 * array.size for array in parts.values()))
    bound = sum(entropy_bytes(np.asarray(array, np.float32)) for array in parts.values()) + rest
    return {"model before": first, "model after": Sizes(len(before), len(after), last.zstd, bound)}


def packed_bytes(array: Array) -> int:
    """Return the bytes of the smallest form of an array, scales included."""
    count = array.size
    zeros = count - int(np.count_nonzero(array))
    found = recovered(array) if array.ndim == 2 else None
    if found is not None:
        return min(-(-count // 5), -(-count // 8) + -(-(count - zeros) // 8)) + 4 * len(found.scale)
    return min(4 * count, -(-count // 8) + 4 * (count - zeros))


def entropy_bytes(array: Array) -> float:
    """Return the least bytes of a coder that takes the weights of an array one by one.

    Of ternary rows: n (-z log2 z - (1 - z) log2((1 - z) / 2)) bits for a share z of zeros, and 32 a scale; of others
    a kept weight takes its 32 bits.
    """
    count = array.size
    zeros = count - int(np.count_nonzero(array))
    found = recovered(array) if array.ndim == 2 else None
    if found is None:
        return (count * binary_entropy(zeros / max(count, 1)) + 32 * (count - zeros)) / 8
    return (count * binary_entropy(zeros / max(count, 1)) + (count - zeros) + 32 * len(found.scale)) / 8


def ternary_entropy(zeros: float) -> float:
    """Return bits a weight of independent ternary weights with equal signs: H(z) of a share z of zeros."""
    return binary_entropy(zeros) + 1 - zeros


def binary_entropy(share: float) -> float:
    """Return -p log2 p - (1 - p) log2(1 - p)."""
    return -sum(p * math.log2(p) for p in (share, 1 - share) if p > 0)
