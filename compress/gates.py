"""What a compression may cost: quality before and after on plain numbers, held against a budget.  No torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple


class Quality(NamedTuple):
    """How good a model is at one question.

    Attributes:
        name: outcome and horizon, or another question.
        positives: how many there are.
        metrics: by name: auroc, auprc, brier, ece, ...; NaN where not estimable.
    """

    name: str
    positives: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much worse a compressed model may be; null: not held."""

    auroc_drop: float | None = 0.005
    """Of the mean AUROC over outcomes."""
    auprc_drop: float | None = None
    """Of the mean AUPRC."""
    brier_rise: float | None = None
    """Of the mean Brier score."""
    ece_rise: float | None = None
    """Of the mean expected calibration error."""
    outcome_auroc_drop: float | None = None
    """Of the AUROC of the outcome that loses most."""
    subgroup_auroc_drop: float | None = None
    """Of the AUROC of the group of patients that loses most."""
    least_positives: int = 10
    """Outcomes with fewer positives are shown, not held."""

    def __post_init__(self) -> None:
        """Refuse budgets that are none."""
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise ValueError(f"budget.{name} is {value}; expected 0 or more, or null")


class Breach(NamedTuple):
    """A budget that does not hold.

    Attributes:
        budget: its name.
        what: whose quality.
        before: of the dense model.
        after: of the compressed one.
        allowed: the budget.
    """

    budget: str
    what: str
    before: float
    after: float
    allowed: float

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.budget}: {self.what} went from {self.before:.4f} to {self.after:.4f}, "
            f"{abs(self.after - self.before):.4f} worse; allowed {self.allowed:g}"
        )


MEANS = (("auroc", "auroc_drop", 1), ("auprc", "auprc_drop", 1), ("brier", "brier_rise", -1), ("ece", "ece_rise", -1))


def check(
    before: Sequence[Quality],
    after: Sequence[Quality],
    budget: Budget,
    *,
    subgroups: tuple[Sequence[Quality], Sequence[Quality]] = ((), ()),
) -> list[Breach]:
    """Return the budgets that do not hold; what is no number after compression breaks its budget.

    Args:
        before: of the dense model, a question each.
        after: of the compressed one, the same questions in the same order.
        budget: what is allowed.
        subgroups: the same by group of patients.

    Raises:
        ValueError: the questions differ, or none has enough positives to be held.
    """
    pairs = held(before, after, budget.least_positives)
    enough(len(pairs), budget)
    found: list[Breach] = []
    for metric, name, sign in MEANS:
        means = [fmean(side.metrics[metric] for side in sides) for sides in zip(*pairs, strict=True)]
        found += breach(name, f"mean {metric}", means[0], means[1], getattr(budget, name), sign)
    found += worst("outcome_auroc_drop", pairs, budget.outcome_auroc_drop)
    found += worst("subgroup_auroc_drop", held(*subgroups, budget.least_positives), budget.subgroup_auroc_drop)
    return found


def enough(outcomes: int, budget: Budget) -> None:
    """Refuse to hold a budget on nothing.

    Args:
        outcomes: how many have enough positives.
        budget: says how many those are.

    Raises:
        ValueError: there is none.
    """
    if not outcomes:
        raise ValueError(
            f"no outcome has {budget.least_positives} positives there, so that no budget can be held; hold it on "
            "another split, or let it go with --no-gate"
        )


def held(before: Sequence[Quality], after: Sequence[Quality], least: int) -> list[tuple[Quality, Quality]]:
    """Return the pairs of questions that the dense model can be judged on."""
    if [(one.name, one.positives) for one in before] != [(one.name, one.positives) for one in after]:
        raise ValueError("quality before and after is of different questions; ask the same patients of both models")
    pairs = zip(before, after, strict=True)
    return [pair for pair in pairs if pair[0].positives >= least and math.isfinite(pair[0].metrics["auroc"])]


def worst(name: str, pairs: Sequence[tuple[Quality, Quality]], allowed: float | None) -> list[Breach]:
    """Return the breach of the question that loses most, if it breaks the budget."""
    if allowed is None or not pairs:
        return []

    def lost(pair: tuple[Quality, Quality]) -> float:
        change = pair[0].metrics["auroc"] - pair[1].metrics["auroc"]
        return change if math.isfinite(change) else math.inf

    first, last = max(pairs, key=lost)
    return breach(name, f"auroc of {first.name}", first.metrics["auroc"], last.metrics["auroc"], allowed, 1)


def breach(name: str, what: str, before: float, after: float, allowed: float | None, sign: int) -> list[Breach]:
    """Return a breach where the loss is above what is allowed, or is no number."""
    if allowed is None or sign * (before - after) <= allowed:
        return []
    return [Breach(name, what, before, after, allowed)]
