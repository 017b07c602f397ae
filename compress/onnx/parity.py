"""How far two ways to the same numbers lie apart."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Parity(NamedTuple):
    """Differences of logits.

    Attributes:
        max_abs: the largest.
        mean_abs: their mean.
        samples: how many samples were compared.
    """

    max_abs: float
    mean_abs: float
    samples: int


def parity(reference: npt.NDArray[np.floating[Any]], candidate: npt.NDArray[np.floating[Any]]) -> Parity:
    """Compare logits; where one of the two is not finite, they lie infinitely far apart.

    Args:
        reference: [N, K, H].
        candidate: [N, K, H].

    Raises:
        ValueError: shapes differ, or nothing is compared.
    """
    if reference.shape != candidate.shape or not reference.size:
        raise ValueError(f"parity: shapes {reference.shape} and {candidate.shape}; expected the same, with samples")
    apart = np.abs(reference.astype(np.float64) - candidate.astype(np.float64))
    apart[~np.isfinite(apart)] = np.inf
    return Parity(float(apart.max()), float(apart.mean()), len(reference))


def enforce(found: Parity, tolerance: float) -> None:
    """Refuse logits that lie further apart than the tolerance.

    Raises:
        ValueError: they do.
    """
    if not found.max_abs <= tolerance:
        raise ValueError(
            f"parity: logits differ by up to {found.max_abs:.2g} over {found.samples:,} samples; expected at most "
            f"{tolerance:g}; nothing is released"
        )
