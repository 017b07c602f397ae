"""Which patients train, tune, calibrate and are held out: by a hash of the subject, or as the source gives them."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.events import first_line

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
        ValueError: they are not four, negative, or do not add up.
    """
    given = tuple(float(fraction) for fraction in fractions)
    if len(given) != len(SPLITS) or min(given) < 0 or abs(sum(given) - 1) > 1e-6:
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


def halved(subjects: npt.NDArray[np.int64], splits: npt.NDArray[np.str_], *, seed: int = 0) -> npt.NDArray[np.str_]:
    """Return splits that a source gives, with half of the tuning patients, by hash, as calibration patients."""
    tuning = np.flatnonzero(splits == "tuning")
    at = np.array([fraction_of(int(subject), seed) for subject in subjects[tuning]], dtype=np.float64)
    found = splits.astype(f"<U{max(splits.dtype.itemsize // 4, len('calibration'))}")
    found[tuning[at >= 0.5]] = "calibration"
    return found


@lru_cache(maxsize=1)
def read(path: Path) -> pl.DataFrame:
    """Read a table of splits, parquet or CSV, sorted by subject (the columns of MEDS' subject_splits).

    Raises:
        ValueError: it cannot be read, lacks a column or names a subject twice.
    """
    try:
        table = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
        splits = table.select(pl.col("subject_id").cast(pl.Int64), pl.col("split").cast(pl.String)).drop_nulls()
    except (pl.exceptions.PolarsError, OSError) as error:
        why = first_line(error)
        raise ValueError(f"{path}: {why}; expected a table of subject_id and split, parquet or CSV") from None
    if splits["subject_id"].is_duplicated().any():
        raise ValueError(f"{path}: a subject stands in two rows; expected one split each")
    return splits.sort("subject_id")


def listed(subjects: npt.NDArray[np.int64], path: Path) -> npt.NDArray[np.str_]:
    """Return the split that a table names for each subject.

    Raises:
        ValueError: see `read`; or a subject is not in the table.
    """
    table = read(path)
    known = table["subject_id"].to_numpy()
    at = np.minimum(np.searchsorted(known, subjects), max(len(known) - 1, 0))
    missing = int((known[at] != subjects).sum()) if len(known) else len(subjects)
    if missing:
        raise ValueError(f"{path}: names no split for {missing} patients of the source; add them to the table")
    return table["split"].gather(at).to_numpy().astype(np.str_)
