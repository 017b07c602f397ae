"""Fine-tuning on embeddings that are moved: what an objective of robust is shown of packed records."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ehr import losses
from ehr.model import Anamnesis, of_segments
from pipelines.data import Answered
from robust.examples import packed
from robust.training import Embedded, Embeddings


class EmbeddingObjective(Protocol):
    """What is minimised in place of the plain loss, such as robust.training.EmbeddingTraining."""

    def embedding_loss(
        self, forward: Callable[[Tensor], Tensor], embedded: Embeddings, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            forward: x -> logits f32 [N, K, H].
            embedded: the batch; x has the gradient of the embedding table.
            loss: logits -> the mean loss over labels.
        """
        ...


def hardened(network: Anamnesis, content: Answered, objective: EmbeddingObjective, seed: int) -> tuple[Tensor, Tensor]:
    """Return the sum over labels that an objective makes of a batch, and the number of labels.

    Codes of dated events may be moved. Statics and padding may not, nor ages, nor the summary that outcomes are told.

    Args:
        network: in training.
        content: the batch.
        objective: what makes the loss.
        seed: of what is drawn in this step.
    """
    batch, moments = content.batch, content.moments
    x = functional.embedding(batch.token, network.table())
    position = torch.arange(batch.token.numel(), device=x.device).view(batch.token.shape)
    anchor = of_segments(batch.query_age_days, batch.segment, moments.segment)
    examples = packed(batch.segment, batch.visit > 0, asked=moments.segment)
    assert examples.answers is not None

    def forward(moved: Tensor) -> Tensor:
        # Every position reads its own row of what was moved, as it reads the table otherwise.
        reading = network.read(batch._replace(token=position), moved.flatten(0, 1))
        return network.answer(reading, batch.token, moments, anchor, network.table())[moments.segment > 0]

    def mean(logits: Tensor) -> Tensor:
        total, count = losses.masked_bce(logits, content.label)
        return total / count.clamp(min=1)

    embedded = Embedded(x, examples.place >= 0, examples.place, content.label, seed, examples.answers)
    count = (~content.label.isnan()).sum().float()
    return objective.embedding_loss(forward, embedded, mean) * count, count
