"""Functions 1 to 3 of Rethinking with Retrieval (He, Zhang and Roth, arXiv 2301.00303), from support to one number."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.rethink.evidence import NONE, Support

Kind = Literal["f1", "f2", "f3", "similarity", "one"]
Aggregate = Literal["mean", "sum"]
Floats = npt.NDArray[np.float64]
SIMILAR, ENTAILED, CONTRADICTED = np.float32(0.5), np.float32(0.6), np.float32(0.99)
"""The thresholds of the paper; a value at a threshold counts as above it."""


def first(support: Support) -> Floats:
    """Return M where M >= 0.5, else E, less C, f64 [S]: for common sense and tables."""
    m, e, c = (np.asarray(column, dtype=np.float64) for column in support[:3])
    return np.where(support.similarity >= SIMILAR, m, e) - c


def second(support: Support) -> Floats:
    """Return M + E, f64 [S]: for facts with a time, where contradiction is not to be relied on."""
    return support.similarity.astype(np.float64) + support.entailment


def third(support: Support) -> Floats:
    """Return E where E >= 0.6, less C where C >= 0.99, f64 [S]: for gold evidence."""
    e, c = support.entailment, support.contradiction
    return np.where(e >= ENTAILED, e, 0).astype(np.float64) - np.where(c >= CONTRADICTED, c, 0)


def similarity(support: Support) -> Floats:
    """Return M, f64 [S]."""
    return support.similarity.astype(np.float64)


FUNCTIONS: dict[str, Callable[[Support], Floats]] = {
    "f1": first,
    "f2": second,
    "f3": third,
    "similarity": similarity,
    "one": lambda support: np.ones(len(support.candidate)),
}


def faithfulness(support: Support, kind: Kind, *, aggregate: Aggregate = "mean", missing: float = 0.0) -> float:
    """Return how faithful one path is to its evidence.

    Args:
        support: of its steps.
        kind: f1, f2 or f3 of the paper, `similarity` (M alone), or `one` (1 whatever the evidence: the majority vote).
        aggregate: `sum` as in the paper, which rewards long paths, or `mean` over all steps.
        missing: what a step without a candidate contributes; the paper's code has -1 for f2, by accident.

    Returns:
        The number; 0 for a path without steps, and 1 for `one` under `mean`.
    """
    if kind == "one" and aggregate == "mean":
        return 1.0
    if not len(support.candidate):
        return 0.0
    value = FUNCTIONS[kind](support)
    if kind != "one":
        value = np.where(support.candidate == NONE, missing, value)
    # Sorted, so that the order of steps does not reach the last bit.
    total = float(np.sort(value).sum())
    return total / len(value) if aggregate == "mean" else total


def every(supports: Sequence[Support], kind: Kind, *, aggregate: Aggregate = "mean", missing: float = 0.0) -> Floats:
    """Return the faithfulness of each path, f64 [P]."""
    return np.array([faithfulness(own, kind, aggregate=aggregate, missing=missing) for own in supports], dtype=float)
