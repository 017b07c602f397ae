"""Training on inputs that corruption networks make as hard as they may (Calian et al. 2022) (torch)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robust.ada.augmix import AugMix, Operation
from robust.ada.guard import Similarity, SimilarityGuard
from robust.ada.perturbation import WeightPerturbation
from robust.aims import Forward, Target, goal_of
from robust.draws import Draws
from robust.examples import Examples
from robust.objectives import Plain, held, mean_over
from robust.threats import Threat


@dataclass(frozen=True, kw_only=True)
class Ada:
    """The mean loss of inputs, of corrupted ones, and of AugMix; with a weight, answers are drawn together."""

    networks: Sequence[nn.Module]
    """Frozen corruption networks; each step takes one by chance."""
    similarity: Similarity
    """Of inputs and corrupted ones, [B], 1 where equal."""
    perturbation: WeightPerturbation = field(default_factory=WeightPerturbation)
    """How weights are moved."""
    guard: SimilarityGuard = field(default_factory=SimilarityGuard)
    """How far corrupted inputs may go."""
    augmix: AugMix | None = None
    """Mixes chains of operations beside; alone where None."""
    operations: Sequence[Operation] = ()
    """What chains are made of."""
    consistency: float = 0.0
    """Weight of the Jensen-Shannon divergence between the answers; 12 in AugMix."""
    low: float | None = None
    """Least value of an input."""
    high: float | None = None
    """Greatest value."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot be met."""
        if not self.networks:
            raise ValueError("ada.networks is empty; expected at least one corruption network")
        if self.augmix is not None and not self.operations:
            raise ValueError("ada.operations is empty; expected at least one with augmix")

    def loss(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,
        *,
        plain: Plain,
        threat: Threat,  # noqa: ARG002  weights are moved, not inputs
        examples: Examples,
        draws: Draws,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Return the loss of a step; examples stand apart."""
        views = [x, self.corrupted(forward, x, target, examples, draws, module)]
        if self.augmix is not None:
            views.append(self.augmix.mix(x.detach(), examples.ids, self.operations, draws.fork(2)))
        # One pass over all views; every view has the same answers.
        answers = forward(torch.cat(views)).chunk(len(views))
        loss = torch.stack([plain(answer) for answer in answers]).mean()
        if not self.consistency:
            return loss
        return loss + self.consistency * mean_over(target.head.mixture(list(answers), target.label), target)

    def corrupted(
        self,
        forward: Forward,
        x: Tensor,
        target: Target,
        examples: Examples,
        draws: Draws,
        module: nn.Module | None,
    ) -> Tensor:
        """Return inputs that raise the loss, within bounds and similar enough."""
        goal = goal_of("cross_entropy", target, examples)
        first = torch.zeros(1, dtype=torch.int64)
        network = self.networks[int(draws.whole(first, torch.full_like(first, len(self.networks))))]
        with held(module):
            made = self.perturbation.corrupt(
                network, x, lambda tried: goal(forward(self.bounded(tried))), examples.ids, draws.fork(1)
            )
        return self.guard.hold(x.detach(), self.bounded(made), self.similarity)

    def bounded(self, x: Tensor) -> Tensor:
        """Return inputs cut off at the bounds."""
        return x if self.low is None and self.high is None else x.clamp(self.low, self.high)
