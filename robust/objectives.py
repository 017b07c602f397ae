"""What hardened training minimises in place of the plain loss (torch)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from robust.aims import Forward, Target
from robust.attacks.gradient import Pgd
from robust.attacks.protocol import Attack
from robust.draws import Draws
from robust.examples import Examples
from robust.stillness import still, unrecorded
from robust.threats import Threat

Plain = Callable[[Tensor], Tensor]


def training_attack(aim: str, steps: int = 10) -> Pgd:
    """Return the attack of a training step: signs or unit vectors of a quarter of the radius, the last iterate."""
    return Pgd(steps=steps, size=0.25, aim=aim, keep="last")  # pyright: ignore[reportArgumentType]


class Objective(Protocol):
    """A loss of inputs that may be moved; chosen by class_path."""

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,
        *,
        plain: Plain,
        threat: Threat,
        examples: Examples,
        draws: Draws,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Return the loss, a scalar with a gradient.

        Args:
            forward: inputs -> logits.
            x: inputs; their gradient is kept, so that an embedding table learns too.
            target: answers; they say which of them count, and what an attack leads away from.
            plain: logits -> the mean loss over answers.
            threat: how far inputs are moved.
            examples: which parts of x belong together.
            draws: of this step.
            module: what `forward` asks, held still during the attack; where None dropout stays on.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Clean:
    """The plain loss."""

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,  # noqa: ARG002  the protocol's
        *,
        plain: Plain,
        threat: Threat,  # noqa: ARG002
        examples: Examples,  # noqa: ARG002
        draws: Draws,  # noqa: ARG002
        module: nn.Module | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return plain(f(x))."""
        return plain(forward(x))


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """The plain loss of attacked inputs (PGD-AT; Madry et al. 2018)."""

    attack: Attack | None = None
    """What moves the inputs of a step; ten steps up the loss where None."""

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,
        *,
        plain: Plain,
        threat: Threat,
        examples: Examples,
        draws: Draws,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Return plain(f(x'))."""
        attack = self.attack or training_attack("cross_entropy")
        with held(module):
            moved = attack.perturb(forward, x, target, threat=threat, examples=examples, draws=draws)
        return plain(forward(attached(x, moved)))


@dataclass(frozen=True, kw_only=True)
class Trades:
    """The plain loss, and how far an attack can draw answers from it (TRADES; Zhang et al. 2019, eq. 5)."""

    beta: float = 6.0
    """Weight of the divergence, 0 or more; 1 for records, where 6 costs too much precision."""
    attack: Attack | None = None
    """What moves the inputs of a step; ten steps up the divergence, without labels, where None."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if not self.beta >= 0:
            raise ValueError(f"trades.beta is {self.beta}; expected 0 or more")

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,
        *,
        plain: Plain,
        threat: Threat,
        examples: Examples,
        draws: Draws,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Return plain(f(x)) + beta mean KL(f(x) || f(x')), whose gradient runs through both logits."""
        with unrecorded(module) if module is not None else nullcontext():
            clean = forward(x)
        if self.beta == 0:
            return plain(clean)
        attack = self.attack or training_attack("divergence")
        moved = drawn_away(attack, forward, x, target, clean, (threat, examples, draws, module))
        divergence = target.head.divergence(clean, forward(attached(x, moved)), target.label)
        return plain(clean) + self.beta * mean_over(divergence, target)


@dataclass(frozen=True, kw_only=True)
class SmoothKL:
    """The plain loss, and the divergence both ways (smoothness of SMART; Jiang et al. 2020, eq. 2)."""

    beta: float = 1.0
    """Weight of the divergences, 0 or more."""
    attack: Attack | None = None
    """What moves the inputs of a step; one step up the divergence where None."""

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,
        *,
        plain: Plain,
        threat: Threat,
        examples: Examples,
        draws: Draws,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Return plain(f(x)) + beta mean (KL(f(x) || f(x')) + KL(f(x') || f(x)))."""
        clean = forward(x)
        attack = self.attack or training_attack("divergence", steps=1)
        moved = drawn_away(attack, forward, x, target, clean, (threat, examples, draws, module))
        other, (head, label) = forward(attached(x, moved)), target[:2]
        both = head.divergence(clean, other, label) + head.divergence(other, clean, label)
        return plain(clean) + self.beta * mean_over(both, target)


@dataclass(frozen=True, kw_only=True)
class Free:
    """The mean plain loss along an ascent whose gradients are used twice (FreeLB; Zhu et al. 2020, algorithm 1).

    Each step's one backward pass gives the weights their gradient and the inputs their direction. The loss that is
    returned has these gradients, so that it can be treated as any other. `forward` may hold no graph of its own.
    """

    steps: int = 3
    """Steps of the ascent, 1 or more."""
    size: float = 0.5
    """Length of a step as a share of the radius."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.steps < 1 or self.size <= 0:
            raise ValueError(f"free: steps {self.steps} and size {self.size}; expected 1 or more and above 0")

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,  # noqa: ARG002  the loss itself is raised
        *,
        plain: Plain,
        threat: Threat,
        examples: Examples,
        draws: Draws,
        module: nn.Module | None = None,  # noqa: ARG002  the passes are those of training
    ) -> Tensor:
        """Return the mean over steps of plain(f(x + delta))."""
        base = x.detach()
        moved = threat.start(base, examples, draws)
        total, slopes, learnt = x.new_zeros(()), [], []
        for number in range(self.steps):
            leaf = moved.requires_grad_()
            loss = plain(forward(leaf)) / self.steps
            learnt = learnt or [leaf_ for leaf_ in leaves(loss) if leaf_ is not leaf]
            gradient, *others = torch.autograd.grad(loss, [leaf, *learnt], allow_unused=True)
            found = [gradient, *others]
            slopes = found if not number else [added(a, b) for a, b in zip(slopes, found, strict=True)]
            total = total + loss.detach()
            if number + 1 < self.steps:
                along = self.size * threat.epsilon * threat.ascent(gradient, examples)
                moved = threat.project(leaf.detach() + along, base, examples)
        return carrying(total, [x, *learnt], slopes)


def held(module: nn.Module | None) -> AbstractContextManager[None]:
    """Return the context of a training step's attack: no dropout, statistics of the batch, none recorded."""
    return nullcontext() if module is None else still(module, statistics="batch")


def attached(x: Tensor, moved: Tensor) -> Tensor:
    """Return moved inputs whose gradient reaches x; a move itself has none."""
    return x + (moved - x).detach() if x.requires_grad else moved


def mean_over(value: Tensor, target: Target) -> Tensor:
    """Return a value summed over each row as a mean over the answers that there are."""
    return value.sum() / target.head.known(target.label).sum().clamp(min=1)


def drawn_away(
    attack: Attack,
    forward: Forward,
    x: Tensor,
    target: Target,
    clean: Tensor,
    setting: tuple[Threat, Examples, Draws, nn.Module | None],
) -> Tensor:
    """Return inputs moved so that answers leave those of x, which stay fixed during the attack."""
    threat, examples, draws, module = setting
    with held(module):
        fixed = target._replace(clean=clean.detach())
        return attack.perturb(forward, x, fixed, threat=threat, examples=examples, draws=draws)


def leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors that a loss would give a gradient to: the leaves of its graph, each once."""
    found: dict[int, Tensor] = {}
    seen: set[object] = set()
    ahead = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found.setdefault(id(variable), variable)
        ahead.extend(after for after, _ in node.next_functions)
    return list(found.values())


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, of which any may be missing."""
    return b if a is None else a if b is None else a + b


def carrying(value: Tensor, tensors: Sequence[Tensor], slopes: Sequence[Tensor | None]) -> Tensor:
    """Return a scalar of a value whose gradients are given."""
    for tensor, slope in zip(tensors, slopes, strict=True):
        if slope is not None and tensor.requires_grad:
            product = (tensor * slope).sum()
            value = value + (product - product.detach())
    return value
