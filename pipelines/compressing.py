"""Compression by training: a fine-tuned network trained on towards a form that is smaller.

The dense network teaches; a schedule of `compress.hyperspherical` says what happens to the layers.
"""

import argparse
import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import safetensors.torch
import torch
from torch import Tensor, nn

from compress.distillation import Distillation, hidden_mse, soft_bce, tapped
from compress.hyperspherical.layer import fold
from compress.hyperspherical.recovery import RECOVERIES, Recovery, inputs_of, prune
from compress.hyperspherical.schedules import Schedule
from compress.layers import as_matrix, find, kind
from compress.report import CompressionReport, Layer
from ehr import losses
from ehr.model import Anamnesis
from pipelines import running, training
from pipelines.callbacks.compression import Compression
from pipelines.callbacks.weights import BEST, Best
from pipelines.compression import Adapter, OneShot, Work
from pipelines.data import Answered, FinetuningData
from pipelines.modules import Finetuning, Optimizer

LAYERS = ("@blocks", "embedding")
TERNARY_BITS = 2


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Training on, for the outcomes that the network knows, with its own dense answers beside the labels."""

    schedule: Schedule
    """What happens to the layers when: a class by its path, such as those in compress.hyperspherical.schedules."""
    distillation: Distillation | None = field(default_factory=Distillation)
    """What the dense network teaches; null: labels alone."""
    layers: Sequence[str] = LAYERS
    """Patterns over names of layers; `@blocks`: the linear maps in encoder and decoder blocks."""
    epochs: int = 4
    """Passes over the training patients."""
    steps: int | None = None
    """In their place, steps of the optimizer."""
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(learning_rate=1e-3, weight_decay=0.0))
    """AdamW and its rates."""
    dropout: float = 0.0
    """Share of features dropped."""
    tokens: int = 4096
    """Positions of a batch."""
    seed: int = 0
    """Of the order of patients, and of dropout."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.epochs < 1 or self.tokens < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError(
                f"epochs, steps and tokens are {self.epochs}, {self.steps} and {self.tokens}; expected 1 or more"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more, below 1")

    @property
    def told(self) -> dict[str, Any]:
        """The settings as plain values, as YAML has them."""
        chosen = {"class_path": path(self.schedule), "init_args": dict(vars(self.schedule))}
        return asdict(self) | {"schedule": chosen}

    def compress(self, work: Work) -> CompressionReport:
        """Train the network in place and tell what was done.

        Raises:
            Stopped: a signal stopped training; compressing again goes on.
        """
        network = work.network
        module, data = prepared(self, work)
        fit(self, module, data, work.folder)
        trained = module.network
        trained.load_state_dict(safetensors.torch.load((work.folder / "checkpoints" / BEST).read_bytes()))
        ternary = fold(trained)
        alone(network)
        network.load_state_dict(trained.state_dict())
        shutil.rmtree(work.folder)
        return report(self, find(network, self.layers), set(ternary))


@dataclass(frozen=True, kw_only=True)
class Recoverable:
    """Training on with a penalty on what pruning would take, then pruning once, without training afterwards."""

    training: Trained
    """The training before it."""
    sparsity: float = 0.7
    """Share of each row that becomes 0."""
    recoveries: Sequence[Recovery] = ("zero", "bias", "refit")
    """What each layer may choose from, on calibration rows; `mean` leaves no zeros, `bias` needs one that is there."""
    samples: int = 1024
    """Readings of training patients to calibrate on, at most."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        unknown = [name for name in self.recoveries if name not in RECOVERIES]
        if unknown or not self.recoveries:
            raise ValueError(f"recoveries: {', '.join(unknown) or 'none'}; expected of {', '.join(RECOVERIES)}")
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity is {self.sparsity}; expected 0 to 1")

    def compress(self, work: Work) -> CompressionReport:
        """Train and prune the network in place.

        Raises:
            ValueError: its schedule leaves ternary weights, or layers that multiply no input.
        """
        if self.training.compress(work).method == "ternary":
            raise ValueError(f"training.schedule is {path(self.training.schedule)}; expected one that stays dense")
        layers, adapter = find(work.network, self.training.layers), Adapter()
        batches = OneShot(samples=self.samples, tokens=self.training.tokens, seed=self.training.seed).batches(work)
        inputs = inputs_of(work.network, batches, layers, forward=adapter.forward, token_mask=adapter.token_mask)
        found = prune(layers, inputs, self.sparsity, self.recoveries)
        return found._replace(settings=asdict(self) | {"training": self.training.told})


class Compressing(Finetuning):
    """Fine-tuning with a teacher and a schedule."""

    def take(self, network: Anamnesis, made: Trained) -> None:
        """Take a copy of a fine-tuned network to train, and the network as the teacher."""
        self.made, self.adapter = made, Adapter()
        self.network = copy.deepcopy(network).train()
        alone(self.network)
        for part in self.network.modules():
            if isinstance(part, nn.Dropout):
                part.p = made.dropout
        self.network.sets.requires_grad_(requires_grad=False)
        made.schedule.begin(find(self.network, made.layers))
        # Kept out of what is trained and saved.
        self.teacher = [network.eval()]

    def parts(self, content: Answered) -> tuple[Tensor, Tensor]:
        """Return losses of labels, teacher and schedule times the number of labels, and that number."""
        taught = self.made.distillation
        with tapped(self.network) as student:
            logit = self.network.outcomes_at(content.batch, content.moments)
        total, count = losses.masked_bce(logit, content.label)
        if taught is not None:
            self.adapter.batch = content
            with tapped(self.teacher[0]) as teacher, torch.no_grad():
                known = self.teacher[0].outcomes_at(content.batch, content.moments)
            total = taught.labels * total + count * taught.answers * soft_bce(logit, known)
            if taught.hidden:
                total = total + count * taught.hidden * hidden_mse(student, teacher, self.counted)
        penalty = self.made.schedule.penalty(self.network, self.global_step, self.steps)
        return total + count * penalty, count

    def counted(self, name: str, output: Tensor) -> Tensor | None:
        """Return which positions of a block's output are no padding."""
        return self.adapter.token_mask(name, (output,))


def alone(network: Anamnesis) -> None:
    """Fold ancestors into the table of codes, so that its rows are those that a file looks up.

    A sum of ternary rows is not ternary: each code gets a row of its own.
    """
    with torch.no_grad():
        table = network.table().clone()
        network.embedding.weight.copy_(table)
    network.config.ancestor_links = 0
    for name in ("bag", "bag_offsets"):
        network.register_buffer(name, torch.arange(len(table), device=table.device))


def prepared(made: Trained, work: Work) -> tuple[Compressing, FinetuningData]:
    """Return module and data for training."""
    module = Compressing(made.optimizer)
    data = FinetuningData(tokens=made.tokens, max_length=work.network.config.max_tokens, seed=made.seed)
    data.open(work.cohort, share=work.network.one_way)
    module.take(work.network, made)
    return module, data


def fit(made: Trained, module: Compressing, data: FinetuningData, folder: Path) -> None:
    """Train to the end, from the last checkpoint if there is one.

    The best weights are those of the validation with the highest macro-AUROC once the form is final.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Settings of the machine are Lightning's own: the processor that there is.
    limit: dict[str, Any] = {"max_epochs": made.epochs} if made.steps is None else {"max_steps": made.steps}
    given: dict[str, Any] = {
        **running.DEFAULTS,
        "max_epochs": -1,
        **limit,
        "logger": [],
        "accelerator": "auto",
        "devices": 1,
    }
    with running.quiet():
        trainer = lightning.Trainer(**given)
    settings = training.Settings(module, data, trainer, made.seed, "")
    steps = training.batches_of(settings)
    trainer.callbacks += [Compression(made.schedule, steps)]  # pyright: ignore[reportAttributeAccessIssue]
    since = made.schedule.settled() * steps
    best = Best(folder / "checkpoints", monitor="tuning/auroc", mode="max", patience=0, since=since)
    asked = argparse.Namespace(no_estimate=True, verb="compress", checkpoint_steps=100)
    training.fit(settings, folder, asked, best)


def report(made: Trained, layers: Mapping[str, nn.Module], ternary: set[str]) -> CompressionReport:
    """Return what was done to each layer."""
    told: list[Layer] = []
    for name, module in layers.items():
        matrix = as_matrix(module)
        zeros, bits = int((matrix == 0).sum()), TERNARY_BITS if name in ternary else 32
        what = str(kind(module))
        rows, columns = matrix.shape
        told.append(Layer(name, what, rows, columns, zeros, bits=bits))
    return CompressionReport("ternary" if ternary else "recoverable", made.told, tuple(told))


def path(chosen: object) -> str:
    """Return the path of an object's class."""
    return f"{type(chosen).__module__}.{type(chosen).__qualname__}"
