"""The network: an encoder of the record and a decoder of queries, as a transformers model (torch)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from ehr.batches import Batch
from ehr.corruption import Denoising
from ehr.grammar import Grammar
from ehr.heads import CalibrationHead, ClockHead, HazardHead, OutcomeHead, SetHead, TimeQuery, ValueHead
from ehr.layers import PERIOD_DAYS, DecoderBlock, EncoderBlock, hide, log_periods, rotary
from ehr.network import AnamnesisConfig, Network
from ehr.summary import Summary
from ehr.vocabulary import PAD, Vocabulary

LATEST = 2**31 - 1


class Moments(NamedTuple):
    """S times a row at which something is asked for.

    Attributes:
        age_days: f32 [R, S].
        segment: i32 [R, S], 0 = padding.
        before: i32 [R, S]; visits before this one are read.
    """

    age_days: Tensor
    segment: Tensor
    before: Tensor


class Reading(NamedTuple):
    """What the encoder made of packed rows, and what queries need beside it.

    Attributes:
        encoded: [R, T, width].
        segment: i32 [R, T], 0 = padding.
        visit: i32 [R, T].
        age_days: f32 [R, T].
        turn: rotation of the tokens.
    """

    encoded: Tensor
    segment: Tensor
    visit: Tensor
    age_days: Tensor
    turn: tuple[Tensor, Tensor]


class Anamnesis(PreTrainedModel):
    """Encoder of a record and decoder of queries; queries read the record and not each other."""

    config_class = AnamnesisConfig
    base_model_prefix = "anamnesis"
    main_input_name = "token"
    config: AnamnesisConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: AnamnesisConfig) -> None:
        """Build with random weights."""
        super().__init__(config)
        shape = Network(**config.network)
        parts = (shape.width, shape.heads, shape.hidden_size, shape.dropout)
        self.one_way = shape.attention == "visit_causal"
        self.embedding = nn.Embedding(config.vocabulary_size, shape.width)
        self.register_buffer("bag", torch.zeros(config.vocabulary_size + config.ancestor_links, dtype=torch.int64))
        self.register_buffer("bag_offsets", torch.zeros(config.vocabulary_size, dtype=torch.int64))
        periods = log_periods(shape.width // shape.heads // 2, *PERIOD_DAYS)
        self.register_buffer("inverse_periods", 1 / periods)
        self.time = TimeQuery(shape.width)
        self.query_time = TimeQuery(shape.width)
        self.encoder = nn.ModuleList(EncoderBlock(*parts) for _ in range(shape.encoder_layers))
        self.encoder_norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.decoder = nn.ModuleList(DecoderBlock(*parts) for _ in range(shape.decoder_layers))
        self.sets = SetHead(shape.width, config.vocabulary_size)
        horizons = max(map(len, config.horizons), default=0)
        slots = horizons * len(config.outcomes)
        summary = Summary(shape.width, config.vocabulary_size, slots, shape.dropout) if shape.summary else None
        self.heads = OutcomeHead(shape.width, len(config.outcomes), horizons, summary)
        if config.time_bins:
            self.clock = ClockHead(shape.width, config.time_bins)
            self.register_buffer("grammar", torch.zeros(2, config.vocabulary_size, dtype=torch.int64))
        if "hazards" in config.asks:
            self.hazards = HazardHead(shape.width, config.vocabulary_size)
        if "values" in config.asks:
            self.values = ValueHead(shape.width, config.vocabulary_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights: 1/sqrt(fan-in) for maps, one for norms, small for queries."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, OutcomeHead):
            nn.init.normal_(module.query, std=module.query.shape[-1] ** -0.5)

    def know(self, vocabulary: Vocabulary) -> None:
        """Take the ancestors of each token: e(v) = E[v] + sum of E[a] over its ancestors a."""
        offsets, ids = vocabulary.ancestor_lists()
        tokens = np.arange(vocabulary.size, dtype=np.int64)
        bag = np.insert(ids, offsets[:-1], tokens)
        self.get_buffer("bag").copy_(torch.from_numpy(bag))
        self.get_buffer("bag_offsets").copy_(torch.from_numpy(offsets[:-1] + tokens))
        if self.heads.summary is not None:
            self.heads.summary.know(vocabulary.bare(), vocabulary.levels())
        if "values" in self.config.asks:
            self.values.get_buffer("bare").copy_(torch.from_numpy(vocabulary.bare()))
            self.values.get_buffer("level").copy_(torch.from_numpy(vocabulary.levels()))

    def begin(self, outcome: int, codes: Tensor, gap_days: float) -> None:
        """Let an outcome start as what pretraining knows of the codes of its event.

        Where pretraining asked when each code comes, that is what the outcome answers before any training, unless it is
        told a summary; else its query asks for these codes.

        Args:
            outcome: number of the outcome.
            codes: token ids, i64 [N].
            gap_days: between the question and the outcome's windows.
        """
        heads = self.heads
        if "hazards" not in self.config.asks:
            heads.query[outcome] = self.table()[codes].mean(0)
            return
        heads.norm.weight.copy_(self.hazards.norm.weight)
        heads.query[outcome] = self.hazards.query
        for at, days in enumerate(self.config.horizons[outcome]):
            # The linear part of a summary is fitted alone: what it lacks is learnt from nothing.
            if days > 0 and heads.summary is None:
                heads.weight[outcome, at] = self.hazards.direction(codes, gap_days, gap_days + days)

    def obey(self, grammar: Grammar) -> None:
        """Take the rules that generated futures keep to."""
        self.get_buffer("grammar").copy_(torch.from_numpy(np.stack(grammar)))

    def rules(self) -> Grammar:
        """Return the rules that generated futures keep to."""
        return Grammar(*self.get_buffer("grammar").cpu().numpy())

    def table(self) -> Tensor:
        """Return the embedding of every token with its ancestors added, [V, width]."""
        bag, offsets = self.get_buffer("bag"), self.get_buffer("bag_offsets")
        return functional.embedding_bag(bag, self.embedding.weight, offsets, mode="sum")

    def encode(
        self, token: Tensor, segment: Tensor, visit: Tensor, age_days: Tensor, anchor: Tensor, table: Tensor
    ) -> Reading:
        """Read packed rows.

        Args:
            token: i64 [R, T], 0 = padding.
            segment: i32 [R, T]; tokens see their own segment alone.
            visit: i32 [R, T].
            age_days: f32 [R, T].
            anchor: age that rotation counts from, the same for all tokens of a segment, f32 [R, T].
            table: what `table` returns.
        """
        same = segment[:, :, None] == segment[:, None, :]
        earlier = visit[:, :, None] > visit[:, None, :]
        later = visit[:, :, None] < visit[:, None, :]
        hidden = hide(same & ~later if self.one_way else same)
        gap = since_last(same & earlier & (visit > 0)[:, None, :], age_days, age_days)
        turn = rotary(age_days, anchor, self.get_buffer("inverse_periods"))
        x = functional.embedding(token, table) + self.time(age_days, gap)
        for block in self.encoder:
            x = block(x, hidden, turn)
        return Reading(self.encoder_norm(x), segment, visit, age_days, turn)

    def decode(self, reading: Reading, query: Tensor, moments: Moments, anchor: Tensor) -> Tensor:
        """Let queries read their segment's visits before a bound.

        Args:
            reading: what `encode` returned.
            query: K queries at each of S moments, [R, S, K, width].
            moments: when and where they ask.
            anchor: the segment's anchor at each moment, f32 [R, S].

        Returns:
            [R, S, K, width].
        """
        _, times, queries, _ = query.shape
        visible = seen(reading, moments)
        dated = visible & (reading.visit > 0)[:, None, :]
        gap = since_last(dated, moments.age_days, reading.age_days)
        x = query + self.query_time(moments.age_days, gap)[:, :, None]
        # The learned key comes first and is never hidden.
        hidden = torch.cat(
            [torch.zeros_like(reading.age_days[:, None, :1]).expand(-1, times, -1)[:, None], hide(visible)], dim=-1
        )
        hidden = hidden[:, :, :, None].expand(-1, -1, -1, queries, -1).flatten(2, 3)
        asked, counted_from = (
            age[:, :, None].expand(-1, times, queries).flatten(1) for age in (moments.age_days, anchor)
        )
        turn = rotary(asked, counted_from, self.get_buffer("inverse_periods"))
        x = x.flatten(1, 2)
        for block in self.decoder:
            x = block(x, reading.encoded, hidden, turn, reading.turn)
        return x.unflatten(1, (times, queries))

    def read(self, batch: Batch[Tensor], table: Tensor) -> Reading:
        """Encode a batch; each segment's anchor is its age at the prediction time."""
        anchor = of_segments(batch.query_age_days, batch.segment, batch.segment)
        return self.encode(batch.token, batch.segment, batch.visit, batch.age_days, anchor, table)

    def pretrain(self, denoising: Denoising[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Answer what the batch asks for.

        Returns:
            query [N, width] and log_size f32 [N] of the N queries that are not padding, in row-major order, and the
            table [V, width] (see `law`); and what the hazard head answers at the M moments at which it is asked what
            comes when, [M, J, rank], None where there are none.
        """
        table = self.table()
        reading = self.read(denoising.source, table)
        moments = Moments(denoising.query_age_days, denoising.query_segment, denoising.query_visit)
        anchor = of_segments(denoising.source.query_age_days, denoising.source.segment, moments.segment)
        known = functional.embedding(denoising.query_type, table)
        query = self.sets.query + known * (denoising.query_type != PAD)[..., None]
        decoded = self.decode(reading, query[:, :, None], moments, anchor)[:, :, 0]
        answer, log_size = self.sets(decoded[denoising.query_segment > 0])
        later = denoising.later
        if later is None:
            return answer, log_size, table, None
        moments = Moments(later.age_days, later.segment, later.before)
        anchor = of_segments(denoising.source.query_age_days, denoising.source.segment, moments.segment)
        query = self.hazards.query.expand(*moments.segment.shape, 1, -1)
        decoded = self.decode(reading, query, moments, anchor)[:, :, 0]
        return answer, log_size, table, self.hazards(decoded[moments.segment > 0])

    def law(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output table and the bias of all that may be asked for: codes, then time tokens, if any.

        Args:
            table: what `table` returns.

        Returns:
            [V + G, width] and f32 [V + G].
        """
        if not self.config.time_bins:
            return table, self.sets.bias
        return torch.cat([table, self.clock.weight]), torch.cat([self.sets.bias, self.clock.bias])

    def outcomes(self, batch: Batch[Tensor], query_age_days: Tensor) -> Tensor:
        """Return logits of all outcomes at each sample's age, f32 [B, K, H].

        Args:
            batch: B samples in packed rows.
            query_age_days: age at which each is asked, f32 [B].
        """
        count = int(batch.segment.max().item())
        number = torch.arange(1, count + 1, device=batch.segment.device, dtype=torch.int32)
        there = number <= batch.segment.amax(dim=1, keepdim=True)
        segment = torch.where(there, number, 0)
        age = of_segments(query_age_days, batch.segment, segment)
        moments = Moments(age, segment, torch.full_like(segment, LATEST))
        return self.outcomes_at(batch._replace(query_age_days=query_age_days), moments)

    def outcomes_at(self, batch: Batch[Tensor], moments: Moments) -> Tensor:
        """Return logits of all outcomes at several moments of each record, f32 [N, K, H].

        A record is read once for all of its moments; with visit-causal attention each sees what it would see alone.

        Args:
            batch: packed rows.
            moments: [R, S]; N of them are not padding, in row-major order.
        """
        table = self.table()
        reading = self.read(batch, table)
        anchor = of_segments(batch.query_age_days, batch.segment, moments.segment)
        return self.answer(reading, batch.token, moments, anchor, table)[moments.segment > 0]

    def answer(self, reading: Reading, token: Tensor, moments: Moments, anchor: Tensor, table: Tensor) -> Tensor:
        """Return logits of all outcomes at S moments a row, f32 [R, S, K, H].

        Args:
            reading: what `encode` returned.
            token: i64 [R, T], which the summary is of.
            moments: when and where they are asked for.
            anchor: the segment's anchor at each moment, f32 [R, S].
            table: what `table` returns.
        """
        query = self.heads.query.expand(*moments.segment.shape, -1, -1)
        if self.heads.summary is None:
            return self.heads(self.decode(reading, query, moments, anchor))
        embedded = functional.embedding(token, table)
        told = self.heads.summary(token, embedded, seen(reading, moments), reading.age_days, moments.age_days)
        logit = self.heads(self.decode(reading, query + told.query[:, :, None], moments, anchor))
        return logit + told.logit.unflatten(-1, logit.shape[-2:])

    def score(self, token: Tensor, visit: Tensor, age_days: Tensor, query_age_days: Tensor, table: Tensor) -> Tensor:
        """Return logits of samples that stand one a row, f32 [batch, K, H]; a row of padding alone has no history.

        Args:
            token: i64 [batch, seq], 0 = padding.
            visit: i32 [batch, seq].
            age_days: f32 [batch, seq].
            query_age_days: f32 [batch].
            table: what `table` returns.
        """
        segment = (token != PAD).to(torch.int32)
        anchor = query_age_days[:, None]
        reading = self.encode(token, segment, visit, age_days, anchor, table)
        asked = torch.ones_like(segment[:, :1])
        moments = Moments(anchor, asked, torch.full_like(asked, LATEST))
        return self.answer(reading, token, moments, anchor, table)[:, 0]


def seen(reading: Reading | Batch[Tensor], moments: Moments) -> Tensor:
    """Return which tokens each moment sees: its segment's, in visits before its bound, bool [R, S, T]."""
    own = (moments.segment[:, :, None] == reading.segment[:, None, :]) & (moments.segment > 0)[:, :, None]
    return own & (reading.visit[:, None, :] < moments.before[:, :, None])


def since_last(visible: Tensor, now: Tensor, age_days: Tensor) -> Tensor:
    """Return the days since the last visible event, 0 where there is none.

    Args:
        visible: bool [R, N, T].
        now: age, f32 [R, N].
        age_days: ages of events, f32 [R, T].
    """
    last = torch.where(visible, age_days[:, None, :], -1e9).amax(dim=-1)
    return torch.where(last > -1e8, torch.clamp(now - last, min=0.0), 0.0)


def of_segments(value: Tensor, segment: Tensor, at: Tensor) -> Tensor:
    """Spread a value by sample over positions; padding gets 0.

    Args:
        value: f32 [B], in row-major order of segments.
        segment: the batch's segments, i32 [R, T].
        at: segments asked for, i32 [R, N].

    Returns:
        f32 [R, N].
    """
    counts = segment.amax(dim=1)
    first = torch.cumsum(counts, dim=0) - counts
    index = torch.where(at > 0, first[:, None] + at, 0)
    return torch.cat([value.new_zeros(1), value])[index]


class OutcomeScorer(nn.Module):
    """What is exported: one sample a row in, raw logits and calibrated probabilities out.

    Embedding and ancestors are folded into one table.
    """

    def __init__(self, model: Anamnesis, calibration: Sequence[np.ndarray]) -> None:
        """Take a fine-tuned network and its calibration.

        Args:
            model: the network; it is put into eval mode.
            calibration: slope, intercept f32 [K], knots, widths, slopes f32 [K, J], in this order.
        """
        super().__init__()
        self.model = model.eval()
        self.calibrate = CalibrationHead(calibration)
        with torch.no_grad():
            self.register_buffer("folded", model.table().detach().clone())

    def forward(self, token: Tensor, visit: Tensor, age_days: Tensor, query_age_days: Tensor) -> tuple[Tensor, Tensor]:
        """Score samples.

        Args:
            token: i64 [batch, seq], 0 = padding.
            visit: i32 [batch, seq].
            age_days: f32 [batch, seq].
            query_age_days: f32 [batch].

        Returns:
            logit, probability: f32 [batch, K, H].
        """
        logit = self.model.score(token, visit, age_days, query_age_days, self.get_buffer("folded"))
        return logit, self.calibrate(logit)
