"""Arms side by side on labelled questions: votes as they are, and fitted ones by repeated cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.rethink.controls import Resampler, auroc_by_source, by_source, split_gain
from pipelines.rethink.evidence import Support
from pipelines.rethink.faithfulness import Aggregate, Kind, every
from pipelines.rethink.polling import Poll, ballot, votes
from pipelines.rethink.ratios import effective_size
from pipelines.rethink.sources import GAMMAS, Fitted, choose, folds_of
from pipelines.rethink.voting import Vote, clipped, credit

Floats = npt.NDArray[np.float64]
MAJORITY, STEPS, SOURCES = "majority", "number of steps", "source weights"


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """How arms are evaluated."""

    kind: Kind = "f1"
    """What makes of support the number that is added to source weights."""
    aggregate: Aggregate = "mean"
    """Over the steps of a path."""
    folds: int = 5
    """Parts of the questions; each is answered by a fit on the others."""
    repeats: int = 5
    """Divisions into parts."""
    bootstrap: int = 2000
    """Resamples of the questions."""
    seed: int = 0
    """Of parts and resamples."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: folds under 2, or repeats or bootstrap under 1.
        """
        if self.folds < 2 or self.repeats < 1 or self.bootstrap < 1:
            raise ValueError("crossing: expected folds of 2 or more, repeats and bootstrap of 1 or more")


class Arm(NamedTuple):
    """One way to decide questions, tried.

    Attributes:
        name: of the arm.
        right: credit of each question, averaged over repeats, f64 [Q]; ties count half.
        strict: the same with ties counted as wrong.
        score: log-odds of the first option where the arm was fitted, averaged over repeats; else None.
        votes: of arms that are not fitted.
        gammas: chosen in each fold, where one was chosen.
        size: mean effective sample size of the paths' weights, for arms that weigh paths by evidence.
    """

    name: str
    right: Floats
    strict: Floats
    score: Floats | None = None
    votes: Sequence[Vote] | None = None
    gammas: tuple[float, ...] = ()
    size: float | None = None


def plain(name: str, held: Poll, truth: Sequence[str], weights: Floats, *, sized: bool = False) -> Arm:
    """Return the arm of a vote under given weights, f64 [P]."""
    made = votes(held, weights)
    half = np.array([credit(own, answer) for own, answer in zip(made, truth, strict=True)])
    strict = np.array([credit(own, answer, ties="wrong") for own, answer in zip(made, truth, strict=True)])
    size = float(np.mean([effective_size(weights[own]) for own in held.members()])) if sized else None
    return Arm(name, half, strict, votes=made, size=size)


def crossed(
    name: str,
    held: Poll,
    truth: Sequence[str],
    support: Floats,
    settings: Crossing,
    *,
    gammas: Sequence[float] = GAMMAS,
) -> Arm:
    """Return the arm of source weights, with or without evidence, each question answered by fits that never saw it."""
    own, first = ballot(held, support), np.array([answer == held.options[0] for answer in truth], dtype=float)
    right, strict, score = np.zeros(len(truth)), np.zeros(len(truth)), np.zeros(len(truth))
    chosen: list[float] = []
    for repeat in range(settings.repeats):
        fold = folds_of(len(truth), settings.folds, settings.seed + 1000 * repeat)
        for number in range(settings.folds):
            inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            fitted = choose(own.rows(inside), first[inside], gammas=gammas, seed=settings.seed + repeat)
            chosen.append(fitted.gamma)
            found = fitted.score(own.rows(outside))
            score[outside] += found
            hit = (found > 0) == (first[outside] == 1)
            right[outside] += np.where(found == 0, 0.5, hit)
            strict[outside] += np.where(found == 0, 0.0, hit)
    repeats = settings.repeats
    kept = tuple(chosen) if len(gammas) > 1 else ()
    return Arm(name, right / repeats, strict / repeats, score=score / repeats, gammas=kept)


def evaluate(
    held: Poll, truth: Sequence[str], supports: Mapping[str, Sequence[Support]], settings: Crossing
) -> list[Arm]:
    """Return all arms: controls, the paper's functions on each evidence, and fitted ones.

    Args:
        held: paths.
        truth: right answer of each question.
        supports: of each path, by the name of the evidence; the first is the primary one.
        settings: how.
    """
    nothing = np.zeros(len(held.answers))
    arms = [
        plain(MAJORITY, held, truth, nothing + 1),
        plain(STEPS, held, truth, held.steps.astype(float)),
    ]
    kinds: tuple[Kind, ...] = ("f1", "f2", "f3", "similarity")
    for evidence, own in supports.items():
        for kind in kinds:
            mean = np.array(clipped(every(own, kind).tolist()))
            arms.append(plain(f"{kind} mean, {evidence}", held, truth, mean, sized=True))
            arms.append(plain(f"{kind} sum, {evidence}", held, truth, every(own, kind, aggregate="sum")))
    if len(held.options) != 2 or len(truth) < 2 * settings.folds:
        return arms
    arms.append(crossed(SOURCES, held, truth, nothing, settings, gammas=(0.0,)))
    for evidence, own in supports.items():
        support = every(own, settings.kind, aggregate=settings.aggregate)
        arms.append(crossed(with_evidence(evidence), held, truth, support, settings))
    # Steps of a size like support's, so that the same gammas reach as far.
    arms.append(crossed(with_evidence(STEPS), held, truth, held.steps / 10, settings))
    return arms


def with_evidence(evidence: str) -> str:
    """Return the name of the arm that adds evidence to source weights."""
    return f"{SOURCES} + {evidence}"


def fit(
    held: Poll, truth: Sequence[str], support: Floats, settings: Crossing, *, gammas: Sequence[float] = GAMMAS
) -> Fitted:
    """Return source weights from all labelled questions, for those still to come."""
    first = np.array([answer == held.options[0] for answer in truth], dtype=float)
    return choose(ballot(held, support), first, gammas=gammas, seed=settings.seed)


def told(arms: Sequence[Arm], settings: Crossing) -> list[dict[str, Any]]:
    """Return each arm as a report tells it: accuracy, and gains over the majority and over source weights.

    Args:
        arms: the first is the majority.
        settings: how intervals are drawn.
    """
    resampler = Resampler(len(arms[0].right), settings.bootstrap, settings.seed)
    tied = np.array([len(own.tied) > 1 for own in arms[0].votes or ()])
    rivals = {arm.name: arm for arm in arms if arm.name in {MAJORITY, SOURCES}}
    rows: list[dict[str, Any]] = []
    for arm in arms:
        row: dict[str, Any] = {
            "arm": arm.name,
            "accuracy": resampler.mean(arm.right)._asdict(),
            "ties_wrong": float(arm.strict.mean()),
            "ties": None if arm.votes is None else sum(len(own.tied) > 1 for own in arm.votes),
            "effective_size": arm.size,
            "gammas": {str(value): arm.gammas.count(value) for value in sorted(set(arm.gammas))},
        }
        for name, rival in rivals.items():
            key = "over_majority" if name == MAJORITY else "over_source_weights"
            gain = arm.right - rival.right
            row[key] = None if arm is rival else resampler.mean(gain)._asdict()
            if name == MAJORITY and arm is not rival:
                row[key] |= split_gain(gain, tied)
        rows.append(row)
    return rows


def report(
    held: Poll, truth: Sequence[str], supports: Mapping[str, Sequence[Support]], arms: Sequence[Arm], settings: Crossing
) -> dict[str, Any]:
    """Return what an evaluation found, as JSON: arms, sources, and the AUROC of support within each source."""
    auroc: dict[str, Any] = {}
    for evidence, own in supports.items():
        for kind in dict.fromkeys((settings.kind, "similarity")):
            found = auroc_by_source(held, truth, every(own, kind))
            mean = float(np.mean(list(found.values()))) if found else None
            auroc[f"{kind}, {evidence}"] = {"mean": mean, "by_source": found}
    silent = sum(answer is None for answer in held.answers)
    return {
        "questions": len(held.questions),
        "paths": len(held.answers),
        "unparsed": silent,
        "without_steps": int((held.steps == 0).sum()),
        "sources": by_source(held, truth),
        "arms": told(arms, settings),
        "auroc": auroc,
    }
