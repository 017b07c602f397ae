"""Calibration of logits, by outcome: Platt's line, or a monotone piecewise-linear map where positives are many."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FEW, MANY = 10, 500
"""Positives (and negatives) under which nothing is fitted, and positives from which the isotonic map is."""
FLAT = 0.05
"""Smallest slope: a map that falls, or is flat, would turn or lose the order of patients."""
BINS, BIN_POSITIVES = 64, 20
"""Bins of the isotonic map at most, and positives (or negatives, where those are fewer) a bin on average."""
SPREAD_SLOPE, SPREAD_INTERCEPT = 1.0, 3.0
"""Standard deviations of the Gaussian prior around slope 1 and intercept 0."""


class Calibration(NamedTuple):
    """A rising map of logits by outcome: slope·z + intercept + sum_j slopes_j·clip(z - knots_j, 0, widths_j).

    Attributes:
        slope: above 0, f32 [K].
        intercept: f32 [K].
        knots: where the j-th piece begins, f32 [K, J], J from 1 to 64.
        widths: length of the piece, 0 where an outcome has fewer pieces, f32 [K, J].
        slopes: what the piece adds to `slope`, above -slope, f32 [K, J].
    """

    slope: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float32]
    knots: npt.NDArray[np.float32]
    widths: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float32]


def identity(num_outcomes: int) -> Calibration:
    """Return the calibration that leaves logits as they are."""
    ones, zeros = np.ones(num_outcomes, np.float32), np.zeros((num_outcomes, 1), np.float32)
    return Calibration(ones, zeros[:, 0], zeros, zeros, zeros)


def fit(logit: npt.NDArray[np.floating[Any]], label: npt.NDArray[np.floating[Any]]) -> Calibration:
    """Fit one map an outcome, shared over its horizons.

    Under 10 positives or 10 negatives the logits stay as they are. From there on it is Platt's line
    (Platt 1999), with a weak prior around the identity; from 500 positives (and negatives) a monotone map through
    the frequencies of at most 64 bins of equal information, with Platt's slope beyond its ends, so that no two
    patients are tied by it.

    Args:
        logit: of the network, f32 [N, K, H].
        label: 0 or 1, NaN where not known or no such horizon, f32 [N, K, H].

    Raises:
        ValueError: shapes differ, a label is another number, or a labelled logit is not finite.
    """
    if logit.shape != label.shape or logit.ndim != 3:
        raise ValueError(f"calibration: logits {logit.shape}, labels {label.shape}; expected one shape [N, K, H]")
    outcomes = logit.shape[1]
    lines, pieces = np.tile([1.0, 0.0], (outcomes, 1)), [np.zeros((0, 3)) for _ in range(outcomes)]
    for k in range(outcomes):
        known = ~np.isnan(label[:, k])
        z, y = logit[:, k][known].astype(np.float64), label[:, k][known].astype(np.float64)
        if not np.isfinite(z).all() or not np.isin(y, (0.0, 1.0)).all():
            raise ValueError(f"calibration: outcome {k} has a logit that is not finite, or a label beside 0 and 1")
        fewer = int(min(y.sum(), len(y) - y.sum()))
        if fewer >= FEW:
            lines[k] = platt(z, y)
        if fewer >= MANY:
            lines[k, 1], pieces[k] = isotonic(z, y, *lines[k])
    width = max([1, *(len(piece) for piece in pieces)])
    table = np.zeros((outcomes, width, 3))
    for k, piece in enumerate(pieces):
        table[k, : len(piece)] = piece
    parts = (*lines.T, *np.moveaxis(table, 2, 0))
    return Calibration(*(np.ascontiguousarray(part, dtype=np.float32) for part in parts))


def platt(z: Floats, y: Floats) -> tuple[float, float]:
    """Fit slope and intercept by Newton's method on the penalised log-likelihood.

    Args:
        z: logits [N].
        y: 0 or 1 [N].

    Returns:
        slope, at least 0.05, and intercept.
    """
    slope, intercept = newton(z, y, free=True)
    # The problem is convex: where the best slope is too small, the best allowed one lies at the bound.
    return (slope, intercept) if slope >= FLAT else newton(z, y, free=False)


def newton(z: Floats, y: Floats, *, free: bool) -> tuple[float, float]:
    """Minimise the penalised loss over slope and intercept, or over the intercept at the smallest slope."""
    design = np.stack([z, np.ones_like(z)], 1) if free else np.ones((len(z), 1))
    offset = np.zeros_like(z) if free else FLAT * z
    centre = np.array([1.0, 0.0]) if free else np.zeros(1)
    precision = np.array([SPREAD_SLOPE, SPREAD_INTERCEPT])[-design.shape[1] :] ** -2.0

    def loss(at: Floats) -> float:
        eta = design @ at + offset
        return float((np.logaddexp(0, eta) - y * eta).sum() + 0.5 * (precision * (at - centre) ** 2).sum())

    beta: Floats = centre.copy()
    held = loss(beta)
    for _ in range(100):
        p = sigmoid(design @ beta + offset)
        gradient = design.T @ (p - y) + precision * (beta - centre)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(precision)
        step: Floats = np.linalg.solve(curvature, gradient).astype(np.float64)
        while (found := loss(beta - step)) > held and np.abs(step).max() > 1e-12:
            step = step / 2
        beta, gained, held = beta - step, held - found, found
        if gained <= 1e-12 * max(1.0, abs(held)):
            break
    return (float(beta[0]), float(beta[1])) if free else (FLAT, float(beta[0]))


def isotonic(z: Floats, y: Floats, slope: float, intercept: float) -> tuple[float, Floats]:
    """Bend Platt's line to the frequencies of bins, rising.

    Bins hold equal information p(1 - p) under Platt's line. A bin's frequency is shrunk towards Platt's by one
    event's worth, neighbours that fall are pooled (Ayer et al. 1955), and the map runs straight between bins.

    Args:
        z: logits [N].
        y: 0 or 1 [N].
        slope: of Platt's line.
        intercept: of Platt's line.

    Returns:
        The intercept, and knots, widths and slopes [J, 3] with J < 64.
    """
    order = np.argsort(z, kind="stable")
    z, y = z[order], y[order]
    p = sigmoid(slope * z + intercept)
    information = np.cumsum(p * (1 - p))
    bins = int(min(BINS, min(y.sum(), len(y) - y.sum()) // BIN_POSITIVES))
    bin_of = np.minimum((information / information[-1] * bins).astype(np.int64), bins - 1)
    # Equal logits share the bin of the first of them.
    bin_of = bin_of[np.searchsorted(z, z, side="left")]
    starts = np.flatnonzero(np.diff(bin_of, prepend=-1))
    count = np.diff(np.append(starts, len(z))).astype(np.float64)
    expected, found = np.add.reduceat(p, starts), np.add.reduceat(y, starts)
    mean = expected / count
    worth = 1 / (mean * (1 - mean))
    count, expected, found = pool(count + worth, expected + worth * mean, found + worth * mean)
    at = (log_odds(expected / count) - intercept) / slope
    to = log_odds(found / count)
    rise = np.diff(to) / np.diff(at)
    return float(to[0] - slope * at[0]), np.stack([at[:-1], np.diff(at), rise - slope], 1)


def pool(count: Floats, expected: Floats, found: Floats) -> tuple[Floats, Floats, Floats]:
    """Add neighbours together until found / count rises strictly."""
    blocks: list[Floats] = []
    for block in np.stack([count, expected, found], 1):
        blocks.append(block)
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][0] >= blocks[-1][2] * blocks[-2][0]:
            last = blocks.pop()
            blocks[-1] = blocks[-1] + last
    held = np.stack(blocks)
    return held[:, 0], held[:, 1], held[:, 2]


def apply(calibration: Calibration, logit: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return probabilities that never fall with the horizon.

    Args:
        calibration: of K outcomes.
        logit: of the network, f32 [N, K, H].

    Returns:
        f32 [N, K, H]: the running maximum over horizons of the sigmoid of calibrated logits.
    """
    slope, intercept, knots, widths, slopes = (part.astype(np.float64) for part in calibration)
    z = logit.astype(np.float64)
    mapped = slope[:, None] * z + intercept[:, None]
    for j in range(knots.shape[1]):
        mapped += slopes[:, j, None] * np.clip(z - knots[:, j, None], 0, widths[:, j, None])
    return np.maximum.accumulate(sigmoid(mapped), axis=2).astype(np.float32)


def sigmoid(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)) without overflow."""
    return np.exp(-np.logaddexp(0, -z))


def log_odds(p: Floats) -> Floats:
    """Return log(p / (1 - p))."""
    return np.log(p) - np.log1p(-p)


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Return plain types that JSON keeps exactly."""
    return {name: part.tolist() for name, part in calibration._asdict().items()}


def from_json(content: object) -> Calibration:
    """Read what `to_json` returned.

    Raises:
        ValueError: a part is missing, unknown, of another shape, not finite, or the map does not rise.
    """
    if not isinstance(content, Mapping) or set(content) != set(Calibration._fields):
        raise ValueError(f"calibration.json: expected the keys {', '.join(Calibration._fields)} and no others")
    parts = {str(name): array_of(str(name), value) for name, value in content.items()}
    outcomes, pieces = parts["slope"].shape, parts["knots"].shape
    shapes = {"slope": outcomes, "intercept": outcomes, "knots": pieces, "widths": pieces, "slopes": pieces}
    fits = len(outcomes) == 1 and len(pieces) == 2 and pieces[0] == outcomes[0] and 1 <= pieces[1] <= BINS
    if not fits or any(parts[name].shape != shape for name, shape in shapes.items()):
        raise ValueError("calibration.json: parts disagree in shape; expected [K] and [K, J], J from 1 to 64")
    if (parts["slope"] <= 0).any() or (parts["widths"] < 0).any():
        raise ValueError("calibration.json: expected slopes above 0 and widths of 0 or more; fit it again")
    rising = parts["slope"][:, None] + parts["slopes"] > 0
    ends = parts["knots"] + parts["widths"]
    used = parts["widths"][:, 1:] > 0
    apart = (parts["knots"][:, 1:] >= ends[:, :-1] - 1e-4 * (1 + np.abs(ends[:, :-1]))) | ~used
    if not (rising | (parts["widths"] == 0)).all() or not apart.all():
        raise ValueError("calibration.json: the map of an outcome falls or its pieces overlap; fit it again")
    return Calibration(**parts)


def array_of(name: str, value: object) -> npt.NDArray[np.float32]:
    """Return a list of numbers as f32.

    Raises:
        ValueError: it holds something else, or lists of different lengths.
    """
    try:
        held = np.array(value, dtype=np.float64)
        with np.errstate(over="ignore"):
            found = held.astype(np.float32)
    except (ValueError, TypeError):
        raise ValueError(f"calibration.json: {name} is no table of numbers; fit it again, or copy it again") from None
    if not np.isfinite(found).all():
        raise ValueError(f"calibration.json: {name} holds a number that is not finite; fit it again")
    return found
