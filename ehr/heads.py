"""Heads: the set of codes of a visit with its size, and outcomes by horizon (torch)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ehr.hazards import EDGES_DAYS, exposure
from ehr.layers import Time2Vec
from ehr.summary import Summary


class SetHead(nn.Module):
    """Queries for visits: what is known of the visit asked for, and what is read off the answer."""

    def __init__(self, width: int, vocabulary_size: int) -> None:
        """Set up; the output embedding is the network's own table."""
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.size = nn.Linear(width, 1)

    def forward(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Map decoded queries [..., width] to what the table is multiplied with, and log |Y|, f32 [...]."""
        x = self.norm(decoded)
        return x, self.size(x)[..., 0].float()


class HazardHead(nn.Module):
    """A query for what comes when, and hazards of all codes, constant in pieces of time.

    log lambda_kj = b_kj + (W_j h) . u_k, of low rank; per day.
    """

    def __init__(self, width: int, vocabulary_size: int, rank: int = 32) -> None:
        """Set up with one piece between two edges, and a last one without end."""
        super().__init__()
        self.pieces = len(EDGES_DAYS)
        self.query = nn.Parameter(torch.zeros(width))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.weight = nn.Linear(width, self.pieces * rank, bias=False)
        self.codes = nn.Embedding(vocabulary_size, rank)
        self.bias = nn.Parameter(torch.full((vocabulary_size, self.pieces), -12.0))

    def forward(self, decoded: Tensor) -> Tensor:
        """Map decoded queries [N, width] to what the codes' vectors are multiplied with, [N, J, rank]."""
        return self.weight(self.norm(decoded)).unflatten(-1, (self.pieces, -1))

    def direction(self, codes: Tensor, begin: float, end: float) -> Tensor:
        """Return how the logarithm of the risk of any of some codes moves with a normed query, f32 [width].

        The first-order term at the rates of training: each piece of the window, and each code, weighs by its share of
        the hazard that is summed there. Outcomes that are asked as windows start from it.

        Args:
            codes: token ids, i64 [N].
            begin: where the window begins, days from the question.
            end: where it ends.
        """
        edges = exposure(torch.tensor([begin, end], dtype=torch.float32, device=self.bias.device))
        lies = torch.exp(self.bias[codes]) * (edges[1] - edges[0])
        share = lies / lies.sum()
        return torch.einsum(
            "nj,nr,jrw->w", share, self.codes(codes), self.weight.weight.unflatten(0, (self.pieces, -1))
        )

    def set_rates(self, rates: Tensor) -> None:
        """Start from the rate of each code in training, (events + 1/2) / (days + 1), f32 [V]."""
        with torch.no_grad():
            self.bias.copy_(torch.log(rates.float())[:, None].expand_as(self.bias))


class ValueHead(nn.Module):
    """Where in the distribution of its code a value lies, 0 to 1, from the answer of the visit's query."""

    def __init__(self, width: int, vocabulary_size: int) -> None:
        """Set up; `level` is the middle of each token's bin, NaN where it is no value."""
        super().__init__()
        self.codes = nn.Embedding(vocabulary_size, width)
        self.register_buffer("level", torch.full((vocabulary_size,), torch.nan))
        self.register_buffer("bare", torch.zeros(vocabulary_size, dtype=torch.int64))

    def forward(self, answer: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Map answers [M, width] and the value tokens asked for, i64 [M], to what is foretold and what is, f32 [M]."""
        score = (answer * self.codes(self.get_buffer("bare")[token])).sum(-1).float()
        return torch.sigmoid(score), self.get_buffer("level")[token]


class ClockHead(nn.Module):
    """Time tokens of the generating mode: rows of the output table behind those of the codes."""

    def __init__(self, width: int, bins: int) -> None:
        """Set up."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(bins, width))
        self.bias = nn.Parameter(torch.zeros(bins))


class OutcomeHead(nn.Module):
    """K learned queries, and a logit for each horizon of each."""

    def __init__(self, width: int, outcomes: int, horizons: int, summary: Summary | None = None) -> None:
        """Set up; `summary` is what queries are told beside the record, if anything."""
        super().__init__()
        self.summary = summary
        self.query = nn.Parameter(torch.zeros(outcomes, width))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.weight = nn.Parameter(torch.zeros(outcomes, horizons, width))
        self.bias = nn.Parameter(torch.zeros(outcomes, horizons))

    def forward(self, decoded: Tensor) -> Tensor:
        """Map decoded queries [..., K, width] to logits f32 [..., K, H]."""
        x = self.norm(decoded).float()
        return (self.weight @ x[..., None])[..., 0] + self.bias

    def set_prior(self, prevalence: Tensor) -> None:
        """Start from the logit of each outcome's share of positive training labels, f32 [K, H]."""
        with torch.no_grad():
            self.bias.copy_(torch.logit(prevalence.float(), eps=1e-6))


class TimeQuery(nn.Module):
    """What a query knows of its time: the age, and how long ago the last visible event was."""

    def __init__(self, width: int) -> None:
        """Set up."""
        super().__init__()
        self.age, self.gap = Time2Vec(width), Time2Vec(width)

    def forward(self, age_days: Tensor, gap_days: Tensor) -> Tensor:
        """Map two f32 [...] to [..., width]."""
        # Decades and logarithms of days: both of the order of one.
        return self.age(age_days / 3652.5) + self.gap(torch.log1p(gap_days))


class Calibrated(NamedTuple):
    """Parameters of calibration by outcome: slope, intercept f32 [K]; knots, widths, slopes f32 [K, J]."""

    slope: np.ndarray
    intercept: np.ndarray
    knots: np.ndarray
    widths: np.ndarray
    slopes: np.ndarray


class CalibrationHead(nn.Module):
    """Calibrated probabilities that never fall with the horizon.

    z' = slope z + intercept + sum_j slopes_j clip(z - knots_j, 0, widths_j); probability = running maximum over H
    of sigmoid(z').
    """

    def __init__(self, calibration: Sequence[np.ndarray]) -> None:
        """Hold the parameters as buffers.

        Args:
            calibration: slope, intercept f32 [K], knots, widths, slopes f32 [K, J], in this order.
        """
        super().__init__()
        for name, value in Calibrated(*calibration)._asdict().items():
            self.register_buffer(name, torch.from_numpy(np.array(value, dtype=np.float32)))

    def forward(self, logit: Tensor) -> Tensor:
        """Map logits f32 [B, K, H] to probabilities f32 [B, K, H]."""
        slope, intercept, knots, widths, slopes = (self.get_buffer(name) for name in Calibrated._fields)
        steps = torch.minimum(torch.clamp(logit[..., None] - knots[:, None], min=0.0), widths[:, None])
        calibrated = slope[:, None] * logit + intercept[:, None] + (slopes[:, None] * steps).sum(-1)
        probability = [torch.sigmoid(calibrated[..., 0])]
        # Unrolled, since no operator of onnxruntime is a running maximum.
        for horizon in range(1, logit.shape[-1]):
            probability.append(torch.maximum(probability[-1], torch.sigmoid(calibrated[..., horizon])))
        return torch.stack(probability, dim=-1)
