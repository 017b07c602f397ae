"""Features as columns of numbers; every statistic is of the training samples."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ehr.baselines.features import Features, Floats, Matrix

FEW = 10
"""Training samples in which a column must stand."""


class Design(NamedTuple):
    """How features become columns.

    Attributes:
        kept: which of the 3 V columns of tokens are used, i64 [C].
        counts: how many of these are counts, which stand first.
        mean: of the dense columns, f32 [D].
        spread: their standard deviation, f32 [D].
    """

    kept: npt.NDArray[np.int64]
    counts: int
    mean: Floats
    spread: Floats


class Columns(NamedTuple):
    """N samples as columns.

    Attributes:
        tokens: counts, recent counts and times since last, sparse f32 [N, C].
        dense: ages, totals and values, NaN where not measured, f32 [N, D].
        linear: counts, dense columns in standard deviations, whether each is missing, and bends of the effect of age,
            sparse f64 [N, counts + 2 D + 3].
    """

    tokens: Matrix
    dense: Floats
    linear: Matrix


def fit(found: Features) -> Design:
    """Take statistics of training samples."""
    tokens, dense = token_columns(found), dense_columns(found)
    kept = np.flatnonzero(np.bincount(tokens.indices, minlength=tokens.shape[1]) >= FEW)
    there = ~np.isnan(dense)
    count = np.maximum(there.sum(0), 1)
    centre = np.where(there, dense, 0).sum(0) / count
    spread = np.sqrt(np.where(there, (dense - centre) ** 2, 0).sum(0) / count)
    counts = int(np.searchsorted(kept, 2 * found.counts.shape[1]))
    spread = np.where(spread > 1e-6, spread, 1.0)
    return Design(kept, counts, centre.astype(np.float32), spread.astype(np.float32))


def apply(design: Design, found: Features) -> Columns:
    """Return columns of samples; a value that is missing is the mean, with a column that says so."""
    tokens = token_columns(found)[:, design.kept]
    dense = dense_columns(found)
    missing = np.isnan(dense)
    standard = np.clip(np.where(missing, 0, (dense - design.mean) / design.spread), -6, 6)
    age = found.plain[:, 0]
    bends = np.stack([np.maximum(age - knee, 0) / 20 for knee in (40, 60, 75)], 1)
    counts = tokens[:, : design.counts]
    linear = sparse.hstack([counts, *(sparse.csr_matrix(part) for part in (standard, missing, bends))], format="csr")
    return Columns(tokens, dense, linear.astype(np.float64))


def token_columns(found: Features) -> Matrix:
    """Return log(1 + count) of all time and of the last year, and times since last, f32 [N, 3 V]."""
    return sparse.hstack([found.counts.log1p(), found.recent.log1p(), found.since], format="csr")


def dense_columns(found: Features) -> Floats:
    """Return ages, logarithms of totals, and values, f32 [N, 6 + 2 L]."""
    plain = np.concatenate([found.plain[:, :1], np.log1p(np.maximum(found.plain[:, 1:], 0))], 1)
    return np.concatenate([plain, found.values], 1)
