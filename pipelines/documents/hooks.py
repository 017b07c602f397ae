"""What training and export take by class_path: an objective over moved embeddings, and a compression (torch)."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from pipelines.documents.batches import DocumentBatch
from pipelines.documents.model import DocumentReader


class Embedded(NamedTuple):
    """A batch as its embeddings, which may be moved.

    Attributes:
        x: embeddings of all windows, f32 [P * N, L, d].
        mask: which positions may be moved, tokens of the text and no others, bool [P * N, L].
        groups: the passage that each window belongs to, i64 [P * N]; a budget counts for a passage as a whole.
        label: i64 [P, T]; -1 where none.
        seed: of what is drawn; names the step.
    """

    x: Tensor
    mask: Tensor
    groups: Tensor
    label: Tensor
    seed: int


class EmbeddingObjective(Protocol):
    """What is minimised in place of the plain loss, such as adversarial training."""

    def embedding_loss(
        self,
        forward: Callable[[Tensor], Tensor],
        embedded: Any,  # noqa: ANN401  an Embedded; robust, which knows no documents, has another name for it
        loss: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            forward: x -> logits f32 [P, T, C], through the reader.
            embedded: the batch, an Embedded; x has the gradient of the embedding table.
            loss: logits -> the plain loss.
        """
        ...


class Compression(Protocol):
    """What export does to a reader's weights, or to the file."""

    def compress_reader(self, reader: DocumentReader, batches: Sequence[DocumentBatch]) -> None:
        """Change the weights of a reader in place.

        Args:
            reader: in eval mode.
            batches: training passages to calibrate on.
        """
        ...

    def compress_file(self, path: Path) -> None:
        """Change an exported file in place."""
        ...


class DynamicInt8:
    """Weights of matrix products as int8, activations quantised as they come (onnxruntime's dynamic quantisation)."""

    def __init__(self, *, per_channel: bool = True, embeddings: bool = True) -> None:
        """Set up.

        Args:
            per_channel: a scale a column instead of one a matrix.
            embeddings: embedding tables too.
        """
        self.per_channel, self.embeddings = per_channel, embeddings

    def compress_reader(self, reader: DocumentReader, batches: Sequence[DocumentBatch]) -> None:
        """Leave the weights as they are."""

    def compress_file(self, path: Path) -> None:
        """Quantise the file in place."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        kinds = ["MatMul", "Gemm", *(["Gather"] if self.embeddings else [])]
        made = path.with_suffix(".int8.partial")
        # It would have the file prepared by another of its tools, which changes nothing here.
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(
                path, made, op_types_to_quantize=kinds, per_channel=self.per_channel, weight_type=QuantType.QInt8
            )
        finally:
            logging.disable(logging.NOTSET)
        made.rename(path)


class PrunedEncoder:
    """Linear layers of the encoder pruned in one shot by SparseGPT; embeddings, pooling and heads stay dense."""

    def __init__(self, *, sparsity: float = 0.5, pattern: str | None = None) -> None:
        """Set up.

        Args:
            sparsity: share of the weights of each layer that become 0.
            pattern: n:m keeps n of every m weights in a row, in place of a share.
        """
        from compress.sparsity.settings import SparseGPT

        self.settings = SparseGPT(sparsity=sparsity, pattern=pattern)

    def compress_reader(self, reader: DocumentReader, batches: Sequence[DocumentBatch]) -> None:
        """Prune the encoder in place.

        Raises:
            ValueError: there is nothing to calibrate on.
        """
        from compress.sparsity.driver import prune

        if not batches:
            raise ValueError("--compression PrunedEncoder calibrates on training passages; pass --corpus")

        def forward(model: nn.Module, batch: DocumentBatch) -> object:
            return model(batch.input_ids, batch.attention_mask, batch.owned, batch.asked)

        prune(reader, batches, forward=forward, settings=self.settings)

    def compress_file(self, path: Path) -> None:
        """Leave the file as it is."""
