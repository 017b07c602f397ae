"""Where generated samples come from: Gaussians by class, resamples, or a decoder behind the same method (torch)."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Generated(NamedTuple):
    """Samples and the classes that they were drawn for.

    Attributes:
        x: [N, ...].
        label: i64 [N].
    """

    x: Tensor
    label: Tensor


class Generator(Protocol):
    """Draws samples; a decoder that was trained on the training samples alone is one too."""

    def sample(self, number: int, *, seed: int) -> Generated:
        """Return so many samples, classes as often as among those that were learnt from."""
        ...


class Gaussian(NamedTuple):
    """A normal distribution of each class (Gowal et al. 2021, section 6).

    Attributes:
        mean: [C, F].
        root: lower triangles of the covariances, [C, F, F].
        share: of each class, [C].
        shape: of a sample.
        low: least value of a sample, or None.
        high: greatest value.
    """

    mean: Tensor
    root: Tensor
    share: Tensor
    shape: torch.Size
    low: float | None = None
    high: float | None = None

    def sample(self, number: int, *, seed: int) -> Generated:
        """Return so many samples, cut off at the bounds."""
        draw = torch.Generator(self.mean.device).manual_seed(seed)
        label = torch.multinomial(self.share, number, replacement=True, generator=draw)
        noise = torch.randn(number, self.mean.shape[1], generator=draw, dtype=self.mean.dtype)
        x = torch.empty_like(noise)
        for of_class in range(len(self.mean)):
            rows = label == of_class
            x[rows] = self.mean[of_class] + noise[rows] @ self.root[of_class].T
        if self.low is not None or self.high is not None:
            x = x.clamp(self.low, self.high)
        return Generated(x.view(number, *self.shape), label)


def fit_gaussian(
    x: Tensor, label: Tensor, *, shrinkage: float = 0.1, low: float | None = None, high: float | None = None
) -> Gaussian:
    """Return a normal distribution for each class.

    Args:
        x: training samples, [N, ...].
        label: their classes, i64 [N]; each from 0 to the greatest has two samples at least.
        shrinkage: share of the pooled covariance's mean variance on the diagonal, above 0 to 1; without it a class of
            fewer samples than features has no density.
        low: least value of a sample.
        high: greatest value.

    Raises:
        ValueError: a class has too few samples, or shrinkage lies outside its range.
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage is {shrinkage}; expected above 0 to 1")
    flat = x.flatten(1).to(torch.float64)
    sizes = torch.bincount(label)
    if not len(sizes) or int(sizes.min()) < 2:
        raise ValueError("a class has fewer than two samples; expected two at least of each class from 0 on")
    means, roots = [], []
    spread = flat.var(0).mean()
    for of_class in range(len(sizes)):
        own = flat[label == of_class]
        covariance = torch.cov(own.T).view(flat.shape[1], flat.shape[1])
        diagonal = torch.eye(flat.shape[1], dtype=flat.dtype) * spread
        means.append(own.mean(0))
        roots.append(torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * diagonal))
    share = sizes / sizes.sum()
    return Gaussian(torch.stack(means).to(x.dtype), torch.stack(roots).to(x.dtype), share, x.shape[1:], low, high)


class Bootstrap(NamedTuple):
    """Training samples drawn again with replacement: what generated ones have to beat.

    Attributes:
        x: [N, ...].
        label: i64 [N].
    """

    x: Tensor
    label: Tensor

    def sample(self, number: int, *, seed: int) -> Generated:
        """Return so many samples."""
        draw = torch.Generator(self.x.device).manual_seed(seed)
        rows = torch.randint(len(self.x), (number,), generator=draw)
        return Generated(self.x[rows], self.label[rows])
