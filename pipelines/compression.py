"""Ways to compress a fine-tuned run, as `anamnesis compress` calls them; the adapter of SparseGPT for the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from compress.layers import DEFAULT
from compress.report import CompressionReport
from compress.sizes import measure
from compress.sparsity.driver import prune
from compress.sparsity.settings import SparseGPT
from ehr.batches import generator, plan
from ehr.model import Anamnesis
from pipelines.cohort import Cohort
from pipelines.data import Answered, OutcomeSource, tensors
from pipelines.progress import say
from pipelines.samples import questions_of

CALIBRATING = 17
"""What the draw of calibration patients is seeded with, beside the seed."""


class Work(NamedTuple):
    """What a method is given.

    Attributes:
        network: changed in place.
        cohort: its training split may be learnt from, its tuning split may be chosen on.
        folder: for what an interrupted run goes on from; gone when the run is whole.
    """

    network: Anamnesis
    cohort: Cohort
    folder: Path


class Method(Protocol):
    """A way to compress a network."""

    def compress(self, work: Work) -> CompressionReport:
        """Compress the network in place and tell what was done."""
        ...


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """Pruning without training, calibrated on patients of the training split."""

    settings: SparseGPT = field(default_factory=SparseGPT)
    """How weights are chosen and refitted."""
    layers: Sequence[str] = DEFAULT
    """Patterns over names of layers; `@blocks`: the linear maps in encoder and decoder blocks."""
    samples: int = 1024
    """Patients' readings to calibrate on, at most."""
    tokens: int = 16_384
    """Positions of a calibration batch."""
    split: str = "train"
    """Where they come from; another split than train is refused."""
    seed: int = 0
    """Of the draw of samples."""

    def __post_init__(self) -> None:
        """Refuse calibration data that evaluation needs."""
        if self.split != "train":
            raise ValueError(f"split is {self.split}; calibration data come from the split train alone")
        if self.samples < 1 or self.tokens < 1:
            raise ValueError(f"samples and tokens are {self.samples} and {self.tokens}; expected 1 or more")

    def compress(self, work: Work) -> CompressionReport:
        """Prune the network in place."""
        batches = self.batches(work)
        adapter = Adapter()
        return prune(
            work.network,
            batches,
            layers=self.layers,
            forward=adapter.forward,
            token_mask=adapter.token_mask,
            settings=self.settings,
            store=work.folder,
            told=say,
        )

    def batches(self, work: Work) -> list[Answered]:
        """Return calibration batches: packed readings of drawn patients, in the order of the plan."""
        config = work.network.config
        asked = questions_of(work.cohort, self.split)
        source = OutcomeSource(work.cohort, asked, max_length=config.max_tokens, share=work.network.one_way)
        order = generator(self.seed, CALIBRATING).permutation(len(source.groups))[: self.samples]
        chosen = np.sort(order)
        source.groups, source.lengths = [source.groups[at] for at in chosen], source.lengths[chosen]
        layouts = plan(source.lengths, tokens=self.tokens, buffer=len(chosen), seed=self.seed, epoch=0)
        made = [tensors(source.make(layout, 0)) for layout in layouts]
        say(f"calibration: {len(chosen):,} samples, {int(source.lengths.sum()):,} tokens, {len(made)} batches")
        return made


class Adapter:
    """Runs the network on packed batches and tells which positions of each layer's input are padding."""

    def __init__(self) -> None:
        """Set up without a batch."""
        self.batch: Answered | None = None

    def forward(self, network: Any, batch: Answered) -> None:  # noqa: ANN401  an nn.Module to the driver
        """Ask the network what training asks it."""
        self.batch = batch
        network.outcomes_at(batch.batch, batch.moments)

    def token_mask(self, name: str, args: tuple[Any, ...]) -> Tensor | None:
        """Return which positions count: of the record, or of the queries.

        Args:
            name: of the layer.
            args: of its call; the input comes first, [R, N, width].
        """
        assert self.batch is not None
        record, moments = self.batch.batch.segment > 0, self.batch.moments.segment > 0
        if name.startswith(("encoder.", "time.")) or ".key_value" in name:
            return record
        if name.startswith("query_time."):
            return moments
        if name.startswith("decoder."):
            queries = args[0].shape[1] // moments.shape[1]
            return moments[:, :, None].expand(-1, -1, queries).flatten(1)
        return None


def with_sizes(report: CompressionReport, before: Mapping[str, Tensor], network: Anamnesis) -> CompressionReport:
    """Return the report with bytes before and after, of the compressed layers and of all weights.

    Args:
        report: of the compression.
        before: the dense weights by name.
        network: compressed.
    """
    names = {f"{layer.name}.weight" for layer in report.layers}
    weights = {name: value.detach() for name, value in network.named_parameters()}
    sizes = {
        f"{part} {when}": measure(
            {name: held[name].float().numpy() for name in weights if part == "model" or name in names}
        )
        for part in ("layers", "model")
        for when, held in (("before", before), ("after", weights))
    }
    return report._replace(sizes=sizes)
