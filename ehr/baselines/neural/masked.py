"""A masked-code encoder after BEHRT (Li et al. 2020) and Med-BERT (Rasmy et al. 2021), on BertModel (torch)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from ehr import losses
from ehr.baselines.neural.batches import YEARS, Padded
from ehr.baselines.neural.recipes import Network, Pretraining, Sizes
from ehr.vocabulary import MASK


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Settings of a masked-code encoder."""

    width: int = 128
    """Features of a token."""
    layers: int = 5
    """Blocks."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.1
    """Share of features dropped in training."""
    rate: float = 0.15
    """Share of codes asked for in pretraining: of these 80 % become [MASK], 10 % a random code."""

    def build(self, sizes: Sizes) -> Network:
        """Make the network."""
        return MaskedNetwork(self, sizes)


class MaskedNetwork(Pretraining):
    """Token, position, age in years and the turn of visits (A, B, A, ...), as BEHRT adds them; [CLS] comes first."""

    def __init__(self, settings: Masked, sizes: Sizes) -> None:
        """Build with random weights."""
        super().__init__()
        self.rate, self.codes, self.axes = settings.rate, sizes.codes, (sizes.outcomes, sizes.horizons)
        config = BertConfig(
            vocab_size=sizes.codes + 1,
            hidden_size=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=4 * settings.width,
            max_position_embeddings=sizes.tokens + 1,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=settings.dropout,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.age = nn.Embedding(YEARS + 1, settings.width)
        nn.init.normal_(self.age.weight, std=config.initializer_range)
        self.bias = nn.Parameter(torch.zeros(sizes.codes))
        self.pool = nn.Linear(settings.width, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.width, sizes.outcomes * sizes.horizons)

    def encode(self, batch: Padded, token: Tensor) -> Tensor:
        """Return [CLS] and tokens encoded, [B, 1 + T, width]."""
        first = torch.full_like(token[:, :1], self.codes)
        ids = torch.cat([first, token], dim=1)
        # The age at the prediction time belongs to [CLS].
        asked = batch._replace(age_days=batch.query_age_days[:, None]).years
        years = torch.cat([asked, batch.years], dim=1)
        side = functional.pad(batch.visit % 2, (1, 0)).to(torch.int64)
        there = functional.pad(batch.there, (1, 0), value=True)
        embedded = self.bert.get_input_embeddings()(ids) + self.age(years)
        return self.bert(inputs_embeds=embedded, attention_mask=there.long(), token_type_ids=side).last_hidden_state

    def pretraining_loss(self, batch: Padded, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cross-entropies of the codes asked for, and their number."""
        asked = batch.there & (noise < self.rate) & (batch.token > MASK)
        share = noise / self.rate
        # The noise of a place asked for is uniform still below the rate: its parts choose what stands there.
        code = MASK + 1 + (share * 7919 % 1 * (self.codes - MASK - 1)).to(torch.int64)
        token = torch.where(asked & (share < 0.8), MASK, batch.token)
        token = torch.where(asked & (share >= 0.8) & (share < 0.9), code.clamp(max=self.codes - 1), token)
        hidden = self.encode(batch, token)[:, 1:][asked]
        table = self.bert.get_input_embeddings().weight[: self.codes]
        logits = functional.linear(hidden, table, self.bias)
        loss = functional.cross_entropy(logits, batch.token[asked], reduction="sum")
        return loss, asked.sum().float()

    def outcomes(self, batch: Padded) -> Tensor:
        """Return logits from [CLS], f32 [B, K, H]."""
        pooled = torch.tanh(self.pool(self.encode(batch, batch.token)[:, 0]))
        return self.head(self.dropout(pooled)).unflatten(-1, self.axes)

    def outcome_loss(self, batch: Padded, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cross-entropies, and the number of labels."""
        return losses.masked_bce(self.outcomes(batch), label)
