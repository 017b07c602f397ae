"""Codes of few values as bytes: five trits, four pairs of bits or two nibbles a byte, bitmaps; each with its inverse.

Packing runs along the last axis and pads its end, so that rows can be taken out of a packed table.  NumPy only.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TRITS, LEVEL = 5, 19
POWERS = np.array([81, 27, 9, 3, 1], dtype=np.int32)
"""Of the digits of a byte, the first one highest."""
MAX_NIBBLE = 7
Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]


class Bitmap(NamedTuple):
    """Codes of -1, 0 and 1 as two strings of bits, the highest bit of a byte first.

    Attributes:
        kept: u8 [ceil(n / 8)], a bit a code: whether it is not 0.
        signs: u8 [ceil(m / 8)], a bit a code that is not 0: whether it is -1.
    """

    kept: Bytes
    signs: Bytes


def trits(codes: Codes) -> Bytes:
    """Pack codes of -1, 0 and 1: base-3 digits t + 1, five a byte; the end is padded with 0.

    Args:
        codes: int8 [..., n].

    Returns:
        u8 [..., ceil(n / 5)].

    Raises:
        ValueError: there are other codes.
    """
    within(codes, 1)
    digits = np.pad(codes.astype(np.int32) + 1, padding(codes, TRITS), constant_values=1)
    return (grouped(digits, TRITS) @ POWERS).astype(np.uint8)


def from_trits(packed: Bytes, count: int) -> Codes:
    """Unpack what `trits` returned.

    Args:
        packed: u8 [..., ceil(count / 5)].
        count: codes in the last axis.

    Raises:
        ValueError: a byte is above 242 and no five trits, or there are too few.
    """
    enough(packed, TRITS, count)
    if packed.size and int(packed.max()) >= 3**TRITS:
        raise ValueError(f"trits: a byte of {int(packed.max())}; expected at most {3**TRITS - 1}: the file is damaged")
    return flat(trit_table()[packed])[..., :count]


def trit_table() -> Codes:
    """Return the five codes of each byte, int8 [256, 5]; bytes above 242, which `trits` does not write, are 0."""
    table = (np.arange(256)[:, None] // POWERS % 3 - 1).astype(np.int8)
    table[3**TRITS :] = 0
    return table


def two_bit(codes: Codes) -> Bytes:
    """Pack codes of -1, 0 and 1 as 1, 2 and 3, four a byte, the first one lowest; the end is padded with 0.

    Args:
        codes: int8 [..., n].

    Returns:
        u8 [..., ceil(n / 4)].
    """
    within(codes, 1)
    pairs = np.pad(codes + 2, padding(codes, 4), constant_values=2).astype(np.uint8)
    return np.bitwise_or.reduce(grouped(pairs, 4) << np.array([0, 2, 4, 6], np.uint8), axis=-1)


def from_two_bit(packed: Bytes, count: int) -> Codes:
    """Unpack what `two_bit` returned.

    Raises:
        ValueError: a pair of bits is 0 and no code, or there are too few.
    """
    enough(packed, 4, count)
    pairs = packed[..., None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    if not pairs.all():
        raise ValueError("two bits: a pair is 0; expected 1, 2 or 3: the file is damaged")
    return flat(pairs.astype(np.int8) - 2)[..., :count]


def bitmap(codes: Codes) -> Bitmap:
    """Pack codes of -1, 0 and 1, of any shape: one bit a code, and one a code that is not 0."""
    within(codes, 1)
    flat = codes.ravel()
    return Bitmap(np.packbits(flat != 0), np.packbits(flat[flat != 0] < 0))


def from_bitmap(packed: Bitmap, count: int) -> Codes:
    """Unpack what `bitmap` returned, int8 [count].

    Raises:
        ValueError: there are too few bits.
    """
    enough(packed.kept, 8, count)
    kept = np.unpackbits(packed.kept, count=count).astype(bool)
    enough(packed.signs, 8, int(kept.sum()))
    codes = np.zeros(count, np.int8)
    codes[kept] = 1 - 2 * np.unpackbits(packed.signs, count=int(kept.sum())).astype(np.int8)
    return codes


def nibbles(codes: Codes) -> Bytes:
    """Pack codes of -7 to 7 as 1 to 15, two a byte, the first one highest; the end is padded with 0.

    Args:
        codes: int8 [..., n].

    Returns:
        u8 [..., ceil(n / 2)].
    """
    within(codes, MAX_NIBBLE)
    halves = np.pad(codes + 8, padding(codes, 2), constant_values=8).astype(np.uint8)
    return (grouped(halves, 2) @ np.array([16, 1], np.uint8)).astype(np.uint8)


def from_nibbles(packed: Bytes, count: int) -> Codes:
    """Unpack what `nibbles` returned."""
    enough(packed, 2, count)
    return flat(nibble_table()[packed])[..., :count]


def nibble_table() -> Codes:
    """Return the two codes of each byte, int8 [256, 2]."""
    byte = np.arange(256)
    return (np.stack([byte >> 4, byte & 15], axis=1) - 8).astype(np.int8)


def zstd(content: bytes) -> bytes:
    """Return one zstd frame, level 19; the same bytes for the same input and library."""
    # A stream of pyarrow takes no level.
    return pa.Codec("zstd", compression_level=LEVEL).compress(content, asbytes=True)


def within(codes: npt.NDArray[Any], bound: int) -> None:
    """Refuse codes beyond a bound, which packing would fold into others."""
    if codes.dtype != np.int8 or (codes.size and (codes.min() < -bound or codes.max() > bound)):
        raise ValueError(f"packing: codes of {codes.dtype} beyond {-bound} to {bound}; expected int8 within")


def padding(codes: Codes, group: int) -> list[tuple[int, int]]:
    """Return what to pad so that the last axis is whole groups."""
    return [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % group)]


def grouped(digits: npt.NDArray[Any], group: int) -> npt.NDArray[Any]:
    """Turn [..., n] into [..., n / group, group]."""
    return digits.reshape(*digits.shape[:-1], digits.shape[-1] // group, group)


def flat(codes: Codes) -> Codes:
    """Turn [..., n, group] into [..., n group]."""
    return codes.reshape(*codes.shape[:-2], codes.shape[-2] * codes.shape[-1])


def enough(packed: Bytes, group: int, count: int) -> None:
    """Refuse bytes that are too few, or more, than a count of codes needs."""
    if packed.shape[-1] != -(-count // group):
        raise ValueError(f"packing: {packed.shape[-1]:,} bytes for {count:,} codes; expected {-(-count // group):,}")
