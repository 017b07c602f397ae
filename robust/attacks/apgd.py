"""Auto-PGD: steps that shrink where progress stalls, with momentum (Croce and Hein 2020, algorithm 1) (torch)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robust.aims import Aim, Forward, Goal, Target, goal_of, judge_of
from robust.attacks.gradient import Best, gradient_at, judged
from robust.draws import Draws
from robust.examples import Examples
from robust.threats import Threat

MOMENTUM, PROGRESS, FIRST, SHORTER, SHORTEST = 0.75, 0.75, 0.22, 0.03, 0.06


@dataclass(frozen=True, kw_only=True)
class Apgd:
    """Auto-PGD; the margin makes it work on two classes and on outcomes, where the ratio is not defined."""

    steps: int = 50
    """Steps of each restart, 1 or more."""
    restarts: int = 1
    """Random starts, 1 or more."""
    aim: Aim = "margin"
    """What is raised: cross_entropy, margin, ratio, divergence."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.steps < 1 or self.restarts < 1:
            raise ValueError("apgd: expected steps and restarts from 1 on")

    @property
    def forwards(self) -> int:
        """How often the network is asked about an example."""
        return self.restarts * (self.steps + 1) + 1

    def perturb(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Tensor:
        """Return moved inputs; with radius 0 or without examples x itself."""
        threat.check(x)
        with torch.inference_mode(mode=False), torch.enable_grad():
            x, target, examples = x.detach().clone(), target.tracked(), examples.tracked()
            if not examples.number or threat.epsilon == 0:
                return x
            goals = goal_of(self.aim, target, examples), judge_of(self.aim, target, examples)
            best = Best(x, judged(forward, x, goals[1]))
            for restart in range(self.restarts):
                start = threat.start(x, examples, draws.fork(restart))
                best = self.climb(forward, x, start, best, goals=goals, threat=threat, examples=examples)
            return best.x

    def climb(
        self,
        forward: Forward,
        x: Tensor,
        start: Tensor,
        best: Best,
        *,
        goals: tuple[Goal, Goal],
        threat: Threat,
        examples: Examples,
    ) -> Best:
        """Return the best of what one restart finds and what was known."""
        logits, gradient = gradient_at(forward, start, goals[0])
        gain = goals[0](logits)
        state = State(
            moved=start,
            before=start,
            gradient=gradient,
            top=start,
            top_gradient=gradient,
            top_gain=gain,
            size=torch.full_like(gain, 2 * threat.epsilon),
            rises=torch.zeros_like(gain),
            gain=gain,
            shrunk=torch.ones_like(gain, dtype=torch.bool),
            then=gain,
        )
        best = best.or_better(start, goals[1](logits), examples)
        checks, last = checkpoints(self.steps), 0
        for number in range(self.steps):
            moved = stepped(state, x, threat, examples, momentum=MOMENTUM if number else 1.0)
            logits, gradient = gradient_at(forward, moved, goals[0])
            best = best.or_better(moved, goals[1](logits), examples)
            state = state.after(moved, gradient, goals[0](logits), examples)
            if number + 1 in checks:
                state = state.shrunk_where_stalled(number + 1 - last, examples)
                last = number + 1
        return best


def stepped(state: "State", x: Tensor, threat: Threat, examples: Examples, *, momentum: float) -> Tensor:
    """Return the next iterate: a projected step, part of it, and part of the last move."""
    along = threat.ascent(state.gradient, examples)
    straight = threat.project(state.moved + examples.spread(state.size, x) * along, x, examples)
    mixed = state.moved + momentum * (straight - state.moved) + (1 - momentum) * (state.moved - state.before)
    return threat.project(mixed, x, examples)


class State(NamedTuple):
    """Where one restart stands, by example.

    Attributes:
        moved: the iterate, [R, ...].
        before: the one before it.
        gradient: of the goal, at the iterate.
        top: the iterate of this restart with the highest goal.
        top_gradient: there.
        top_gain: the goal there, [B].
        size: length of the next step, [B].
        rises: steps since the last check in which the goal rose, [B].
        gain: the goal at the iterate, [B].
        shrunk: whether the last check halved the step, bool [B].
        then: top_gain at the last check, [B].
    """

    moved: Tensor
    before: Tensor
    gradient: Tensor
    top: Tensor
    top_gradient: Tensor
    top_gain: Tensor
    size: Tensor
    rises: Tensor
    gain: Tensor
    shrunk: Tensor
    then: Tensor

    def after(self, moved: Tensor, gradient: Tensor, gain: Tensor, examples: Examples) -> "State":
        """Return the state after a step."""
        better = gain > self.top_gain
        wide = examples.spread(better, moved)
        return self._replace(
            moved=moved,
            before=self.moved,
            gradient=gradient,
            top=torch.where(wide, moved, self.top),
            top_gradient=torch.where(wide, gradient, self.top_gradient),
            top_gain=torch.where(better, gain, self.top_gain),
            rises=self.rises + (gain > self.gain),
            gain=gain,
        )

    def shrunk_where_stalled(self, steps: int, examples: Examples) -> "State":
        """Return it with half the step, back at the best iterate, where too few steps rose or none since two checks."""
        few = self.rises < PROGRESS * steps
        stuck = ~self.shrunk & (self.top_gain <= self.then)
        stalled = few | stuck
        wide = examples.spread(stalled, self.moved)
        return self._replace(
            moved=torch.where(wide, self.top, self.moved),
            gradient=torch.where(wide, self.top_gradient, self.gradient),
            gain=torch.where(stalled, self.top_gain, self.gain),
            size=torch.where(stalled, self.size / 2, self.size),
            rises=torch.zeros_like(self.rises),
            shrunk=stalled,
            then=self.top_gain,
        )


def checkpoints(steps: int) -> set[int]:
    """Return the steps after which progress is judged: ever nearer to each other, down to 6 % of all steps."""
    found: set[int] = set()
    window, shortest = max(int(FIRST * steps), 1), max(int(SHORTEST * steps), 1)
    shorter, at = max(int(SHORTER * steps), 1), 0
    while at + window <= steps:
        at += window
        found.add(at)
        window = max(window - shorter, shortest)
    return found
