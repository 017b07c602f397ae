"""How good the arms are where outcomes are known, and what each adds to Monte-Carlo."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.metrics.measures import Answers, brier_and_prevalence, ranking
from ehr.metrics.resampling import draw, interval
from pipelines.rethink.patients.arms import MONTE_CARLO
from pipelines.rethink.patients.asking import Asked, Slot

Floats = npt.NDArray[np.float64]
Json = dict[str, Any]
ENDS = ("value", "lower", "upper")


class Measured(NamedTuple):
    """Measures of every arm.

    Attributes:
        windows: a row a window: outcome, horizon, patients, positives, and AUROC by arm (None where not estimable).
        auroc: by arm, mean over estimable windows, of the patients and of each resample, f64 [1 + B].
        brier: likewise.
    """

    windows: list[Json]
    auroc: dict[str, Floats]
    brier: dict[str, Floats]


def measured(arms: Mapping[str, Floats], asked: Asked, slots: Sequence[Slot], *, resamples: int, seed: int) -> Measured:
    """Measure every arm on the same patients and the same resamples of them.

    Args:
        arms: probabilities, f64 [Q, S] each.
        asked: who, and labels.
        slots: S windows.
        resamples: B, of patients.
        seed: of the draws.

    Returns:
        The measures; no arm has any where no window is estimable.
    """
    known = ~np.isnan(asked.label)
    draws = draw(asked.subject, (asked.label == 1).any(axis=1), resamples=resamples, seed=seed)
    place = draws.places(asked.subject)
    auroc: dict[str, list[Floats]] = {}
    brier: dict[str, list[Floats]] = {}
    windows: list[Json] = []
    for at, slot in enumerate(slots):
        rows = np.flatnonzero(known[:, at])
        label = asked.label[rows, at] == 1
        told = {"outcome": slot.outcome, "horizon_days": slot.horizon_days, "count": len(rows)}
        windows.append(told | {"positives": int(label.sum()), "auroc": None})
        if not Answers(np.zeros(len(rows)), label, place[rows]).estimable:
            continue
        for name, probability in arms.items():
            answers = Answers(probability[rows, at], label, place[rows])
            with np.errstate(divide="ignore", invalid="ignore"):
                auroc.setdefault(name, []).append(ranking(answers, draws.weight)[0])
                brier.setdefault(name, []).append(brier_and_prevalence(answers, draws.weight)[0])
        windows[-1]["auroc"] = {name: float(held[-1][0]) for name, held in auroc.items()}
    means = [{name: np.mean(held, axis=0) for name, held in found.items()} for found in (auroc, brier)]
    return Measured(windows, *means)


def scored(arms: Mapping[str, Floats], asked: Asked, slots: Sequence[Slot], *, resamples: int, seed: int) -> Json:
    """Return AUROC and Brier score of each arm, and its change over Monte-Carlo, as plain types (see `measured`)."""
    found = measured(arms, asked, slots, resamples=resamples, seed=seed)
    rows: list[Json] = []
    for name in found.auroc:
        row: Json = {"arm": name}
        for metric, held in (("auroc", found.auroc), ("brier", found.brier)):
            row[metric] = dict(zip(ENDS, interval(held[name]), strict=True))
            row[f"{metric}_change"] = dict(zip(ENDS, interval(held[name] - held[MONTE_CARLO]), strict=True))
        rows.append(row)
    return {"windows": found.windows, "arms": rows}
