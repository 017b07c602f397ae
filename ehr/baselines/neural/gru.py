"""A recurrent network over tokens and gaps (GRU, Cho et al. 2014); not pretrained (torch)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ehr import losses
from ehr.baselines.neural.batches import YEAR_DAYS, Padded
from ehr.baselines.neural.recipes import Network, Sizes


@dataclass(frozen=True, kw_only=True)
class Gru:
    """Settings of a GRU."""

    width: int = 128
    """Of embedding and state."""
    layers: int = 2
    """Recurrent layers."""
    dropout: float = 0.1
    """Share of features dropped in training."""

    def build(self, sizes: Sizes) -> Network:
        """Make the network."""
        return GruNetwork(self, sizes)


class GruNetwork(Network):
    """Embedding, age and time to the prediction, a GRU, and logits from its last state."""

    def __init__(self, settings: Gru, sizes: Sizes) -> None:
        """Build with random weights."""
        super().__init__()
        self.axes = (sizes.outcomes, sizes.horizons)
        self.embedding = nn.Embedding(sizes.codes, settings.width, padding_idx=0)
        self.time = nn.Linear(3, settings.width)
        dropout = settings.dropout if settings.layers > 1 else 0.0
        self.gru = nn.GRU(settings.width, settings.width, settings.layers, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.width, sizes.outcomes * sizes.horizons)

    def outcomes(self, batch: Padded) -> Tensor:
        """Return logits, f32 [B, K, H]."""
        gap = torch.diff(batch.age_days, dim=1, prepend=batch.age_days[:, :1]).clamp(min=0)
        features = (batch.age_days / (10 * YEAR_DAYS), torch.log1p(gap), torch.log1p(batch.days_before.float()))
        x = self.embedding(batch.token) + self.time(torch.stack(features, dim=-1))
        states, _ = self.gru(self.dropout(x))
        last = batch.there.sum(dim=1).clamp(min=1) - 1
        state = states[torch.arange(len(last), device=last.device), last]
        return self.head(self.dropout(state)).unflatten(-1, self.axes)

    def outcome_loss(self, batch: Padded, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cross-entropies, and the number of labels."""
        return losses.masked_bce(self.outcomes(batch), label)
