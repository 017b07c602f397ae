"""Batches of original and generated samples at a fixed ratio, and the labels of generated ones (torch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Ints = npt.NDArray[np.int64]


class Counts(NamedTuple):
    """What a batch is made of.

    Attributes:
        distinct: different original samples.
        original: rows of them, each `multiplicity` times.
        generated: rows of generated samples.
    """

    distinct: int
    original: int
    generated: int


@dataclass(frozen=True, kw_only=True)
class BatchRatio:
    """How many rows of a batch are original (Gowal et al. 2021, section 5)."""

    original: float = 0.3
    """Share of original rows, above 0 to 1."""
    multiplicity: int = 1
    """How often an original stands in a batch, each time augmented anew."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if not 0 < self.original <= 1 or self.multiplicity < 1:
            raise ValueError(
                f"ratio.original is {self.original} and ratio.multiplicity {self.multiplicity}; "
                "expected above 0 to 1, and 1 or more"
            )

    def counts(self, batch: int) -> Counts:
        """Return what a batch of so many rows is made of.

        Raises:
            ValueError: the batch is no multiple of the multiplicity, or has no row for an original.
        """
        if batch % self.multiplicity:
            raise ValueError(f"a batch of {batch} is no multiple of ratio.multiplicity, {self.multiplicity}")
        distinct = round(self.original * batch / self.multiplicity)
        if not distinct:
            raise ValueError(f"a batch of {batch} has no original at ratio.original {self.original}; expected more")
        return Counts(distinct, distinct * self.multiplicity, batch - distinct * self.multiplicity)

    def plan(self, originals: int, generated: int, *, batch: int, seed: int, epoch: int) -> list[tuple[Ints, Ints]]:
        """Return the rows of each batch of an epoch, (original, generated).

        Each original stands in at most one batch an epoch, those of the last, unfilled one in none; generated ones
        are drawn without repeats while there are enough, and from another shuffle after that.

        Args:
            originals: how many there are.
            generated: how many there are; 0 leaves every batch to the originals' share alone.
            batch: rows of a batch.
            seed: of the shuffles.
            epoch: number of the pass over the originals.
        """
        counts = self.counts(batch)
        draw = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
        order = draw.permutation(originals)
        steps = originals // counts.distinct
        wanted = steps * counts.generated if generated else 0
        passes = [draw.permutation(generated) for _ in range(-(-wanted // generated) if wanted else 0)]
        pool = np.concatenate(passes) if passes else np.zeros(0, np.int64)
        size = counts.generated if generated else 0
        return [
            (
                np.repeat(order[step * counts.distinct : (step + 1) * counts.distinct], self.multiplicity),
                pool[step * size : (step + 1) * size],
            )
            for step in range(steps)
        ]


@torch.no_grad()
def pseudo_label(
    teacher: Callable[[Tensor], Tensor], x: Tensor, *, smoothing: float = 0.1, batch: int = 1024
) -> Tensor:
    """Return smoothed labels of a standard network for generated samples, f32 [N, C].

    The class it finds likeliest gets 1 - smoothing, and smoothing is spread over all; labels of originals are never
    smoothed.

    Args:
        teacher: inputs -> logits [N, C]; of training samples alone.
        x: generated samples.
        smoothing: 0 to below 1.
        batch: rows asked at once.

    Raises:
        ValueError: smoothing lies outside its range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; expected 0 to below 1")
    logits = torch.cat([teacher(part) for part in x.split(batch)])
    hard = functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
    return smoothed(hard, smoothing)


def smoothed(label: Tensor, smoothing: float) -> Tensor:
    """Return (1 - s) y + s / C of labels [N, C]."""
    return (1 - smoothing) * label + smoothing / label.shape[-1]


def most_confident(probability: Tensor, stratum: Tensor, share: float) -> Tensor:
    """Return the rows whose probability is highest, the same share of each stratum, i64, in order.

    Selection by confidence alone would change how common each class or outcome is.

    Args:
        probability: of the label given, [N].
        stratum: class or bucket, i64 [N].
        share: kept, above 0 to 1.

    Raises:
        ValueError: the share lies outside its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; expected above 0 to 1")
    kept: list[Tensor] = []
    for value in stratum.unique():
        rows = torch.nonzero(stratum == value)[:, 0]
        order = torch.argsort(probability[rows], descending=True, stable=True)
        kept.append(rows[order[: max(1, round(share * len(rows)))]])
    return torch.cat(kept).sort().values if kept else stratum.new_zeros(0)


def soft_cross_entropy(logits: Tensor, probability: Tensor) -> Tensor:
    """Return the mean over rows of -sum_c t_c log p_c; labels [N, C] may be smoothed or mixed."""
    return -(probability * functional.log_softmax(logits, dim=-1)).sum(-1).mean()
