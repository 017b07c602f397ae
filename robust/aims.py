"""What an attack raises: a number for each example, from logits (torch)."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robust.examples import Examples, tracked
from robust.heads import NEVER, Classes, Head

Aim = Literal["cross_entropy", "margin", "ratio", "divergence"]
Forward = Callable[[Tensor], Tensor]
Goal = Callable[[Tensor], Tensor]


class Target(NamedTuple):
    """What the answers should be.

    Attributes:
        head: how logits are read.
        label: as the head asks.
        clean: logits of what was not moved, without gradient; the divergence is measured from them.
    """

    head: Head
    label: Tensor
    clean: Tensor | None = None

    def take(self, rows: Tensor) -> "Target":
        """Return the answers of some examples that stand apart, by number i64 [n]."""
        return Target(self.head, self.label[rows], None if self.clean is None else self.clean[rows])

    def tracked(self) -> "Target":
        """Return the same, of tensors that gradients may run past."""
        return Target(self.head, tracked(self.label), None if self.clean is None else tracked(self.clean))


def goal_of(aim: Aim, target: Target, examples: Examples) -> Goal:
    """Return what is raised: logits [N, ...] -> a number for each example [B].

    Raises:
        ValueError: the aim does not fit the head, or the divergence has nothing to be measured from.
    """
    head, label, clean = target
    if aim == "cross_entropy":
        return lambda logits: examples.of_answers(head.loss(logits, label))
    if aim == "margin":
        return lambda logits: examples.worst_of_answers(head.margin(logits, label), NEVER)
    if aim == "ratio":
        if not isinstance(head, Classes):
            raise ValueError("aim: ratio is defined for classes alone; use aim: margin for outcomes")
        return lambda logits: examples.worst_of_answers(head.ratio(logits, label), NEVER)
    if aim == "divergence":
        if clean is None:
            raise ValueError("aim: divergence needs the logits of the clean inputs; expected Target.clean")
        return lambda logits: examples.of_answers(head.divergence(clean, logits, label))
    raise ValueError(f"aim is {aim}; expected cross_entropy, margin, ratio or divergence")


def judge_of(aim: Aim, target: Target, examples: Examples) -> Goal:
    """Return by what iterates are compared: the margin, which says when an answer turns; the divergence by itself."""
    return goal_of("divergence" if aim == "divergence" else "margin", target, examples)


def checked(logits: Tensor) -> Tensor:
    """Return logits that are finite.

    Raises:
        ValueError: they are not; an attack on such a network would find nothing.
    """
    if not bool(torch.isfinite(logits.detach()).all()):
        raise ValueError("the network returns logits that are not finite; no attack can be judged on them")
    return logits


@torch.no_grad()
def broken(forward: Forward, x: Tensor, target: Target, examples: Examples) -> Tensor:
    """Return which examples have a wrong answer, bool [B]."""
    return goal_of("margin", target, examples)(checked(forward(x))) > 0
