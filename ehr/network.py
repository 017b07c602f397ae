"""Size and shape of the network, and all that is needed to build it again (config.json)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PretrainedConfig

ATTENTION = ("visit_causal", "bidirectional")


@dataclass(frozen=True, kw_only=True)
class Network:
    """Size and shape of the network."""

    width: int = 512
    """Features of a token."""
    heads: int = 8
    """Attention heads."""
    hidden: int | None = None
    """Features inside the feed-forward parts; 8/3 of the width where None."""
    encoder_layers: int = 8
    """Blocks that read the record."""
    decoder_layers: int = 2
    """Blocks in which queries read what the encoder made of it."""
    dropout: float = 0.1
    """Share of features dropped in training."""
    attention: str = "visit_causal"
    """visit_causal: a token sees its own and earlier visits; bidirectional: the whole sample."""
    summary: bool = False
    """Whether outcomes are told counts, last values and times since last beside the record; fine-tuning decides."""

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit."""
        if self.attention not in ATTENTION:
            raise ValueError(f"network.attention is {self.attention}; expected one of {', '.join(ATTENTION)}")
        if self.heads < 1 or self.width < 1 or self.width % (2 * self.heads):
            raise ValueError(f"network.width is {self.width}; expected a multiple of twice the heads ({self.heads})")
        if min(self.encoder_layers, self.decoder_layers) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("network: expected at least one layer of each kind and a dropout from 0 to below 1")

    @property
    def hidden_size(self) -> int:
        """Features inside the feed-forward parts, a multiple of 32 by default."""
        return self.hidden or -(-self.width * 8 // 3 // 32) * 32


class AnamnesisConfig(PretrainedConfig):
    """Everything needed to build the network again; stored as config.json."""

    model_type = "anamnesis"

    def __init__(
        self,
        *,
        vocabulary_size: int = 3,
        ancestor_links: int = 0,
        network: dict[str, Any] | None = None,
        max_tokens: int = 512,
        outcomes: Sequence[str] = (),
        horizons: Sequence[Sequence[int]] = (),
        time_bins: int = 0,
        asks: Sequence[str] = (),
        **others: Any,  # noqa: ANN401  fields of transformers itself
    ) -> None:
        """Set up.

        Args:
            vocabulary_size: V.
            ancestor_links: pairs of token and ancestor.
            network: fields of Network.
            max_tokens: tokens of a sample, at most: the statics, and the latest of the others.
            outcomes: names in the order of K; empty before fine-tuning.
            horizons: days by outcome and horizon, [K, H], -1 where absent.
            time_bins: time tokens of the generating mode; 0 where the network was not trained for it.
            asks: what pretraining asked for beside codes: hazards (when they come), values.
            others: fields of transformers itself.
        """
        super().__init__(**others)
        self.vocabulary_size = vocabulary_size
        self.ancestor_links = ancestor_links
        self.network = asdict(Network(**(network or {})))
        # Not max_length, which transformers takes for a setting of text generation.
        self.max_tokens = max_tokens
        self.outcomes = list(outcomes)
        self.horizons = [list(row) for row in horizons]
        self.time_bins = time_bins
        self.asks = list(asks)
