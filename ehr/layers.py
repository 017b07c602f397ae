"""Parts of the network: rotary age, Time2Vec, SwiGLU, attention and its blocks (torch)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = -1e9
PERIOD_DAYS = (0.25, 200 * 365.25)


def log_periods(count: int, low: float, high: float) -> Tensor:
    """Return periods evenly spaced in their logarithm, ascending, f32 [count]."""
    return torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64).float()


def rotary(age_days: Tensor, anchor: Tensor, inverse_periods: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of 2*pi*(age - anchor)/P_j (RoPE, Su et al. 2021, over age).

    Turns are counted in f64 and whole ones taken off before the sine: 50 years are 80,000 turns of the shortest
    period, of which f32 keeps two digits, and the same record would read differently from another anchor.

    Args:
        age_days: f32 [R, N].
        anchor: age that rotation counts from, f32, broadcast to [R, N].
        inverse_periods: 1 / P_j, f32 [D/2].

    Returns:
        Two f32 [R, 1, N, D/2], for all heads.
    """
    with torch.autocast(age_days.device.type, enabled=False):
        turns = (age_days.double() - anchor.double())[:, None, :, None] * inverse_periods.double()
        angle = (turns - torch.round(turns)).float() * (2 * math.pi)
        return torch.cos(angle), torch.sin(angle)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (x_j, x_{j + D/2}) by their angles.

    Args:
        x: [R, heads, N, D].
        turn: cosine and sine, [R, 1, N, D/2].
    """
    cosine, sine = turn
    left, right = x.float().chunk(2, dim=-1)
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1).to(x.dtype)


def hide(visible: Tensor) -> Tensor:
    """Turn a mask of what may be seen, bool [R, N, T], into what is added to scores, f32 [R, 1, N, T]."""
    return torch.where(visible, 0.0, HIDDEN)[:, None]


class Time2Vec(nn.Module):
    """Linear and periodic features of a time, projected to the width (Kazemi et al. 2019)."""

    def __init__(self, width: int, features: int = 16) -> None:
        """Set up with periods from 0.5 to 64 units of the input."""
        super().__init__()
        self.frequency = nn.Parameter(torch.empty(features))
        self.phase = nn.Parameter(torch.empty(features))
        self.project = nn.Linear(features + 1, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Spread the periods and start from phase 0."""
        with torch.no_grad():
            self.frequency.copy_(2 * math.pi / log_periods(len(self.frequency), 0.5, 64.0))
            self.phase.zero_()

    def forward(self, time: Tensor) -> Tensor:
        """Map f32 [...] to [..., width]."""
        time = time[..., None]
        return self.project(torch.cat([time, torch.sin(time * self.frequency + self.phase)], dim=-1))


class SwiGLU(nn.Module):
    """Gated feed-forward: W_o (silu(W_g x) * W_v x) (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        """Set up without biases."""
        super().__init__()
        self.gate_value = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        gate, value = self.gate_value(x).chunk(2, dim=-1)
        return self.out(functional.silu(gate) * value)


class SelfAttention(nn.Module):
    """Multi-head attention of a row to itself."""

    def __init__(self, width: int, heads: int) -> None:
        """Set up without biases."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Attend.

        Args:
            x: [R, T, width].
            hidden: added to scores, [R, 1, T, T].
            turn: rotation by age, [R, 1, T, D/2].
        """
        query, key, value = self.parts(x, turn)
        mixed = functional.scaled_dot_product_attention(query, key, value, hidden.to(query.dtype))
        return self.out(merge(mixed))

    def parts(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and keys, both rotated, and values of [R, T, width], each [R, heads, T, D]."""
        query, key, value = (split(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return rotate(query, turn), rotate(key, turn), value


class CrossAttention(nn.Module):
    """Multi-head attention of queries to the record, with a learned key that every query sees.

    A query without a visible token (no history, or padding) reads that key alone and stays finite.
    """

    def __init__(self, width: int, heads: int) -> None:
        """Set up without biases."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.nothing = nn.Parameter(torch.zeros(2, 1, heads, 1, width // heads))
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        record: Tensor,
        hidden: Tensor,
        turn: tuple[Tensor, Tensor],
        record_turn: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Attend.

        Args:
            x: queries [R, Q, width].
            record: what the encoder made of the row, [R, T, width].
            hidden: added to scores, [R, 1, Q, 1 + T]; position 0 is the learned key.
            turn: rotation of queries, [R, 1, Q, D/2].
            record_turn: rotation of tokens, [R, 1, T, D/2].
        """
        query = rotate(split(self.query(x), self.heads), turn)
        key, value = self.memory(record, record_turn)
        nothing_key, nothing_value = self.learned(key)
        key = torch.cat([nothing_key, key], dim=2)
        value = torch.cat([nothing_value, value], dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value, hidden.to(query.dtype))
        return self.out(merge(mixed))

    def memory(self, record: Tensor, record_turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return rotated keys, and values, of what the encoder made of tokens, each [R, heads, T, D]."""
        key, value = (split(part, self.heads) for part in self.key_value(record).chunk(2, dim=-1))
        return rotate(key, record_turn), value

    def learned(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the learned key and its value for as many rows as `like` has, each [R, heads, 1, D]."""
        key, value = (part.expand(like.shape[0], -1, -1, -1).to(like.dtype) for part in self.nothing)
        return key, value


def split(x: Tensor, heads: int) -> Tensor:
    """Turn [R, N, width] into [R, heads, N, D]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """Turn [R, heads, N, D] into [R, N, width]."""
    return x.transpose(1, 2).flatten(-2)


class EncoderBlock(nn.Module):
    """Pre-norm block: attention, then SwiGLU."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        """Set up."""
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.mix_norm = nn.RMSNorm(width, eps=1e-6)
        self.mix = SwiGLU(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Map [R, T, width] to [R, T, width] (arguments as in SelfAttention)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), hidden, turn))
        return x + self.dropout(self.mix(self.mix_norm(x)))


class DecoderBlock(nn.Module):
    """Pre-norm block of queries: attention to the record, then SwiGLU; queries do not see each other."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        """Set up."""
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = CrossAttention(width, heads)
        self.mix_norm = nn.RMSNorm(width, eps=1e-6)
        self.mix = SwiGLU(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        record: Tensor,
        hidden: Tensor,
        turn: tuple[Tensor, Tensor],
        record_turn: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Map queries [R, Q, width] to [R, Q, width] (arguments as in CrossAttention)."""
        seen = self.attention(self.attention_norm(x), record, hidden, turn, record_turn)
        x = x + self.dropout(seen)
        return x + self.dropout(self.mix(self.mix_norm(x)))
