"""The generating mode as transformers knows it: `from_pretrained`, `generate`, `save_pretrained`.

The same weights and law as ehr.generation, a row of ids in and the logits of the next id out. That module is the
faster one and knows horizons; this one takes every setting and logits processor of `generate`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import CausalLMOutputWithPast

from ehr.decoding import decoder_of, encoder_of, since
from ehr.grammar import CLOSES, ENDS, IMPOSSIBLE, LOWER_DAYS, OPENS, UPPER_DAYS
from ehr.layers import hide, merge, rotary, rotate, split
from ehr.model import Anamnesis
from ehr.network import AnamnesisConfig
from ehr.vocabulary import PAD


class AnamnesisForCausalLM(Anamnesis, GenerationMixin):
    """Rows of ids, codes and time tokens, to logits of the next id."""

    main_input_name = "input_ids"

    def __init__(self, config: AnamnesisConfig) -> None:
        """Build with random weights.

        Raises:
            ValueError: the configuration has no time tokens.
        """
        if not config.time_bins:
            raise ValueError(
                "config.time_bins is 0: the network was not trained to generate; expected a run pretrained with "
                "model.objective permuted_ce"
            )
        super().__init__(config)
        assert self.generation_config is not None
        self.generation_config.pad_token_id = PAD

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        past_key_values: DynamicCache | None = None,
        **kwargs: Any,  # noqa: ANN401  of transformers itself
    ) -> dict[str, Any]:
        """Hand on all ids: the clock is told by them, and `forward` knows which are new."""
        names = ("attention_mask", "visit", "age_days", "use_cache", "logits_to_keep")
        return {
            "input_ids": input_ids,
            "past_key_values": past_key_values,
            **{name: kwargs[name] for name in names if name in kwargs},
        }

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        # The cache has a layer for each block of encoder and decoder, and is made in `forward`.
        return False

    def generate(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  of transformers itself
        """Continue rows of ids as GenerationMixin does, under the grammar.

        `visit` i64 and `age_days` f32 [batch, seq] say where the ids of the prompt stand; without them its own time
        tokens do, from age 0. Death, where it is a token, ends a row.
        """
        rules = [*(kwargs.pop("logits_processor", None) or []), Rules(self, kwargs.get("visit"))]
        kwargs.setdefault("eos_token_id", (self.get_buffer("grammar")[0] == ENDS).nonzero()[:, 0].tolist() or None)
        return super().generate(*args, logits_processor=LogitsProcessorList(rules), **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        visit: Tensor | None = None,
        age_days: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        use_cache: bool | None = None,  # noqa: FBT001  as transformers has it
        logits_to_keep: int = 0,
        return_dict: bool | None = None,  # noqa: ARG002, FBT001  always so
    ) -> CausalLMOutputWithPast:
        """Return logits of the id after each new one.

        Args:
            input_ids: all ids so far, i64 [batch, seq]; 0 is padding.
            attention_mask: 0 where an id is not read, [batch, seq].
            visit: of the first ids, [batch, prompt]; 0 = statics.
            age_days: of the first ids, f32 [batch, prompt].
            past_key_values: of the first ids, as returned.
            use_cache: keep keys and values.
            logits_to_keep: how many of the last ids are answered; 0 answers all new ones.
            return_dict: asked for by transformers; the answer is always one.
        """
        cache = past_key_values if past_key_values is not None else (DynamicCache() if use_cache else None)
        done = cache.get_seq_length() if cache is not None else 0
        code, order, age = self.clocked(input_ids, visit, age_days)
        if attention_mask is not None:
            code = code & (attention_mask > 0)
        dated = code & (order > 0)
        last = torch.where(dated, age, -torch.inf).cummax(dim=1).values
        before = functional.pad(last, (1, 0), value=-torch.inf)[:, :-1]
        gap = torch.where(dated, since(age, before), 0.0)
        turn = rotary(age, torch.zeros_like(age[:, :1]), self.get_buffer("inverse_periods"))
        new = (turn[0][:, :, done:], turn[1][:, :, done:])
        mask = hide(code[:, None, :] & (order[:, None, :] <= order[:, done:, None]))
        table = self.table()
        ids = torch.where(code, input_ids, 0)[:, done:]
        x = functional.embedding(ids, table) + self.time(age, gap)[:, done:]
        for at, block in enumerate(encoder_of(self)):
            query, key, value = block.attention.parts(block.attention_norm(x), new)
            key, value = cache.update(key, value, at) if cache is not None else (key, value)
            mixed = functional.scaled_dot_product_attention(query, key, value, mask.to(query.dtype))
            x = x + block.dropout(block.attention.out(merge(mixed)))
            x = x + block.dropout(block.mix(block.mix_norm(x)))
        encoded = self.encoder_norm(x)
        asked = max(done, input_ids.shape[1] - logits_to_keep) if logits_to_keep else done
        x = self.sets.query + self.query_time(age, since(age, last))[:, asked:]
        # A query stands behind its own id, and the learned key before all.
        mask = functional.pad(mask[:, :, asked - done :], (1, 0))
        ahead = (turn[0][:, :, asked:], turn[1][:, :, asked:])
        for at, block in enumerate(decoder_of(self), start=len(self.encoder)):
            key, value = block.attention.memory(encoded, new)
            key, value = cache.update(key, value, at) if cache is not None else (key, value)
            first = block.attention.learned(key)
            key, value = torch.cat([first[0], key], dim=2), torch.cat([first[1], value], dim=2)
            query = rotate(split(block.attention.query(block.attention_norm(x)), block.attention.heads), ahead)
            mixed = functional.scaled_dot_product_attention(query, key, value, mask.to(query.dtype))
            x = x + block.dropout(block.attention.out(merge(mixed)))
            x = x + block.dropout(block.mix(block.mix_norm(x)))
        output, bias = self.law(table)
        logits = functional.linear(self.sets.norm(x), output).float() + bias
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)  # pyright: ignore[reportArgumentType]

    def clocked(self, ids: Tensor, visit: Tensor | None, age_days: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether each id is a code, its order (0 = statics), and its age, which time tokens move.

        Ages of a prompt are those of its visits' openings, as in training.
        """
        size = self.config.vocabulary_size
        place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        middle = torch.tensor((LOWER_DAYS * UPPER_DAYS) ** 0.5, dtype=torch.float32, device=ids.device)
        moves = torch.where(ids >= size, middle[(ids - size).clamp(min=0)], 0.0)
        order = place.expand_as(ids)
        if visit is None or age_days is None:
            return (ids > PAD) & (ids < size), order, moves.cumsum(dim=1)
        count = visit.shape[1]
        opens = functional.pad(visit[:, 1:] != visit[:, :-1], (1, 0), value=True)
        first = torch.where(opens, torch.arange(count, device=ids.device), 0).cummax(dim=1).values
        opening = torch.where(visit > 0, age_days.gather(1, first), age_days)
        later = opening[:, -1:] + moves[:, count:].cumsum(dim=1)
        order = torch.cat([torch.where(visit > 0, order[:, :count], 0), order[:, count:]], dim=1)
        return (ids > PAD) & (ids < size), order, torch.cat([opening, later], dim=1)


class Rules(LogitsProcessor):
    """Leaves what the grammar allows: the same rules as ehr.generation.State, read off the ids."""

    def __init__(self, network: Anamnesis, visit: Tensor | None) -> None:
        """Take the rules of a network.

        Args:
            network: the one that generates.
            visit: of the ids of the prompt, [batch, prompt]; None where its time tokens divide it.
        """
        rules = network.rules()
        device = network.embedding.weight.device
        self.kind, self.partner = (torch.from_numpy(part).to(device) for part in rules)
        self.types, self.visit = max(rules.types, 1), visit

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores with -inf where an id is impossible, [rows, V + G]."""
        size = len(self.kind)
        rows, length = input_ids.shape
        time = input_ids >= size
        begin = torch.where(time, torch.arange(1, length + 1, device=time.device), 0).amax(dim=1)
        if self.visit is not None:
            repeats = rows // len(self.visit)
            held = self.visit.repeat_interleave(repeats, dim=0)
            begin = begin.maximum((held != held[:, -1:]).sum(dim=1))
        own = (torch.arange(length, device=time.device) >= begin[:, None]) & ~time & (input_ids > PAD)
        code = torch.where(time, PAD, input_ids)
        emitted = torch.zeros(rows, size, dtype=torch.bool, device=time.device)
        emitted.scatter_(1, torch.where(own, code, PAD), value=True)
        empty = ~own.any(dim=1, keepdim=True)
        kind, partner = self.kind[code], self.partner[code]
        step = (kind == OPENS).to(torch.int64) - (kind == CLOSES).to(torch.int64)
        level = (functional.one_hot(partner.clamp(min=0), self.types) * step[..., None]).cumsum(dim=1)
        # An end without its start counts for nothing: what is open never falls below its lowest level so far.
        open_now = level[:, -1] - level.amin(dim=1).clamp(max=0)
        closes = torch.where(self.kind == CLOSES, self.partner, -1)
        shut = functional.pad(open_now, (0, 1), value=1)[:, closes] <= 0
        allowed = (self.kind != IMPOSSIBLE) & ~emitted & (empty | (self.kind != OPENS)) & ~shut
        allowed = torch.cat([allowed, (~empty).expand(rows, scores.shape[1] - size)], dim=1)
        return torch.where(allowed, scores, -torch.inf)
