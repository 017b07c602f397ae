"""Uniform numbers by counter: what an item draws hangs on a seed, a purpose, its subject and its own number alone.

Polars' own hash is another one in each version; this one is the finaliser of SplitMix64 (Steele, Lea, Flood 2014),
written in whole numbers of 64 bits, which wrap.
"""

import hashlib

import polars as pl

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = 2**64 - 1


def mixed(word: int) -> int:
    """Return a well-mixed word of a word."""
    word = (word + GOLDEN) & MASK
    word = ((word ^ (word >> 30)) * FIRST) & MASK
    word = ((word ^ (word >> 27)) * SECOND) & MASK
    return word ^ (word >> 31)


def word_of(text: str) -> int:
    """Return 64 bits of a text, the same everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def mix(word: pl.Expr) -> pl.Expr:
    """Return `mixed` of a column of u64; dividing by a power of two is shifting right."""
    word = word + pl.lit(GOLDEN, pl.UInt64)
    word = (word ^ (word // pl.lit(2**30, pl.UInt64))) * pl.lit(FIRST, pl.UInt64)
    word = (word ^ (word // pl.lit(2**27, pl.UInt64))) * pl.lit(SECOND, pl.UInt64)
    return word ^ (word // pl.lit(2**31, pl.UInt64))


def uniform(seed: int, purpose: str, *items: str) -> pl.Expr:
    """Return a number from 0 to below 1 for each row, f64.

    Args:
        seed: of the benchmark.
        purpose: the corruption, and what of it is drawn.
        items: columns of whole numbers, the subject first; rows that agree in all of them draw the same.
    """
    word = pl.lit(mixed(mixed(seed & MASK) ^ word_of(purpose)), pl.UInt64)
    for item in items:
        # A signed number keeps its bits.
        word = mix(word ^ mix(pl.col(item).cast(pl.Int64).reinterpret(signed=False)))
    return (word // pl.lit(2**11, pl.UInt64)).cast(pl.Float64) * 2.0**-53
