"""How far each source of paths is to be trusted: logistic regression on their votes, with evidence added to it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PENALTIES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0)
GAMMAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""What the shares of evidence in a path's weight are chosen from."""


class Ballot(NamedTuple):
    """Q questions with two answers, K sources.

    Attributes:
        vote: mean over a source's paths of +1 (the first answer), -1 (the second) and 0 (none), f64 [Q, K].
        leaning: mean over its paths of vote times support, f64 [Q, K].
        mass: mean over its paths of support where there is an answer, f64 [Q, K].
        answered: share of its paths with an answer, f64 [Q, K].
    """

    vote: Floats
    leaning: Floats
    mass: Floats
    answered: Floats

    def rows(self, at: Ints) -> "Ballot":
        """Return some of the questions."""
        return Ballot(*(column[at] for column in self))


class Fitted(NamedTuple):
    """Source weights, and how much evidence adds to them.

    A path of source k with support s weighs w_k + gamma (s - centre_k) for its answer.

    Attributes:
        weight: w, log-odds, f64 [K].
        intercept: of the first answer.
        gamma: 0 or more; with 0 these are source weights alone.
        centre: mean support of each source's answers, f64 [K].
        penalty: of the squares of w.
    """

    weight: Floats
    intercept: float
    gamma: float
    centre: Floats
    penalty: float

    def score(self, ballot: Ballot) -> Floats:
        """Return the log-odds of the first answer, f64 [Q]; 0 is a tie."""
        return ballot.vote @ self.weight + self.intercept + self.gamma * lean(ballot, self.centre)

    def content(self, sources: Sequence[str]) -> dict[str, Any]:
        """Return it as JSON."""
        named = {"weight": self.weight, "centre": self.centre}
        by_source = {name: dict(zip(sources, column.tolist(), strict=True)) for name, column in named.items()}
        return {**by_source, "intercept": self.intercept, "gamma": self.gamma, "penalty": self.penalty}

    @classmethod
    def of(cls, content: dict[str, Any], sources: Sequence[str]) -> "Fitted":
        """Return it from JSON, the sources in this order."""
        weight, centre = (np.array([content[name][source] for source in sources]) for name in ("weight", "centre"))
        return cls(weight, content["intercept"], content["gamma"], centre, content["penalty"])


def lean(ballot: Ballot, centre: Floats) -> Floats:
    """Return sum over paths of vote times support above the source's own mean, f64 [Q]."""
    return (ballot.leaning - centre * ballot.vote).sum(1)


def centres(ballot: Ballot) -> Floats:
    """Return the mean support of each source's answered paths, f64 [K]."""
    number = ballot.answered.sum(0)
    return ballot.mass.sum(0) / np.where(number == 0, 1, number)


def logistic(design: Floats, truth: Floats, penalty: float, offset: Floats | float = 0.0) -> Floats:
    """Return weights of a ridge logistic regression with an offset, the intercept last and free, f64 [K + 1].

    The minimum of sum log(1 + exp(-(2y - 1) z)) + penalty |w|^2 / 2 with z = design w + b + offset, by Newton's method.

    Args:
        design: f64 [N, K].
        truth: y, 0 or 1, f64 [N].
        penalty: above 0.
        offset: f64 [N], or a number.
    """
    full = np.hstack([design, np.ones((len(design), 1))])
    ridge = penalty * np.eye(full.shape[1])
    # The intercept is nearly free; a trace keeps one-sided truths finite.
    ridge[-1, -1] = 1e-6
    beta = np.zeros(full.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(full @ beta + offset, -40, 40)))
        gradient = full.T @ (truth - chance) - ridge @ beta
        curvature = (full * (chance * (1 - chance))[:, None]).T @ full + ridge
        step = np.linalg.solve(curvature, gradient)
        beta = beta + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return beta


def fit(ballot: Ballot, truth: Floats, *, penalty: float, gamma: float) -> Fitted:
    """Return source weights fitted beside evidence of a given share."""
    centre = centres(ballot)
    beta = logistic(ballot.vote, truth, penalty, gamma * lean(ballot, centre))
    return Fitted(beta[:-1], float(beta[-1]), gamma, centre, penalty)


def log_loss(score: Floats, truth: Floats) -> float:
    """Return the mean of log(1 + exp(-(2y - 1) z))."""
    return float(np.logaddexp(0, -(2 * truth - 1) * score).mean())


def folds_of(number: int, folds: int, seed: int) -> Ints:
    """Return the fold of each question, of equal sizes, by a seeded shuffle, i64 [N]."""
    return np.random.default_rng(seed).permutation(np.arange(number) % folds)


def choose(
    ballot: Ballot,
    truth: Floats,
    *,
    gammas: Sequence[float] = GAMMAS,
    penalties: Sequence[float] = PENALTIES,
    folds: int = 5,
    seed: int = 0,
) -> Fitted:
    """Return the fit whose penalty, and then gamma, has the least log-loss in inner folds; of equal ones, the first.

    Args:
        ballot: of the questions that may be learnt from.
        truth: 1 where the first answer is right, f64 [Q].
        gammas: with (0,) alone these are source weights.
        penalties: of the weights.
        folds: inner ones.
        seed: of their draw.
    """
    fold = folds_of(len(truth), folds, seed)
    parts = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]

    def loss(penalty: float, gamma: float) -> float:
        found = 0.0
        for inside, outside in parts:
            made = fit(ballot.rows(inside), truth[inside], penalty=penalty, gamma=gamma)
            found += log_loss(made.score(ballot.rows(outside)), truth[outside]) * len(outside)
        return found

    penalty = min(penalties, key=lambda value: loss(value, 0.0))
    gamma = min(gammas, key=lambda value: loss(penalty, value)) if len(gammas) > 1 else gammas[0]
    return fit(ballot, truth, penalty=penalty, gamma=gamma)
