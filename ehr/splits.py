"""Which patients train, tune, calibrate and are held out: by a hash of the subject, or as the source gives them."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "tuning", "calibration", "held_out")
FRACTIONS = (0.7, 0.1, 0.1, 0.1)
STEPS = 1 << 32


def fraction_of(subject: int, seed: int) -> float:
    """Return a number in [0, 1) that hangs on the seed and the subject alone (BLAKE2b)."""
    key = blake2b(f"{seed}/{subject}".encode(), digest_size=4).digest()
    return int.from_bytes(key, "big") / STEPS


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """Return four fractions that add up to 1.

    Raises:
        ValueError: they are not four, negative, or do not add up; or training gets none.
    """
    given = tuple(float(fraction) for fraction in fractions)
    if len(given) != len(SPLITS) or min(given) < 0 or abs(sum(given) - 1) > 1e-6 or given[0] <= 0:
        raise ValueError(f"fractions are {','.join(map(str, given))}; expected {','.join(SPLITS)} adding up to 1")
    return given


def by_hash(
    subjects: npt.NDArray[np.int64], *, fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> npt.NDArray[np.str_]:
    """Return the split of each subject: the same whoever else is in the cohort.

    Args:
        subjects: distinct subject ids, i64 [N].
        fractions: of train, tuning, calibration and held_out.
        seed: another seed, another split.
    """
    bounds = np.cumsum(fractions)[:-1]
    at = np.array([fraction_of(int(subject), seed) for subject in subjects], dtype=np.float64)
    return np.array(SPLITS)[np.searchsorted(bounds, at, side="right")]


def as_given(subjects: npt.NDArray[np.int64], split: str, *, seed: int = 0) -> npt.NDArray[np.str_]:
    """Return the split that a source gives; its tuning part is halved into tuning and calibration by hash."""
    if split != "tuning":
        return np.full(len(subjects), split)
    at = np.array([fraction_of(int(subject), seed) for subject in subjects], dtype=np.float64)
    return np.where(at < 0.5, "tuning", "calibration")
