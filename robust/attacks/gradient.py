"""Projected gradient ascent (Madry et al. 2018), with steps of steepest ascent or of Adam (torch)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from robust.aims import Aim, Forward, Goal, Target, checked, goal_of, judge_of
from robust.draws import Draws
from robust.examples import Examples
from robust.threats import Threat

Step = Literal["steepest", "adam"]
BETAS, TINY = (0.9, 0.999), 1e-9


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Projected gradient ascent."""

    steps: int = 20
    """Steps of each restart, 1 or more."""
    step: Step = "steepest"
    """steepest: signs for linf, unit vectors for l2; adam: Adam (0.9, 0.999, 1e-9) on every element for linf.

    For l2 adam has its momentum alone: dividing each element by its own size turns any gradient towards signs, which
    is not where an l2 ball reaches farthest.
    """
    size: float = 0.25
    """Length of a step as a share of the radius. Rebuffi et al. take 3.2 with Adam."""
    cuts: tuple[int, ...] = ()
    """Steps from which on the length is a tenth of what it was."""
    restarts: int = 1
    """Starts, 1 or more."""
    random_start: bool = True
    """Start at a random point of the ball rather than at x."""
    aim: Aim = "cross_entropy"
    """What is raised: cross_entropy, margin, ratio, divergence."""
    keep: Literal["best", "last"] = "best"
    """best: for each example the iterate with the largest margin, x among them; last: the last, one question less."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.step not in get_args(Step):
            raise ValueError(f"pgd.step is {self.step}; expected steepest or adam")
        if self.keep not in ("best", "last"):
            raise ValueError(f"pgd.keep is {self.keep}; expected best or last")
        if self.steps < 1 or self.restarts < 1 or self.size <= 0:
            raise ValueError("pgd: expected steps and restarts from 1 on and a size above 0")
        if self.keep == "last" and self.restarts > 1:
            raise ValueError(f"pgd.restarts is {self.restarts} with keep: last, of which one remains; use keep: best")

    @property
    def forwards(self) -> int:
        """How often the network is asked about an example."""
        return self.restarts * (self.steps + (self.keep == "best")) + (self.keep == "best")

    def perturb(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Tensor:
        """Return moved inputs; with radius 0 or without examples x itself."""
        threat.check(x)
        # Validation may run in inference mode, in which nothing has a gradient.
        with torch.inference_mode(mode=False), torch.enable_grad():
            x, target, examples = x.detach().clone(), target.tracked(), examples.tracked()
            if not examples.number or threat.epsilon == 0:
                return x
            goal, judge = goal_of(self.aim, target, examples), judge_of(self.aim, target, examples)
            best = Best(x, judged(forward, x, judge)) if self.keep == "best" else Best(x, None)
            for restart in range(self.restarts):
                own = draws.fork(restart)
                moved = threat.start(x, examples, own) if self.random_start else x.clone()
                best = self.climb(forward, x, moved, best, goals=(goal, judge), threat=threat, examples=examples)
            return best.x

    def climb(
        self,
        forward: Forward,
        x: Tensor,
        moved: Tensor,
        best: "Best",
        *,
        goals: tuple[Goal, Goal],
        threat: Threat,
        examples: Examples,
    ) -> "Best":
        """Return the best of what one restart finds and what was known, or its last iterate."""
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        rate = self.size * threat.epsilon
        for number in range(self.steps):
            if number in self.cuts:
                rate /= 10
            logits, gradient = gradient_at(forward, moved, goals[0])
            if best.gain is not None:
                best = best.or_better(moved, goals[1](logits), examples)
            if self.step == "adam":
                first = BETAS[0] * first + (1 - BETAS[0]) * gradient
                second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
                mean = first / (1 - BETAS[0] ** (number + 1))
                spread = second / (1 - BETAS[1] ** (number + 1))
                along = mean / (spread.sqrt() + TINY) if threat.norm == "linf" else threat.ascent(mean, examples)
            else:
                along = threat.ascent(gradient, examples)
            moved = threat.project(moved + rate * along, x, examples)
        if best.gain is None:
            return Best(moved, None)
        return best.or_better(moved, judged(forward, moved, goals[1]), examples)


class Best(NamedTuple):
    """The best iterate of each example.

    Attributes:
        x: [R, ...].
        gain: by which iterates are compared, [B]; None where the last one is kept.
    """

    x: Tensor
    gain: Tensor | None

    def or_better(self, x: Tensor, gain: Tensor, examples: Examples) -> "Best":
        """Return it with the examples replaced that another iterate does better on."""
        assert self.gain is not None
        better = gain > self.gain
        return Best(torch.where(examples.spread(better, x), x, self.x), torch.where(better, gain, self.gain))


def gradient_at(forward: Forward, moved: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Return logits, and the gradient of the goal summed over examples; weights get no gradient."""
    leaf = moved.detach().requires_grad_()
    logits = checked(forward(leaf))
    (gradient,) = torch.autograd.grad(goal(logits).sum(), leaf)
    return logits.detach(), gradient


@torch.no_grad()
def judged(forward: Forward, moved: Tensor, judge: Goal) -> Tensor:
    """Return what iterates are compared by, [B]."""
    return judge(checked(forward(moved)))
