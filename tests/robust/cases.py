"""What tests of robustness share: packed rows, a network that reads them, and threats to draw from."""

import torch
from hypothesis import strategies as st
from torch import nn

from robust.examples import Examples, packed
from robust.threats import Threat

SEGMENT = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 3], [1, 1, 1, 1, 1, 1]])
"""Six samples in three rows, one position of padding."""
WIDTH = 4

threats = st.builds(
    Threat,
    norm=st.sampled_from(["linf", "l2_token", "l2_example"]),
    epsilon=st.sampled_from([0.0, 1e-3, 0.1, 0.7]),
    low=st.sampled_from([None, 0.0]),
    high=st.sampled_from([None, 1.0]),
)


class Pooled(nn.Module):
    """Logits of each sample of packed rows: a small network of the sum of its positions."""

    def __init__(self, examples: Examples, outputs: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.examples = examples
        self.body = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, outputs)).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums = x.new_zeros(self.examples.number + 1, WIDTH)
        return self.body(sums.index_add(0, self.examples.bins().flatten(), x.flatten(0, -2)))[: self.examples.number]


def rows(number: int = 3, seed: int = 0) -> torch.Tensor:
    """Embeddings from 0 to 1, f64 [3, 6, 4]."""
    return torch.rand(number, 6, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def six(ids: torch.Tensor | None = None) -> Examples:
    """The six samples."""
    return packed(SEGMENT, ids=ids)


def images(number: int = 12, seed: int = 0) -> torch.Tensor:
    """Images from 0 to 1, f64 [N, 1, 8, 8]."""
    return torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reader(outputs: int = 3, seed: int = 0) -> nn.Module:
    """A network of images in f64, with dropout and batch norm in it."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(256, outputs),
    ).double()
