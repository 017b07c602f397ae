"""What is fitted on tuning and calibration patients, kept, and used on others; and what patients are answered."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import calibration as calibrations
from ehr.calibration import Calibration
from pipelines.rethink.patients.arms import OF_VALUE, Scales, Tuned, all_arms, inside, plain, scales_of, tune, weighted
from pipelines.rethink.patients.asking import Asked, Slot
from pipelines.rethink.patients.cases import Case
from pipelines.rethink.patients.settings import Rethinking, of_content
from pipelines.rethink.patients.weighing import interval, weights
from pipelines.rethink.ratios import Weights, raw

Floats = npt.NDArray[np.float64]
Json = dict[str, Any]
FIT = "fitted.json"
PROBABILITIES = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "probability": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "uncalibrated": pl.Float64(),
        "monte_carlo": pl.Float64(),
        "effective_size": pl.Float64(),
        "temper": pl.Float64(),
        "lowered": pl.Boolean(),
        "contradicted": pl.Int32(),
        "abstain": pl.Boolean(),
    }
)


class Fit(NamedTuple):
    """What an earlier run chose.

    Attributes:
        settings: as they were.
        tuned: tempers and the mixture's share.
        calibration: of each window.
        windows: outcome and horizon of each.
        vocabulary: digest of the tokens.
        counts: patients that tuned and that calibrated.
    """

    settings: Rethinking
    tuned: Tuned
    calibration: Calibration
    windows: list[tuple[str, int]]
    vocabulary: str
    counts: dict[str, int]

    def content(self) -> Json:
        """Return plain types."""
        return {
            "settings": self.settings.content(),
            "temper": self.tuned.temper,
            "share": self.tuned.share,
            "calibration": calibrations.to_json(self.calibration),
            "windows": [list(window) for window in self.windows],
            "vocabulary": self.vocabulary,
            "counts": self.counts,
        }


def load(folder: Path) -> Fit:
    """Read what an earlier run fitted.

    Raises:
        ValueError: the folder holds no whole fit.
    """
    path = folder / FIT
    try:
        held: Json = json.loads(path.read_text(encoding="utf-8"))
        return Fit(
            of_content(held["settings"]),
            Tuned(dict(held["temper"]), float(held["share"])),
            calibrations.from_json(held["calibration"]),
            [(str(name), int(days)) for name, days in held["windows"]],
            str(held["vocabulary"]),
            dict(held["counts"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path}: not what anamnesis rethink patients fitted; give the folder of a whole run"
        ) from None


def fit(
    parts: tuple[Sequence[Case], Floats, Sequence[Case], Floats],
    slots: Sequence[Slot],
    settings: Rethinking,
    vocabulary: str,
) -> Fit:
    """Choose tempers on tuning patients, then fit the calibration on others.

    Args:
        parts: tuning cases and their labels [Q, S], calibration cases and theirs.
        slots: S windows.
        settings: how.
        vocabulary: digest of the tokens.
    """
    tuning, label, calibrating, known = parts
    tuned = tune(tuning, label, slots, settings)
    scales = scales_of(calibrating, settings)
    raw_ = np.stack(
        [ours(case, scale, slots, tuned, settings) for case, scale in zip(calibrating, scales, strict=True)]
    )
    held = calibrations.fit(logit(raw_, settings), known[:, :, None].astype(np.float32))
    windows = [(slot.outcome, slot.horizon_days) for slot in slots]
    return Fit(settings, tuned, held, windows, vocabulary, {"tuning": len(tuning), "calibration": len(calibrating)})


def ours(case: Case, scale: Scales, slots: Sequence[Slot], tuned: Tuned, settings: Rethinking) -> Floats:
    """Return our estimate of each window before calibration, f64 [S]."""
    return weighted(case, scale, slots, settings.value, tuned.temper[settings.value], settings)


def logit(probability: Floats, settings: Rethinking) -> npt.NDArray[np.float32]:
    """Return log-odds as calibration takes them, a window as an outcome of one horizon, f32 [Q, S, 1]."""
    return calibrations.log_odds(inside(probability, settings.samples))[:, :, None].astype(np.float32)


def calibrated(probability: Floats, made: Fit, slots: Sequence[Slot]) -> Floats:
    """Return calibrated probabilities that never fall with the horizon of an outcome, f64 [Q, S]."""
    found = calibrations.apply(made.calibration, logit(probability, made.settings))[:, :, 0].astype(np.float64)
    for at in range(1, len(slots)):
        if slots[at].outcome == slots[at - 1].outcome:
            found[:, at] = np.maximum(found[:, at], found[:, at - 1])
    return found


class Answer(NamedTuple):
    """One patient's answers.

    Attributes:
        case: the patient.
        weights: of the futures.
        probability: calibrated, f64 [S], and its interval over futures.
        lower: f64 [S].
        upper: f64 [S].
        uncalibrated: f64 [S].
        monte_carlo: f64 [S].
        abstain: whether too few futures carry the weight.
    """

    case: Case
    weights: Weights
    probability: Floats
    lower: Floats
    upper: Floats
    uncalibrated: Floats
    monte_carlo: Floats
    abstain: bool


def answers(cases: Sequence[Case], slots: Sequence[Slot], made: Fit) -> list[Answer]:
    """Answer Q patients."""
    settings = made.settings
    scales = scales_of(cases, settings)
    rows = [ours(case, scale, slots, made.tuned, settings) for case, scale in zip(cases, scales, strict=True)]
    ends = [bounds(case, scale, slots, made) for case, scale in zip(cases, scales, strict=True)]
    if not rows:
        return []
    probability = calibrated(np.stack(rows), made, slots)
    lower, upper = (calibrated(np.stack([pair[side] for pair in ends]), made, slots) for side in (0, 1))
    found: list[Answer] = []
    for at, (case, scale) in enumerate(zip(cases, scales, strict=True)):
        held = weights(scale.plain, made.tuned.temper[settings.value], case.futures.allowed, settings)
        abstain = held.refused or held.size < settings.floor - 1e-9
        carlo = plain(case, "indicator")
        found.append(Answer(case, held, probability[at], lower[at], upper[at], rows[at], carlo, abstain))
    return found


def bounds(case: Case, scale: Scales, slots: Sequence[Slot], made: Fit) -> tuple[Floats, Floats]:
    """Return the ends of the intervals over futures, before calibration, f64 [S] each."""
    settings, kind = made.settings, made.settings.value
    lower, upper = np.zeros(len(slots)), np.zeros(len(slots))
    for at, slot in enumerate(slots):
        futures, log = case.futures, scale.plain
        value = case.scope[:, at] if kind == "scope" else case.reached[:, at].astype(np.float64)
        risk = case.at_risk[:, at]
        if kind == "reach":
            futures, log, value = case.suppressed[slot.outcome], scale.suppressed[slot.outcome], case.reach[:, at]
            risk = np.ones(len(value), dtype=bool)
        held = weights(log, made.tuned.temper[kind], futures.allowed, settings)
        free = futures.allowed & risk if (futures.allowed & risk).any() else np.ones(len(value), dtype=bool)
        lower[at], upper[at] = interval(raw(log, held.temper, free), value, settings.bootstrap, settings.seed)
    return lower, upper


def probabilities(found: Sequence[Answer], silent: Asked, slots: Sequence[Slot]) -> pl.DataFrame:
    """Return PROBABILITIES, sorted; those without a record before the prediction time are null, and abstained from."""
    rows: list[tuple[Any, ...]] = []
    for answer in found:
        sample, held = answer.case.sample, answer.weights
        contradicted = int((~answer.case.futures.allowed).sum())
        told = (held.size, held.temper, held.lowered, contradicted, answer.abstain)
        for at, slot in enumerate(slots):
            numbers = [float(part[at]) for part in answer[2:7]]
            rows.append((sample.subject, sample.prediction_time, slot.outcome, slot.horizon_days, *numbers, *told))
    for subject, time in zip(silent.subject.tolist(), silent.time.tolist(), strict=True):
        rows += [(subject, time, slot.outcome, slot.horizon_days, *[None] * 9, True) for slot in slots]
    numbers = pl.Schema({**PROBABILITIES, "prediction_time": pl.Int64()})
    frame = pl.DataFrame(rows, schema=numbers, orient="row")
    place = {name: at for at, name in enumerate(dict.fromkeys(slot.outcome for slot in slots))}
    order = pl.col("outcome").replace_strict(place, return_dtype=pl.Int32)
    frame = frame.sort("subject_id", "prediction_time", order, "horizon_days")
    return frame.with_columns(pl.col("prediction_time").cast(pl.Datetime("us"))).select(PROBABILITIES.names())


def arms_of(cases: Sequence[Case], slots: Sequence[Slot], made: Fit) -> dict[str, Floats]:
    """Return every arm's estimates before calibration, and ours after it, f64 [Q, S] each."""
    found = all_arms(cases, slots, made.tuned, made.settings)
    name = OF_VALUE[made.settings.value]
    return found | {f"{name}, calibrated": calibrated(found[name], made, slots)}
