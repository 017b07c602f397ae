"""Probabilities of options: a temperature a question, and when to abstain.  No torch."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.documents.passages import Ints

Floats = npt.NDArray[np.float64]
GRID = np.exp(np.linspace(np.log(0.2), np.log(5.0), 65))
"""Temperatures tried; a finer one changes nothing that a few hundred answers can tell."""
FEW = 10
"""Answers under which a question keeps temperature 1."""


class Calibration(NamedTuple):
    """What turns logits into probabilities and abstentions.

    Attributes:
        temperature: of each question, f64 [T].
        threshold: an answer whose best option is less probable is an abstention; 0: none is.
        target: share of right answers among those given that the threshold was chosen for.
        coverage: share of the tuning answers given at it.
        accuracy: share of them that were right.
    """

    temperature: Floats
    threshold: float
    target: float
    coverage: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self._asdict(), "temperature": self.temperature.tolist()}


def from_json(content: dict[str, Any]) -> Calibration:
    """Return what `to_json` gave."""
    held: dict[str, Any] = {**content, "temperature": np.array(content["temperature"], dtype=np.float64)}
    return Calibration(**held)


def probabilities(logits: npt.NDArray[np.floating[Any]], temperature: Floats) -> Floats:
    """Return softmax(L / temperature) over options, f64 [R, C]; 0 for options that are not there.

    Args:
        logits: [R, C], absent options at -1e4.
        temperature: of each row, f64 [R].
    """
    there = logits > -5e3
    scaled = np.where(there, logits.astype(np.float64) / temperature[:, None], -np.inf)
    scaled -= scaled.max(-1, keepdims=True)
    found = np.exp(scaled)
    return found / found.sum(-1, keepdims=True)


def fit(
    logits: npt.NDArray[np.floating[Any]], task: Ints, label: Ints, questions: int, *, target: float = 0.9
) -> Calibration:
    """Fit temperatures by the likelihood of tuning answers, then the threshold by their risk and coverage.

    Args:
        logits: f32 [R, C].
        task: i64 [R].
        label: i64 [R].
        questions: T.
        target: share of right answers that those given should reach, 0 to 1.
    """
    temperature = np.ones(questions)
    for number in np.unique(task).tolist():
        at = np.flatnonzero(task == number)
        if len(at) < FEW:
            continue
        loss = [
            -np.log(probabilities(logits[at], np.full(len(at), t))[np.arange(len(at)), label[at]].clip(1e-12)).mean()
            for t in GRID
        ]
        temperature[number] = GRID[int(np.argmin(loss))]
    found = probabilities(logits, temperature[task])
    return chosen(temperature, found.max(-1), found.argmax(-1) == label, target)


def chosen(temperature: Floats, best: Floats, right: npt.NDArray[np.bool_], target: float) -> Calibration:
    """Return the threshold of largest coverage at which the answers given reach the target; 0 where none does."""
    if not len(best):
        return Calibration(temperature, 0.0, target, 1.0, float("nan"))
    order = np.argsort(-best, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Equal probabilities are given or withheld together.
    last = np.append(np.diff(best[order]) != 0, True)
    fits = np.flatnonzero(last & (accuracy >= target))
    if not len(fits):
        return Calibration(temperature, 0.0, target, 1.0, float(accuracy[-1]))
    at = int(fits[-1])
    everything = at == len(order) - 1
    threshold = 0.0 if everything else float(best[order[at]])
    return Calibration(temperature, threshold, target, (at + 1) / len(order), float(accuracy[at]))
