"""Batches as the rivals read them: a sample a row, padded to the longest of the batch (torch)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ehr.batches import generator, pad
from ehr.timelines import Sample

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
YEARS = 120
YEAR_DAYS = 365.25


class Examples(NamedTuple):
    """N samples with their labels, 0, 1 or NaN, f32 [N, K, H]."""

    samples: Sequence[Sample]
    label: Floats


class Padded(NamedTuple):
    """B samples.

    Attributes:
        token: i64 [B, T], 0 = padding.
        visit: i32 [B, T].
        age_days: f32 [B, T].
        query_age_days: f32 [B].
    """

    token: Tensor
    visit: Tensor
    age_days: Tensor
    query_age_days: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Pad samples to the longest of them, at least one position."""
        width = max(1, *(len(sample.token) for sample in samples))
        return cls(*(torch.from_numpy(part) for part in pad(samples, length=width, rows=len(samples))))

    @property
    def there(self) -> Tensor:
        """Which positions hold a token, bool [B, T]."""
        return self.token > 0

    @property
    def years(self) -> Tensor:
        """Age in whole years, 0 to 120, i64 [B, T]."""
        return (self.age_days / YEAR_DAYS).to(torch.int64).clamp(0, YEARS)

    @property
    def days_before(self) -> Tensor:
        """Whole days from each token to the prediction time, i64 [B, T]."""
        return (self.query_age_days[:, None] - self.age_days).to(torch.int64).clamp(min=0)


def shuffled(number: int, rows: int, *, seed: int, epoch: int) -> Iterator[Ints]:
    """Yield the positions of each batch of an epoch: random ones, `rows` at a time."""
    order = generator(seed, epoch).permutation(number)
    for begin in range(0, number, rows):
        yield order[begin : begin + rows]
