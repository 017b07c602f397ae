"""An objective over embeddings, as training takes it by class_path."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.documents.hooks import Embedded


class FastGradient:
    """One step up the gradient, of one length a passage; the loss is that of the moved embeddings."""

    def __init__(self, eps: float = 0.5):
        self.eps = eps
        self.seen: list[tuple[float, float]] = []

    def embedding_loss(
        self, forward: Callable[[Tensor], Tensor], embedded: Embedded, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        x = embedded.x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(forward(x)), x)
        gradient = gradient * embedded.mask[..., None]
        square = torch.zeros(int(embedded.groups.max()) + 1).index_add(
            0, embedded.groups, gradient.square().sum((1, 2))
        )
        step = self.eps * gradient / square.sqrt().clamp(min=1e-12)[embedded.groups][:, None, None]
        with torch.no_grad():
            self.seen.append((loss(forward(x)).item(), loss(forward(x + step)).item()))
        return loss(forward(embedded.x + step))
