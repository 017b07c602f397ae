"""Losses of questions with options, padded options left out, and how a batch's losses become one (torch)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits f32 [..., C], label i64 [...], there bool [..., C]) -> loss f32 [...]; any number where label is -1."""


def cross_entropy(logit: Tensor, label: Tensor, there: Tensor) -> Tensor:
    """Return -log softmax(L)_y over the options that there are."""
    scores = torch.where(there, logit, torch.finfo(logit.dtype).min)
    return torch.logsumexp(scores, -1) - logit.gather(-1, label.clamp(min=0)[..., None])[..., 0]


def one_hot(label: Tensor, options: int) -> Tensor:
    """Return the label's option as 1 among C, f32 [..., C]; all 0 where label is -1."""
    return (label[..., None] == torch.arange(options, device=label.device)).float()


def bce_onehot(logit: Tensor, label: Tensor, there: Tensor) -> Tensor:
    """Return the mean over options of binary cross-entropy against one-hot labels, as MAUD was trained."""
    loss = functional.binary_cross_entropy_with_logits(logit, one_hot(label, logit.shape[-1]), reduction="none")
    return (loss * there).sum(-1) / there.sum(-1).clamp(min=1)


def focal(logit: Tensor, label: Tensor, there: Tensor, *, gamma: float = 2.0, alpha: float = 0.5) -> Tensor:
    """Return the mean over options of alpha_t (1 - p_t)^gamma (-log p_t) (Lin et al. 2017, eq. 5).

    p_t is the sigmoid of the margin towards the right side, alpha_t is alpha for the label's option and 1 - alpha
    for the others.
    """
    right = one_hot(label, logit.shape[-1])
    loss = functional.binary_cross_entropy_with_logits(logit, right, reduction="none")
    weight = torch.where(right > 0, alpha, 1 - alpha) * (1 - torch.exp(-loss)) ** gamma
    return (weight * loss * there).sum(-1) / there.sum(-1).clamp(min=1)


CRITERIA: dict[str, Criterion] = {"cross_entropy": cross_entropy, "bce_onehot": bce_onehot, "focal": focal}


def by_rows(loss: Tensor, weight: Tensor) -> Tensor:
    """Return sum(w l) / number of labelled rows, f32 scalar.

    With weights of mean 1 over the training rows this is an unbiased share of the loss over all of them, also where
    a batch holds one row of a question.

    Args:
        loss: f32 [P, T].
        weight: 0 where there is no label, f32 [P, T].
    """
    return (loss * weight).sum() / (weight > 0).sum().clamp(min=1)


def by_tasks(loss: Tensor, weight: Tensor, *, last_only: bool = False) -> Tensor:
    """Return the mean over questions of each one's weighted mean loss, f32 scalar.

    Args:
        loss: f32 [P, T].
        weight: how often each row was drawn, 0 where there is no label, f32 [P, T].
        last_only: keep the last question alone, as MAUD's published code does by making its dict of losses anew
            for every question of a step.
    """
    total = weight.sum(0)
    mean = (loss * weight).sum(0) / total.clamp(min=1e-12)
    asked = total > 0
    if last_only:
        return mean[-1]
    return (mean * asked).sum() / asked.sum().clamp(min=1)
