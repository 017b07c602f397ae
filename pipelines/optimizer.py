"""The optimizer of both stages of training: its rates, and which weights decay."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from ehr.model import Anamnesis


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW with a warm-up and a cosine to a small share of the rate."""

    learning_rate: float = 1e-3
    """Highest rate."""
    weight_decay: float = 0.05
    """Of the maps' weights; embeddings, norms and biases have none."""
    warmup: float = 0.05
    """Share of the steps in which the rate climbs."""
    final: float = 0.05
    """Share of the highest rate at the end."""
    trunk: float = 1.0
    """Rate of everything but the outcome heads, as a share."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.learning_rate <= 0:
            raise ValueError(f"model.optimizer.learning_rate is {self.learning_rate}; expected above 0")
        for name in ("warmup", "final", "trunk"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"model.optimizer.{name} is {getattr(self, name)}; expected 0 to 1")


def weights(network: Anamnesis, settings: Optimizer) -> list[dict[str, Any]]:
    """Divide the parameters by rate and by whether they decay."""
    maps = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear)}
    heads = {id(parameter) for parameter in network.heads.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault((id(parameter) in heads, id(parameter) in maps), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate * (1.0 if head else settings.trunk),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (head, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
