"""Heads: pooled states to a logit an option, all questions as one padded tensor (torch)."""

import math

import torch
from torch import Tensor, nn

from pipelines.documents.pooling import NEVER


def options_mask(num_options: Tensor, most: int) -> Tensor:
    """Return which options there are, bool [T, C].

    Args:
        num_options: of each question, i64 [T].
        most: C.
    """
    return torch.arange(most, device=num_options.device) < num_options[:, None]


class PaddedHead(nn.Module):
    """logits = W_t dropout(tanh(D z_t)) + b_t: one padded tensor W [T, C, d], D shared or one a question."""

    def __init__(self, width: int, questions: int, options: int, *, dropout: float, shared: bool = True) -> None:
        """Set up.

        Args:
            width: d.
            questions: T of the catalogue.
            options: C, of the question that has most.
            dropout: of the hidden features.
            shared: one D for all questions; else one each, as published.
        """
        super().__init__()
        hidden = (width, width) if shared else (questions, width, width)
        self.shared = shared
        self.dense = nn.Parameter(torch.empty(hidden))
        self.offset = nn.Parameter(torch.zeros(hidden[:-1]))
        self.weight = nn.Parameter(torch.empty(questions, options, width))
        self.bias = nn.Parameter(torch.zeros(questions, options))
        self.dropout = nn.Dropout(dropout)
        for parameter in (self.dense, self.weight):
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, z: Tensor, task: Tensor, num_options: Tensor) -> Tensor:
        """Map pooled states to logits.

        Args:
            z: f32 [P, T, d], a column a question asked.
            task: which questions these are, i64 [T].
            num_options: of each, i64 [T].

        Returns:
            f32 [P, T, C]; NEVER where a question has no such option.
        """
        if self.shared:
            hidden = z @ self.dense.T + self.offset
        else:
            hidden = torch.einsum("ptd,ted->pte", z, self.dense[task]) + self.offset[task]
        hidden = self.dropout(torch.tanh(hidden))
        logit = torch.einsum("ptd,tcd->ptc", hidden, self.weight[task]).float() + self.bias[task].float()
        return torch.where(options_mask(num_options, logit.shape[-1]), logit, NEVER)


class DescriptionHead(nn.Module):
    """logits = z_t . U e_tc / tau + v . e_tc + b0, where e_tc is what the encoder makes of question and option.

    It holds no weight of any question, so that it answers questions that no training has seen. The second term is
    what the words of question and option say by themselves.
    """

    def __init__(self, width: int, *, dropout: float) -> None:
        """Set up; tau starts at sqrt(d)."""
        super().__init__()
        self.match = nn.Linear(width, width)
        self.prior = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.tensor(-0.5 * math.log(width)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor, option: Tensor, num_options: Tensor) -> Tensor:
        """Map pooled states to logits.

        Args:
            z: f32 [P, T, d].
            option: embedding of each question with each of its options, f32 [T, C, d].
            num_options: of each question, i64 [T].

        Returns:
            f32 [P, T, C]; NEVER where a question has no such option.
        """
        logit = torch.einsum("ptd,tcd->ptc", self.dropout(z), self.match(option)) * self.scale.exp()
        logit = (logit + self.prior(option)[..., 0]).float()
        return torch.where(options_mask(num_options, logit.shape[-1]), logit, NEVER)
