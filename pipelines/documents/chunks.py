"""A text cut into overlapping windows, in which every token is owned by one of them.  No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.documents.tokens import Text, Tokens

MULTIPLE = 16
"""Lengths of windows are rounded up to it, so that there are few shapes."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a text is cut."""

    length: int = 512
    """Positions of a window, special tokens among them; at most what the encoder takes."""
    overlap: int = 128
    """Tokens that a window shares with the one before it."""
    max_chunks: int | None = 16
    """Windows of a text in training; the rest is cut off and counted. null: no limit. Scoring has none."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.length < 8:
            raise ValueError(f"data.window.length is {self.length}; expected 8 or more")
        if not 0 <= self.overlap < self.length - 2:
            raise ValueError(
                f"data.window.overlap is {self.overlap}; expected 0 to {self.length - 3}, under the length"
            )
        if self.max_chunks is not None and self.max_chunks < 1:
            raise ValueError(f"data.window.max_chunks is {self.max_chunks}; expected 1 or more, or null")


class Chunks(NamedTuple):
    """N windows of one text, each of L positions.

    Attributes:
        token: with special tokens, i64 [N, L]; padding where `mask` is False.
        mask: bool [N, L].
        owned: whether a position holds a token of the text that this window answers for, bool [N, L].
        place: number of the token in the text, -1 for special tokens and padding, i32 [N, L].
        truncated: whether the end of the text was cut off.
    """

    token: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    owned: npt.NDArray[np.bool_]
    place: npt.NDArray[np.int32]
    truncated: bool


def count(tokens: int, window: Window, special: int = 2) -> int:
    """Return how many windows a text of so many tokens needs, without a limit."""
    content = window.length - special
    step = content - window.overlap
    return 1 + max(0, -(-(tokens - content) // step))


def width(tokens: int, window: Window, special: int = 2) -> int:
    """Return the positions of the windows of a text: full ones where there are several, else what it needs."""
    return min(window.length, -(-(tokens + special) // MULTIPLE) * MULTIPLE)


def cut(text: Text, tokens: Tokens, window: Window, chunks: range | None = None) -> Chunks:
    """Cut a text into windows.

    Window k holds the tokens from k (content - overlap) on. The first half of an overlap belongs to the earlier
    window, the second half to the later one, so that a token is owned where it has most context on both sides.

    Args:
        text: n tokens.
        tokens: gives special tokens and padding.
        window: how.
        chunks: which windows; all of them, up to the limit, where None.
    """
    special = len(tokens.first) + len(tokens.last)
    content, number = window.length - special, len(text.token)
    step, half = content - window.overlap, window.overlap // 2
    needed = count(number, window, special)
    kept = needed if window.max_chunks is None else min(needed, window.max_chunks)
    wanted = range(kept) if chunks is None else chunks
    long = width(number, window, special)
    token = np.full((len(wanted), long), tokens.pad, dtype=np.int64)
    place = np.full((len(wanted), long), -1, dtype=np.int32)
    mask = np.zeros((len(wanted), long), dtype=np.bool_)
    owned = np.zeros((len(wanted), long), dtype=np.bool_)
    before = len(tokens.first)
    for row, k in enumerate(wanted):
        begin, end = k * step, min(k * step + content, number)
        size = end - begin
        token[row, :before] = tokens.first
        token[row, before : before + size] = text.token[begin:end]
        token[row, before + size : special + size] = tokens.last
        mask[row, : special + size] = True
        place[row, before : before + size] = np.arange(begin, end)
        low = begin + half if k else 0
        high = end if k == kept - 1 else (k + 1) * step + half
        owned[row, before : before + size] = (place[row, before : before + size] >= low) & (
            place[row, before : before + size] < high
        )
    return Chunks(token, mask, owned, place, truncated=kept < needed)


def blocks(text: Text, tokens: Tokens, window: Window, size: int) -> list[range]:
    """Return the windows of a whole text in blocks of so many, however long it is."""
    number = count(len(text.token), window, len(tokens.first) + len(tokens.last))
    return [range(begin, min(begin + size, number)) for begin in range(0, number, size)]


def characters(text: Text, place: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return first character and the one behind of each position, i32 [..., 2]; -1 where there is none."""
    at = np.maximum(place, 0)
    found = np.stack([text.start[at], text.end[at]], axis=-1) if len(text.token) else np.zeros((*place.shape, 2))
    return np.where(place[..., None] >= 0, found, -1).astype(np.int32)


def longest(texts: Sequence[Text]) -> int:
    """Return the tokens of the longest text, 0 of none."""
    return max((len(text.token) for text in texts), default=0)
