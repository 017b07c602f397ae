"""How good the arms are where outcomes are known, and what each adds to Monte-Carlo."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ehr.metrics.measures import Answers, brier_and_prevalence, ranking
from ehr.metrics.resampling import draw, interval
from pipelines.rethink.patients.arms import MONTE_CARLO
from pipelines.rethink.patients.asking import Asked, Slot

Floats = npt.NDArray[np.float64]
Json = dict[str, Any]


def scored(arms: Mapping[str, Floats], asked: Asked, slots: Sequence[Slot], *, resamples: int, seed: int) -> Json:
    """Return AUROC and Brier score of each arm, and its gain over Monte-Carlo, means over windows that are estimable.

    Patients are resampled with the same draws for all arms.

    Args:
        arms: probabilities, f64 [Q, S] each.
        asked: who, and labels.
        slots: S windows.
        resamples: of patients.
        seed: of the draws.
    """
    known = ~np.isnan(asked.label)
    draws = draw(asked.subject, (asked.label == 1).any(axis=1), resamples=resamples, seed=seed)
    place = draws.places(asked.subject)
    found: dict[str, tuple[list[Floats], list[Floats]]] = {name: ([], []) for name in arms}
    windows: list[Json] = []
    for at, slot in enumerate(slots):
        rows = np.flatnonzero(known[:, at])
        label = asked.label[rows, at] == 1
        told = {"outcome": slot.outcome, "horizon_days": slot.horizon_days, "count": len(rows)}
        windows.append(told | {"positives": int(label.sum())})
        if not Answers(np.zeros(len(rows)), label, place[rows]).estimable:
            windows[-1]["auroc"] = None
            continue
        for name, probability in arms.items():
            answers = Answers(probability[rows, at], label, place[rows])
            with np.errstate(divide="ignore", invalid="ignore"):
                found[name][0].append(ranking(answers, draws.weight)[0])
                found[name][1].append(brier_and_prevalence(answers, draws.weight)[0])
        windows[-1]["auroc"] = {name: float(held[0][-1][0]) for name, held in found.items()}
    return {"windows": windows, "arms": rows_of(found)}


def rows_of(found: Mapping[str, tuple[list[Floats], list[Floats]]]) -> list[Json]:
    """Return one row an arm; none where no window is estimable."""
    rows: list[Json] = []
    if not found or not found[MONTE_CARLO][0]:
        return rows
    base = [np.mean(values, axis=0) for values in found[MONTE_CARLO]]
    for name, parts in found.items():
        auroc, brier = (np.mean(values, axis=0) for values in parts)
        row: Json = {"arm": name}
        for metric, value, mine in (("auroc", auroc, base[0]), ("brier", brier, base[1])):
            row[metric] = dict(zip(("value", "lower", "upper"), interval(value), strict=True))
            change = interval(value - mine)
            row[f"{metric}_change"] = dict(zip(("value", "lower", "upper"), change, strict=True))
        rows.append(row)
    return rows
