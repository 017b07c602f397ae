"""What a rival is to its learner: a recipe in settings, and the network that it makes (torch)."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from ehr.baselines.neural.batches import Padded


class Sizes(NamedTuple):
    """What a network has to fit: V codes, K outcomes at H horizons, tokens of a sample at most."""

    codes: int
    outcomes: int
    horizons: int
    tokens: int


class Network(nn.Module, ABC):
    """A rival's network."""

    @abstractmethod
    def outcome_loss(self, batch: Padded, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of losses over labels 0, 1 or NaN, f32 [B, K, H], and the number of labels."""

    @abstractmethod
    def outcomes(self, batch: Padded) -> Tensor:
        """Return logits, f32 [B, K, H]."""


class Pretraining(Network):
    """A network that also learns from records without labels."""

    @abstractmethod
    def pretraining_loss(self, batch: Padded, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of losses over what is asked of records, and the number of things asked.

        Args:
            batch: records.
            noise: uniform, f32 [B, T], for what is hidden.
        """


class Recipe(Protocol):
    """Settings of a rival."""

    def build(self, sizes: Sizes) -> Network:
        """Make the network with random weights."""
        ...
