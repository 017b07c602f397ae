"""Hardened training of networks that read embeddings: what Lightning modules take by class_path (torch)."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from robust.aims import Target
from robust.draws import Draws
from robust.examples import NOBODY, Examples, beside
from robust.heads import Classes, Head, Outcomes
from robust.objectives import Objective, Trades, training_attack
from robust.threats import Threat


class Embeddings(Protocol):
    """A batch as its embeddings."""

    @property
    def x(self) -> Tensor:
        """Embeddings, [R, T, D]."""
        ...

    @property
    def mask(self) -> Tensor:
        """Which positions may be moved, bool [R, T]."""
        ...

    @property
    def groups(self) -> Tensor:
        """Example of each row i64 [R], or of each position i64 [R, T]; -1 where there is none."""
        ...

    @property
    def label(self) -> Tensor:
        """Classes i64 [N, ...], -1 where there is none; or outcomes f32 [N, ...], NaN where there is none."""
        ...

    @property
    def seed(self) -> int:
        """Of what is drawn in this step."""
        ...


class Embedded(NamedTuple):
    """A batch as its embeddings, with the example that each row of logits answers for.

    Attributes:
        x: [R, T, D].
        mask: which positions may be moved, bool [R, T].
        groups: example of each position, i64 [R, T]; -1 where there is none.
        label: f32 [N, ...] or i64 [N, ...].
        seed: of what is drawn in this step.
        answers: example of each row of logits, i64 [N].
    """

    x: Tensor
    mask: Tensor
    groups: Tensor
    label: Tensor
    seed: int
    answers: Tensor


class EmbeddingTraining:
    """An objective over embeddings that are moved, in place of the plain loss."""

    def __init__(
        self,
        objective: Objective | None = None,
        threat: Threat = Threat(norm="l2_token", epsilon=0.1),  # noqa: B008  frozen
        *,
        relative: bool = True,
    ) -> None:
        """Set up.

        Args:
            objective: by class_path, of robust.objectives; TRADES with beta 1 and three steps where None.
            threat: how far embeddings are moved.
            relative: the radius is a share of the median length of the batch's own embeddings that may be moved.
        """
        self.objective: Objective = objective or Trades(beta=1.0, attack=training_attack("divergence", 3))
        self.threat, self.relative = threat, relative

    def embedding_loss(
        self, forward: Callable[[Tensor], Tensor], embedded: Embeddings, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            forward: x -> logits.
            embedded: the batch; x has the gradient of the embedding table.
            loss: logits -> the plain loss, a mean.
        """
        x = embedded.x
        groups = beside(embedded.groups, embedded.mask).expand(embedded.mask.shape)
        place = torch.where(embedded.mask, groups, NOBODY)
        # Where no answers are named, an example has one row of logits.
        answers: Tensor | None = getattr(embedded, "answers", None)
        ids = torch.arange(count_of(groups, embedded.label, answers), device=x.device)
        head: Head = Outcomes() if embedded.label.is_floating_point() else Classes()
        return self.objective.loss(
            forward,
            x,
            Target(head, embedded.label),
            plain=loss,
            threat=self.radius(x.detach(), embedded.mask),
            examples=Examples(place, ids, answers),
            draws=Draws(embedded.seed),
        )

    def radius(self, x: Tensor, mask: Tensor) -> Threat:
        """Return the threat with its radius in units of the embeddings."""
        if not self.relative or not bool(mask.any()):
            return self.threat
        length = float(x[mask].norm(dim=-1).median())
        return replace(self.threat, epsilon=self.threat.epsilon * length)


def count_of(groups: Tensor, label: Tensor, answers: Tensor | None) -> int:
    """Return the number of examples."""
    if answers is None:
        return len(label)
    return int(groups.max()) + 1 if groups.numel() else 0
