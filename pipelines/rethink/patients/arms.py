"""Every way from a patient's futures and evidence to probabilities: ours, and what it is held against."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.rethink.controls import another
from pipelines.rethink.patients.asking import Slot
from pipelines.rethink.patients.cases import Case
from pipelines.rethink.patients.evidence import Evidence
from pipelines.rethink.patients.settings import Rethinking
from pipelines.rethink.patients.weighing import Held, estimated, log_weights, support, weights
from pipelines.rethink.ratios import effective_size, raw

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
MONTE_CARLO, SCOPE, REACH = "Monte-Carlo", "SCOPE", "REACH"
WEIGHTED, WEIGHTED_SCOPE, WEIGHTED_REACH = "evidence weights", "evidence weights x SCOPE", "evidence weights x REACH"
SUPPORT, NEAR, MIXTURE = "sum of support", "neighbours alone", "neighbours with Monte-Carlo"
SWAPPED = "another's neighbours"
OF_PLAIN = {"indicator": MONTE_CARLO, "scope": SCOPE, "reach": REACH}
OF_VALUE = {"indicator": WEIGHTED, "scope": WEIGHTED_SCOPE, "reach": WEIGHTED_REACH}
ENOUGH = 0.95
"""Share of the patients whose weights must hold the floor at a temper, for it to be chosen."""
SHARES = tuple(np.linspace(0, 1, 11).tolist())


class Tuned(NamedTuple):
    """What the tuning split chose: tempers by what futures count, and the share of neighbours in the mixture."""

    temper: dict[str, float]
    share: float


class Scales(NamedTuple):
    """Logarithmic weights of one patient's futures.

    Attributes:
        plain: f64 [N].
        suppressed: by outcome, f64 [N] each.
        swapped: by another patient's neighbours, f64 [N].
    """

    plain: Floats
    suppressed: dict[str, Floats]
    swapped: Floats


def scales_of(cases: Sequence[Case], settings: Rethinking) -> list[Scales]:
    """Return the logarithmic weights of each patient's futures."""
    other = another(len(cases), settings.seed) if len(cases) > 1 else np.zeros(len(cases), dtype=np.int64)
    made: list[Scales] = []
    for at, case in enumerate(cases):
        theirs = cases[int(other[at])].evidence
        mixed = theirs._replace(past=case.evidence.past, windows=case.evidence.windows)
        made.append(
            Scales(
                log_weights(case.futures, case.evidence, settings),
                {name: log_weights(held, case.evidence, settings) for name, held in case.suppressed.items()},
                log_weights(case.futures, mixed, settings),
            )
        )
    return made


def near_rate(evidence: Evidence, fallback: Floats) -> Floats:
    """Return the share of the neighbours that have each outcome, one more neighbour being like `fallback`, f64 [S]."""
    return (evidence.outcome + fallback) / (evidence.known + 1)


def weighted(
    case: Case, scale: Scales, slots: Sequence[Slot], kind: str, temper: float, settings: Rethinking
) -> Floats:
    """Return our estimate of each window, f64 [S]; `kind` says what a future counts."""
    if kind == "reach":
        return np.array(
            [
                one(case.suppressed[slot.outcome], scale.suppressed[slot.outcome], case, at, temper, settings)
                for at, slot in enumerate(slots)
            ]
        )
    value = case.scope if kind == "scope" else case.reached.astype(np.float64)
    held = weights(scale.plain, temper, case.futures.allowed, settings)
    return np.array(
        [
            estimated(scale.plain, held, value[:, at], case.at_risk[:, at], case.futures.allowed)
            for at in range(len(slots))
        ]
    )


def one(futures: Held, scale: Floats, case: Case, at: int, temper: float, settings: Rethinking) -> float:
    """Return REACH under our weights, for one window."""
    held = weights(scale, temper, futures.allowed, settings)
    risk = np.ones(len(scale), dtype=bool)
    return estimated(scale, held, case.reach[:, at], risk, futures.allowed)


def averaged(value: Floats, at_risk: Bools) -> Floats:
    """Return the mean over futures at risk, over all where none is, f64 [S]."""
    found = np.zeros(value.shape[1])
    for at in range(value.shape[1]):
        risk = at_risk[:, at]
        found[at] = value[risk, at].mean() if risk.any() else value[:, at].mean()
    return found


def plain(case: Case, kind: str) -> Floats:
    """Return an estimate without evidence, f64 [S]."""
    if kind == "reach":
        return case.reach.mean(axis=0)
    return averaged(case.scope if kind == "scope" else case.reached.astype(np.float64), case.at_risk)


def kinds(settings: Rethinking) -> tuple[str, ...]:
    """Return what futures may count."""
    return ("indicator", "scope", "reach") if settings.reach else ("indicator", "scope")


def all_arms(cases: Sequence[Case], slots: Sequence[Slot], tuned: Tuned, settings: Rethinking) -> dict[str, Floats]:
    """Return every arm's estimates of Q patients, f64 [Q, S] each; SCOPE above 1 is cut after averaging."""
    scales = scales_of(cases, settings)
    found: dict[str, list[Floats]] = {}
    for case, scale in zip(cases, scales, strict=True):
        carlo = plain(case, "indicator")
        near = near_rate(case.evidence, carlo)
        row = {OF_PLAIN[kind]: plain(case, kind) for kind in kinds(settings)}
        for kind in kinds(settings):
            row[OF_VALUE[kind]] = weighted(case, scale, slots, kind, tuned.temper[kind], settings)
        row[SUPPORT] = literal(case, settings)
        row[NEAR], row[MIXTURE] = near, tuned.share * near + (1 - tuned.share) * carlo
        swapped = scale._replace(plain=scale.swapped)
        row[SWAPPED] = weighted(case, swapped, slots, "indicator", tuned.temper["indicator"], settings)
        for name, value in row.items():
            found.setdefault(name, []).append(np.clip(value, 0.0, 1.0))
    return {name: np.stack(rows) for name, rows in found.items()}


def literal(case: Case, settings: Rethinking) -> Floats:
    """Return the vote with the plain sum of support as weights, as the paper has it on chains, f64 [S]."""
    held = support(case.futures, case.evidence, settings)
    value = case.reached.astype(np.float64)
    if not held.sum():
        return averaged(value, case.at_risk)
    mass = held[:, None] * case.at_risk
    total = mass.sum(axis=0)
    return np.where(total > 0, (mass * value).sum(axis=0) / np.where(total > 0, total, 1), value.mean(axis=0))


def tune(cases: Sequence[Case], label: Floats, slots: Sequence[Slot], settings: Rethinking) -> Tuned:
    """Choose tempers and the mixture's share by log-loss on tuning patients; equal losses take the lesser.

    Args:
        cases: Q patients.
        label: 0, 1 or NaN, f64 [Q, S].
        slots: S windows.
        settings: tempers to choose from, and the floor of the effective sample size, which 95 % must hold.
    """
    scales = scales_of(cases, settings)
    chosen: dict[str, float] = {}
    for kind in kinds(settings):
        able = [temper for temper in settings.tempers if holds_floor(cases, scales, temper, settings)] or [0.0]
        losses = {
            temper: log_loss(
                np.stack([weighted(c, s, slots, kind, temper, settings) for c, s in zip(cases, scales, strict=True)]),
                label,
                settings.samples,
            )
            for temper in sorted(able)
        }
        chosen[kind] = min(losses, key=lambda temper: losses[temper])
    carlo = np.stack([plain(case, "indicator") for case in cases])
    near = np.stack([near_rate(case.evidence, own) for case, own in zip(cases, carlo, strict=True)])
    shares = {share: log_loss(share * near + (1 - share) * carlo, label, settings.samples) for share in SHARES}
    return Tuned(chosen, min(shares, key=lambda share: shares[share]))


def holds_floor(cases: Sequence[Case], scales: Sequence[Scales], temper: float, settings: Rethinking) -> bool:
    """Tell whether 95 % of the patients hold the floor of the effective sample size at a temper."""
    held = 0
    for case, scale in zip(cases, scales, strict=True):
        free = case.futures.allowed if case.futures.allowed.any() else ~case.futures.allowed
        held += effective_size(raw(scale.plain, temper, free)) >= min(settings.floor, float(free.sum()))
    return held >= ENOUGH * len(cases)


def inside(probability: Floats, samples: int) -> Floats:
    """Return probabilities kept off 0 and 1, as if one more future had half of the outcome."""
    return (samples * np.clip(probability, 0.0, 1.0) + 0.5) / (samples + 1)


def log_loss(probability: Floats, label: Floats, samples: int) -> float:
    """Return the mean log-loss over known labels."""
    there = ~np.isnan(label)
    p, y = inside(probability[there], samples), label[there]
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean()) if there.any() else 0.0
