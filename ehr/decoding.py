"""Decoding of futures token by token: keys and values are kept, and a prefix is shared by all futures of a patient."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ehr.layers import DecoderBlock, EncoderBlock, hide, merge, rotary, rotate, split
from ehr.model import Anamnesis

GROWTH = 32


class Prefix(NamedTuple):
    """P records that were read, one a row, and what the blocks keep of them.

    Attributes:
        keys: by block, the encoder's first, [P, heads, T, D]; the decoder's begin with the learned key.
        values: likewise.
        hidden: added to scores by block, [P, 1, 1, T].
        anchor: age that rotation counts from, f32 [P, 1].
        last: age of the last dated token, -inf where there is none, f32 [P].
    """

    keys: list[Tensor]
    values: list[Tensor]
    hidden: list[Tensor]
    anchor: Tensor
    last: Tensor


def encoder_of(network: Anamnesis) -> Iterator[EncoderBlock]:
    """Yield the encoder's blocks."""
    for block in network.encoder:
        assert isinstance(block, EncoderBlock)
        yield block


def decoder_of(network: Anamnesis) -> Iterator[DecoderBlock]:
    """Yield the decoder's blocks."""
    for block in network.decoder:
        assert isinstance(block, DecoderBlock)
        yield block


def since(age: Tensor, last: Tensor) -> Tensor:
    """Return days since the last token, 0 where there is none."""
    return torch.where(torch.isfinite(last), (age - last).clamp(min=0.0), 0.0)


def read(network: Anamnesis, table: Tensor, token: Tensor, order: Tensor, age: Tensor, anchor: Tensor) -> Prefix:
    """Read records and keep what the blocks need of them.

    Args:
        network: in eval mode.
        table: what its `table` returns.
        token: i64 [P, T], 0 = padding.
        order: i32 [P, T], 0 = statics and padding; a token sees those of its own and of lower orders.
        age: f32 [P, T].
        anchor: f32 [P, 1].
    """
    there = token > 0
    dated = there & (order > 0)
    last = torch.where(dated, age, -torch.inf).cummax(dim=1).values
    before = functional.pad(last, (1, 0), value=-torch.inf)[:, :-1]
    gap = torch.where(dated, since(age, before), 0.0)
    turn = rotary(age, anchor, network.get_buffer("inverse_periods"))
    visible = there[:, None, :] & there[:, :, None] & (order[:, None, :] <= order[:, :, None])
    mask = hide(visible)
    x = functional.embedding(token, table) + network.time(age, gap)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    hidden = [hide(there[:, None, :])] * len(network.encoder)
    for block in encoder_of(network):
        query, key, value = block.attention.parts(block.attention_norm(x), turn)
        mixed = functional.scaled_dot_product_attention(query, key, value, mask.to(query.dtype))
        x = x + block.attention.out(merge(mixed))
        x = x + block.mix(block.mix_norm(x))
        keys.append(key)
        values.append(value)
    encoded = network.encoder_norm(x)
    for block in decoder_of(network):
        pair = block.attention.memory(encoded, turn)
        learned = block.attention.learned(pair[0])
        keys.append(torch.cat([learned[0], pair[0]], dim=2))
        values.append(torch.cat([learned[1], pair[1]], dim=2))
    hidden += [functional.pad(hidden[0], (1, 0))] * len(network.decoder)
    return Prefix(keys, values, hidden, anchor, last[:, -1])


class Decoder(nn.Module):
    """N futures of each of P records; every step appends a token to some and asks all for the next.

    What is shared is computed once: scores of all futures of a record against its prefix are one product, and only
    keys and values of the futures' own tokens are kept a future.
    """

    def __init__(self, network: Anamnesis, table: Tensor, prefix: Prefix, samples: int) -> None:
        """Start N futures of each record.

        Args:
            network: in eval mode.
            table: what its `table` returns.
            prefix: what `read` returned.
            samples: N.
        """
        super().__init__()
        self.network, self.prefix = network, prefix
        self.table = table
        self.output, self.bias = network.law(table)
        self.blocks = len(network.encoder) + len(network.decoder)
        rows, heads, _, size = prefix.keys[0].shape
        self.length = prefix.anchor.new_zeros(rows, samples, dtype=torch.int64)
        self.last = prefix.last[:, None].expand(rows, samples).clone()
        self.keys = [prefix.keys[0].new_zeros(rows, heads, samples, GROWTH, size) for _ in range(self.blocks)]
        self.values = [torch.zeros_like(key) for key in self.keys]

    def append(self, token: Tensor, age: Tensor, there: Tensor) -> None:
        """Read the next token of each future.

        Args:
            token: i64 [P, N].
            age: f32 [P, N].
            there: whether the future goes on with this token; others are left as they are, bool [P, N].
        """
        network, prefix = self.network, self.prefix
        if int(self.length.max()) + 1 > self.keys[0].shape[3]:
            grown = (0, 0, 0, self.keys[0].shape[3])
            self.keys = [functional.pad(part, grown) for part in self.keys]
            self.values = [functional.pad(part, grown) for part in self.values]
        turn = rotary(age, prefix.anchor, network.get_buffer("inverse_periods"))
        own = hide(self.slots() <= self.length[..., None])
        x = functional.embedding(token, self.table) + network.time(age, since(age, self.last))
        for at, block in enumerate(encoder_of(network)):
            query, key, value = block.attention.parts(block.attention_norm(x), turn)
            self.keep(at, key, value)
            x = x + block.attention.out(merge(self.attend(at, query, own)))
            x = x + block.mix(block.mix_norm(x))
        encoded = network.encoder_norm(x)
        for at, block in enumerate(decoder_of(network), start=len(network.encoder)):
            self.keep(at, *block.attention.memory(encoded, turn))
        self.length = self.length + there
        self.last = torch.where(there, age, self.last)

    def ask(self, age: Tensor) -> Tensor:
        """Return logits of codes and time tokens of the next token at an age, f32 [P, N, V + G]."""
        network = self.network
        turn = rotary(age, self.prefix.anchor, network.get_buffer("inverse_periods"))
        own = hide(self.slots() < self.length[..., None])
        x = network.sets.query + network.query_time(age, since(age, self.last))
        for at, block in enumerate(decoder_of(network), start=len(network.encoder)):
            query = rotate(split(block.attention.query(block.attention_norm(x)), block.attention.heads), turn)
            x = x + block.attention.out(merge(self.attend(at, query, own)))
            x = x + block.mix(block.mix_norm(x))
        return functional.linear(network.sets.norm(x), self.output).float() + self.bias

    def slots(self) -> Tensor:
        """Return the numbers of the places of the futures' own tokens, i64 [S]."""
        return torch.arange(self.keys[0].shape[3], device=self.length.device)

    def keep(self, at: int, key: Tensor, value: Tensor) -> None:
        """Write a block's key and value of the new token, [P, heads, N, D] each, behind those of each future.

        A future that does not go on with its token keeps its length, and the next token is written over this one.
        """
        place = self.length[:, None, :, None, None].expand(*key.shape[:3], 1, key.shape[3])
        self.keys[at].scatter_(3, place, key[:, :, :, None])
        self.values[at].scatter_(3, place, value[:, :, :, None])

    def attend(self, at: int, query: Tensor, own: Tensor) -> Tensor:
        """Attend to the shared prefix and to each future's own tokens, [P, heads, N, D] to the same.

        Args:
            at: number of the block.
            query: [P, heads, N, D].
            own: added to scores of own tokens, [P, 1, N, S].
        """
        query = query * query.shape[-1] ** -0.5
        shared = query @ self.prefix.keys[at].mT + self.prefix.hidden[at]
        single = (self.keys[at] @ query[..., None])[..., 0] + own
        weight = torch.softmax(torch.cat([shared, single], dim=-1), dim=-1)
        first, second = weight.split([shared.shape[-1], single.shape[-1]], dim=-1)
        return first @ self.prefix.values[at] + (second[..., None, :] @ self.values[at])[..., 0, :]

    def select(self, rows: Tensor, futures: Tensor) -> None:
        """Go on with some records, i64 [P'], and some futures of each, i64 [P', N'], alone."""
        part = self.prefix
        keys, values, hidden = ([held[rows] for held in kept] for kept in part[:3])
        self.prefix = Prefix(keys, values, hidden, part.anchor[rows], part.last[rows])
        self.length, self.last = (held[rows[:, None], futures] for held in (self.length, self.last))
        at = rows[:, None, None], torch.arange(keys[0].shape[1], device=rows.device)[:, None], futures[:, None]
        self.keys, self.values = ([held[at] for held in kept] for kept in (self.keys, self.values))
