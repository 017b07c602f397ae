"""The published recipe, TransformEHR (Yang et al., Nat Commun 14:7857, 2023), on transformers' BART (torch).

A reconstruction: the masking, the collators and the weights were never published. From the paper and the code that is
there: a BART that reads codes with learned positions and an embedding of the visit's date; pretraining hides all codes
of a visit, each by a mask of its own, and the decoder, which is told no date, writes them in the order of the record;
outcomes are codes that the decoder writes, found by beam search.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from ehr import losses
from ehr.baselines.neural.batches import Padded
from ehr.baselines.neural.recipes import Network, Pretraining, Sizes
from ehr.vocabulary import MASK

DATES = 1_460
"""Rows of the date embedding: days before the prediction time, longer ones together."""
LONGEST = 64
"""Codes written for what is hidden, at most."""
WRITTEN = 8
"""Outcomes written for a patient, at most."""
MASKINGS = ("visit", "code")


@dataclass(frozen=True, kw_only=True)
class Published:
    """Settings of the published recipe and of its ablations."""

    width: int = 128
    """Features of a token."""
    encoder_layers: int = 3
    """Blocks that read."""
    decoder_layers: int = 2
    """Blocks that write."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.1
    """Share of features dropped in training."""
    rate: float = 0.15
    """Share of codes hidden, where masking is by code."""
    beams: int = 4
    """Of the search for outcomes."""
    masking: str = "visit"
    """visit: all codes of one visit drawn at random; code: codes anywhere."""
    decoder: bool = True
    """Whether a decoder writes; else the encoder answers at the masks, and for outcomes from its mean."""
    dates: bool = True
    """Whether tokens carry their visit's date."""

    def __post_init__(self) -> None:
        """Refuse a masking that is not known."""
        if self.masking not in MASKINGS:
            raise ValueError(f"masking is {self.masking}; expected one of {', '.join(MASKINGS)}")

    def build(self, sizes: Sizes) -> Network:
        """Make the network."""
        return PublishedNetwork(self, sizes)


class PublishedNetwork(Pretraining):
    """Ids: V codes, then begin, end, and one for each outcome and horizon."""

    def __init__(self, settings: Published, sizes: Sizes) -> None:
        """Build with random weights."""
        super().__init__()
        self.settings, self.axes = settings, (sizes.outcomes, sizes.horizons)
        self.begin, self.end = sizes.codes, sizes.codes + 1
        slots = sizes.outcomes * sizes.horizons
        config = BartConfig(
            vocab_size=sizes.codes + 2 + slots,
            d_model=settings.width,
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            encoder_attention_heads=settings.heads,
            decoder_attention_heads=settings.heads,
            encoder_ffn_dim=4 * settings.width,
            decoder_ffn_dim=4 * settings.width,
            max_position_embeddings=max(sizes.tokens, LONGEST, slots) + 2,
            dropout=settings.dropout,
            pad_token_id=0,
            bos_token_id=self.begin,
            eos_token_id=self.end,
            decoder_start_token_id=self.begin,
            forced_eos_token_id=None,
        )
        self.bart = BartForConditionalGeneration(config)
        self.dates = nn.Embedding(DATES, settings.width)
        nn.init.normal_(self.dates.weight, std=0.02)
        self.head = nn.Linear(settings.width, slots)

    def encode(self, batch: Padded, token: Tensor) -> Tensor:
        """Return encoded tokens, [B, T, width]."""
        embedded = self.bart.get_input_embeddings()(token)
        if self.settings.dates:
            embedded = embedded + self.dates(batch.days_before.clamp(max=DATES - 1))
        # A patient without history reads one place of padding.
        there = batch.there | (torch.arange(token.shape[1], device=token.device) == 0)
        encoder = self.bart.get_encoder()
        return encoder(inputs_embeds=embedded, attention_mask=there.long()).last_hidden_state

    def hidden(self, batch: Padded, noise: Tensor) -> Tensor:
        """Return which codes are hidden, bool [B, T]."""
        free = batch.there & (batch.visit > 0) & (batch.token > MASK)
        if self.settings.masking == "code":
            return free & (noise < self.settings.rate)
        # Every visit is as likely as another: the noise of its first code decides.
        opens = free & (torch.diff(batch.visit, dim=1, prepend=torch.zeros_like(batch.visit[:, :1])) > 0)
        chosen = torch.where(opens, noise, -1.0).argmax(dim=1, keepdim=True)
        return free & (batch.visit == batch.visit.gather(1, chosen))

    def pretraining_loss(self, batch: Padded, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cross-entropies of what is hidden (written by the decoder, in order), and their number."""
        hidden = self.hidden(batch, noise)
        encoded = self.encode(batch, torch.where(hidden, MASK, batch.token))
        if not self.settings.decoder:
            table = self.bart.get_input_embeddings().weight
            assert isinstance(table, Tensor)
            logits = functional.linear(encoded[hidden], table)
            return functional.cross_entropy(logits, batch.token[hidden], reduction="sum"), hidden.sum().float()
        return self.written(batch, encoded, self.listed(batch.token, hidden, LONGEST))

    def listed(self, ids: Tensor, wanted: Tensor, longest: int) -> Tensor:
        """Return the ids wanted in each row, in order, closed by `end` and padded with -100, i64 [B, N + 1]."""
        counts = wanted.sum(dim=1).clamp(max=longest)
        place = wanted.cumsum(dim=1) - 1
        width = int(counts.max()) if len(counts) else 0
        found = torch.full((len(ids), width + 2), -100, dtype=torch.int64, device=ids.device)
        kept = wanted & (place < longest)
        found.scatter_(1, torch.where(kept, place, width + 1), torch.where(kept, ids, -100))
        found[:, width + 1] = -100
        found[torch.arange(len(ids), device=ids.device), counts] = self.end
        return found[:, : width + 1]

    def written(self, batch: Padded, encoded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of cross-entropies of a target that the decoder is forced along, and its length in all."""
        before = functional.pad(target[:, :-1].clamp(min=0), (1, 0), value=self.begin)
        logits = self.bart(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),  # pyright: ignore[reportArgumentType]
            attention_mask=self.seen(batch),
            decoder_input_ids=before,
        ).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum")
        return loss, (target != -100).sum().float()

    def seen(self, batch: Padded) -> Tensor:
        """Return what the decoder reads of the record, i64 [B, T]."""
        first = torch.arange(batch.token.shape[1], device=batch.token.device) == 0
        return (batch.there | first).long()

    def outcome_loss(self, batch: Padded, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of losses over what is learnt of outcomes, and the number of terms.

        The decoder is taught to write the positive outcomes in their order, then the end.
        """
        encoded = self.encode(batch, batch.token)
        if not self.settings.decoder:
            return losses.masked_bce(self.pooled(batch, encoded), label)
        flat = label.flatten(1)
        ids = torch.arange(flat.shape[1], device=flat.device).expand_as(flat) + self.end + 1
        return self.written(batch, encoded, self.listed(ids, flat == 1, flat.shape[1]))

    def pooled(self, batch: Padded, encoded: Tensor) -> Tensor:
        """Return logits from the mean of the encoded tokens, f32 [B, K, H]."""
        weight = self.seen(batch)[..., None].to(encoded.dtype)
        return self.head((encoded * weight).sum(dim=1) / weight.sum(dim=1)).unflatten(-1, self.axes)

    def outcomes(self, batch: Padded) -> Tensor:
        """Return logits, f32 [B, K, H].

        The probability of an outcome is that of all beams in which it is written, or of its being written first where
        that is more: most patients have no beam for a rare outcome, and would all be equal.
        """
        encoded = self.encode(batch, batch.token)
        if not self.settings.decoder:
            return self.pooled(batch, encoded)
        slots = self.axes[0] * self.axes[1]
        state: dict[str, Any] = {"attention_mask": self.seen(batch)}
        start = torch.full_like(batch.token[:, :1], self.begin)
        outputs = BaseModelOutput(last_hidden_state=encoded)  # pyright: ignore[reportArgumentType]
        first = self.bart(encoder_outputs=outputs, decoder_input_ids=start, **state).logits[:, 0]
        probability = torch.softmax(first.float(), dim=-1)[:, self.end + 1 :]
        beams = self.settings.beams
        found = self.bart.generate(  # pyright: ignore[reportAttributeAccessIssue]
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.clone()),  # pyright: ignore[reportArgumentType]
            **state,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=WRITTEN,
            length_penalty=0.0,
            do_sample=False,
            suppress_tokens=list(range(self.end)),
            no_repeat_ngram_size=1,
            return_dict_in_generate=True,
            output_scores=True,
        )
        written = torch.zeros(len(found.sequences), slots + 1, device=first.device)
        at = (found.sequences - self.end - 1).clamp(min=-1) % (slots + 1)
        written.scatter_(1, at, 1.0)
        weight = found.sequences_scores.float().exp()[:, None]
        total = (written[:, :slots] * weight).unflatten(0, (-1, beams)).sum(dim=1)
        chance = torch.maximum(probability, total).clamp(1e-9, 1 - 1e-6)
        return torch.logit(chance).unflatten(-1, self.axes)
