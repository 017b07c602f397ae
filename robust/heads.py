"""What logits are asked: one class of several, or outcomes each for itself; answers may be missing (torch)."""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

UNKNOWN = -1
NEVER = -1e30


class Head(Protocol):
    """How logits are read. N rows of logits; what a row holds beyond its first dimension is summed."""

    def known(self, label: Tensor) -> Tensor:
        """Return how many answers each row has, i64 [N]."""
        ...

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of each row, [N]; missing answers add nothing."""
        ...

    def divergence(self, clean: Tensor, moved: Tensor, label: Tensor) -> Tensor:
        """Return KL(clean || moved) of each row, [N], 0 or more; missing answers add nothing."""
        ...

    def mixture(self, logits: list[Tensor], label: Tensor) -> Tensor:
        """Return the Jensen-Shannon divergence of several logits of each row, [N]."""
        ...

    def margin(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return by how much the worst answer of each row is wrong, [N]: above 0 where one is; very low without any."""
        ...


class Classes:
    """One class of C: logits [N, ..., C], label i64 [N, ...], -1 where there is none."""

    def known(self, label: Tensor) -> Tensor:
        """Return how many answers each row has, i64 [N]."""
        return (label != UNKNOWN).flatten(1).sum(1) if label.dim() > 1 else (label != UNKNOWN).long()

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return cross-entropy of each row, [N]."""
        flat = functional.cross_entropy(logits.flatten(0, -2), label.flatten(), ignore_index=UNKNOWN, reduction="none")
        return by_row(flat.view(label.shape))

    def divergence(self, clean: Tensor, moved: Tensor, label: Tensor) -> Tensor:
        """Return sum_c p_c (log p_c - log q_c) of each row, [N]; gradients reach both."""
        log_p, log_q = functional.log_softmax(clean, dim=-1), functional.log_softmax(moved, dim=-1)
        return by_row(held((log_p.exp() * difference(log_p, log_q)).sum(-1), label != UNKNOWN))

    def mixture(self, logits: list[Tensor], label: Tensor) -> Tensor:
        """Return the mean KL of each distribution to their mean, [N]."""
        logs = [functional.log_softmax(part, dim=-1) for part in logits]
        middle = torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs))
        each = [(log.exp() * difference(log, middle)).sum(-1) for log in logs]
        return by_row(held(torch.stack(each).mean(0), label != UNKNOWN))

    def margin(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return max_(j != y) z_j - z_y, the largest of each row, [N]."""
        right = label.clamp(min=0)[..., None]
        own = logits.gather(-1, right)[..., 0]
        others = logits.scatter(-1, right, NEVER).amax(-1)
        return worst(others - own, label != UNKNOWN)

    def ratio(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the margin over z_(1) - z_(3), the largest of each row, [N] (DLR; Croce and Hein 2020, eq. 6).

        Raises:
            ValueError: there are fewer than three classes, for which it is not defined.
        """
        if logits.shape[-1] < 3:
            raise ValueError(f"aim: ratio needs 3 classes, got {logits.shape[-1]}; use aim: margin")
        right = label.clamp(min=0)[..., None]
        ordered = logits.sort(dim=-1, descending=True).values
        others = logits.scatter(-1, right, NEVER).amax(-1)
        scale = (ordered[..., 0] - ordered[..., 2]).clamp(min=1e-12)
        return worst((others - logits.gather(-1, right)[..., 0]) / scale, label != UNKNOWN)


class Outcomes:
    """Any number of yes-or-no answers: logits [N, ...], label 0 to 1 of the same shape, NaN where there is none."""

    def known(self, label: Tensor) -> Tensor:
        """Return how many answers each row has, i64 [N]."""
        return label.isnan().logical_not().reshape(len(label), -1).sum(1)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return binary cross-entropy summed over each row, [N]."""
        there = ~label.isnan()
        # NaN times zero is NaN in the gradient too, so that absent labels are replaced before the loss.
        answer = torch.where(there, label, 0.0).to(logits.dtype)
        flat = functional.binary_cross_entropy_with_logits(logits, answer, reduction="none")
        return by_row(held(flat, there))

    def divergence(self, clean: Tensor, moved: Tensor, label: Tensor) -> Tensor:
        """Return sum of p (a - b) + softplus(b) - softplus(a), a clean, b moved, p = sigmoid(a), [N]."""
        found = clean.sigmoid() * (clean - moved) + functional.softplus(moved) - functional.softplus(clean)
        return by_row(held(found, ~label.isnan()))

    def mixture(self, logits: list[Tensor], label: Tensor) -> Tensor:
        """Return the Jensen-Shannon divergence of Bernoulli distributions, summed over each row, [N]."""
        number = math.log(len(logits))
        yes = torch.logsumexp(torch.stack([functional.logsigmoid(part) for part in logits]), dim=0) - number
        no = torch.logsumexp(torch.stack([functional.logsigmoid(-part) for part in logits]), dim=0) - number
        each = [
            part.sigmoid() * (functional.logsigmoid(part) - yes)
            + (-part).sigmoid() * (functional.logsigmoid(-part) - no)
            for part in logits
        ]
        return by_row(held(torch.stack(each).mean(0), ~label.isnan()))

    def margin(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return -(2 y - 1) z, the largest of each row, [N]; an answer is wrong where its logit has the other sign."""
        there = ~label.isnan()
        answer = torch.where(there, label, 0.0).to(logits.dtype)
        return worst(-(2 * answer - 1) * logits, there)


def difference(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return log p - log q where p is above 0, else 0: a class without mass adds nothing."""
    there = log_p > -torch.inf
    return torch.where(there, log_p - torch.where(there, log_q, 0), 0)


def held(value: Tensor, there: Tensor) -> Tensor:
    """Return the value where there is an answer, else 0."""
    return torch.where(there, value, 0.0)


def by_row(value: Tensor) -> Tensor:
    """Return sums over all but the first dimension, [N]."""
    return value.reshape(len(value), -1).sum(1) if len(value) else value.reshape(0, 1).sum(1)


def worst(value: Tensor, there: Tensor) -> Tensor:
    """Return the largest of each row among the answers that there are, [N]."""
    kept = torch.where(there, value, NEVER)
    return kept.flatten(1).amax(1) if kept.dim() > 1 else kept
