"""A GPT-style decoder of codes and time tokens, pretrained on the next token, on GPT2Model (torch)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2Model

from ehr import losses
from ehr.baselines.neural.batches import Padded
from ehr.baselines.neural.recipes import Network, Pretraining, Sizes
from ehr.grammar import TIME_BINS, UPPER_DAYS


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Settings of a decoder."""

    width: int = 128
    """Features of a token."""
    layers: int = 5
    """Blocks."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.1
    """Share of features dropped in training."""

    def build(self, sizes: Sizes) -> Network:
        """Make the network."""
        return DecoderNetwork(self, sizes)


class DecoderNetwork(Pretraining):
    """Codes with a time token before each visit's first, age in years by a learned map; logits from the last place."""

    def __init__(self, settings: Decoder, sizes: Sizes) -> None:
        """Build with random weights."""
        super().__init__()
        self.codes, self.axes = sizes.codes, (sizes.outcomes, sizes.horizons)
        config = GPT2Config(
            vocab_size=sizes.codes + TIME_BINS,
            n_positions=2 * sizes.tokens + 1,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            resid_pdrop=settings.dropout,
            embd_pdrop=settings.dropout,
            attn_pdrop=settings.dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.gpt = GPT2Model(config)
        self.age = nn.Linear(1, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.width, sizes.outcomes * sizes.horizons)
        self.register_buffer("upper", torch.tensor(UPPER_DAYS, dtype=torch.float32))

    def timed(self, batch: Padded) -> tuple[Tensor, Tensor]:
        """Return ids with time tokens, the last for the time up to the prediction, and ages, [B, T'] each; 0 = padding.

        A time token stands before the first code of every visit and at the end.
        """
        edges = self.get_buffer("upper")
        rows, width = batch.token.shape
        opens = batch.there & (torch.diff(batch.visit, dim=1, prepend=batch.visit[:, :1].clamp(max=0)) > 0)
        length = batch.there.sum(dim=1)
        place = torch.arange(width, device=length.device) + opens.cumsum(dim=1)
        before = torch.cat([batch.age_days[:, :1], batch.age_days[:, :-1]], dim=1)
        gap = (batch.age_days - before).clamp(min=0)
        last = batch.age_days[torch.arange(rows, device=length.device), (length - 1).clamp(min=0)]
        silent = (batch.query_age_days - last).clamp(min=0)
        total = width + int(opens.sum(dim=1).max()) + 1
        ids = torch.zeros(rows, total + 1, dtype=torch.int64, device=length.device)
        age = torch.zeros(rows, total + 1, device=length.device)

        def put(at: Tensor, there: Tensor, value: Tensor, when: Tensor) -> None:
            # What is not there goes to a place beyond the row.
            at = torch.where(there, at, total)
            ids.scatter_(1, at, value)
            age.scatter_(1, at, when)

        token = torch.searchsorted(edges, gap.contiguous()).clamp(max=TIME_BINS - 1) + self.codes
        put(place, batch.there, batch.token, batch.age_days)
        put(place - 1, opens, token, batch.age_days)
        end = (length + opens.sum(dim=1))[:, None]
        closing = torch.searchsorted(edges, silent[:, None].contiguous()).clamp(max=TIME_BINS - 1) + self.codes
        put(end, torch.ones_like(end, dtype=torch.bool), closing, batch.query_age_days[:, None])
        return ids[:, :total], age[:, :total]

    def states(self, ids: Tensor, age: Tensor) -> Tensor:
        """Return hidden states, [B, T', width]."""
        embedded = self.gpt.get_input_embeddings()(ids) + self.age(age[..., None] / 36_525)
        return self.gpt(inputs_embeds=embedded, attention_mask=(ids > 0).long()).last_hidden_state

    def pretraining_loss(self, batch: Padded, noise: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002  nothing is hidden
        """Return the sum of cross-entropies of next tokens, and their number; the time up to the query is no target."""
        ids, age = self.timed(batch)
        length = (ids > 0).sum(dim=1)
        hidden = self.states(ids, age)[:, :-1]
        asked = torch.arange(1, ids.shape[1], device=ids.device) < (length - 1)[:, None]
        table = self.gpt.get_input_embeddings().weight
        logits = functional.linear(hidden[asked], table)
        return functional.cross_entropy(logits, ids[:, 1:][asked], reduction="sum"), asked.sum().float()

    def outcomes(self, batch: Padded) -> Tensor:
        """Return logits from the last place, f32 [B, K, H]."""
        ids, age = self.timed(batch)
        last = (ids > 0).sum(dim=1) - 1
        state = self.states(ids, age)[torch.arange(len(last), device=last.device), last]
        return self.head(self.dropout(state)).unflatten(-1, self.axes)

    def outcome_loss(self, batch: Padded, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cross-entropies, and the number of labels."""
        return losses.masked_bce(self.outcomes(batch), label)


def parameters(network: nn.Module) -> int:
    """Return the number of weights."""
    return int(np.sum([weight.numel() for weight in network.parameters()]))
