"""Training a reader: the Lightning module, and the data module that makes its batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from pipelines.documents import chunks, losses, sampling
from pipelines.documents.batches import Collator, DocumentBatch
from pipelines.documents.chunks import Window
from pipelines.documents.heads import options_mask
from pipelines.documents.hooks import Embedded, EmbeddingObjective
from pipelines.documents.model import DocumentReader, Reader
from pipelines.documents.sampling import Layout, Sampling

LEAST = 1e-3
"""Share of the distractors that is set beside a passage at least; more are drawn, evenly by their logarithm."""


class Step(NamedTuple):
    """One batch and its place in the epoch, which seeds dropout and names it in messages."""

    epoch: int
    number: int
    batch: DocumentBatch


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW with a warm-up and a cosine to 0."""

    encoder_rate: float = 2e-5
    """Highest rate of the encoder."""
    head_rate: float = 1e-3
    """Highest rate of pooling and heads."""
    weight_decay: float = 0.01
    """Of matrices; embeddings, norms and biases have none."""
    warmup: float = 0.06
    """Share of the steps in which the rate climbs."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """constant: as MAUD was trained."""
    eps: float = 1e-8
    """Of AdamW."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        for name in ("encoder_rate", "head_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"model.optimizer.{name} is {getattr(self, name)}; expected above 0")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"model.optimizer.warmup is {self.warmup}; expected 0 to 1")


class ReaderTraining(lightning.LightningModule):
    """Trains a reader; the network is built once the questions are known."""

    def __init__(  # noqa: PLR0913, PLR0917  keys of a file
        self,
        encoder: Path | None = None,
        encoder_config: dict[str, Any] | None = None,
        reader: Reader = Reader(),  # noqa: B008  frozen
        optimizer: Optimizer = Optimizer(),
        loss: Literal["cross_entropy", "bce_onehot", "focal"] = "cross_entropy",
        focal_gamma: float = 2.0,
        focal_alpha: float = 0.5,
        legacy_last_task_loss: bool = False,  # noqa: FBT001, FBT002  a setting of a file
        objective: EmbeddingObjective | None = None,
        distractors: int = 0,
    ) -> None:
        """Set up.

        Args:
            encoder: folder of a Hugging Face encoder with its weights and tokenizer.json; nothing is downloaded.
            encoder_config: `model_type` and settings of an encoder with random weights, in place of a folder.
            reader: pooling and heads.
            optimizer: rates.
            loss: of a question's options.
            focal_gamma: power of the focal loss.
            focal_alpha: weight of the right option in the focal loss.
            legacy_last_task_loss: only the last question of a step is learnt, as MAUD's published code does.
            objective: by class_path, in place of the plain loss: adversarial training.
            distractors: tokens of other passages of the batch, those of other text types, that half of the loss sets
                beside each passage; for documents far longer than those of training. 0: none.
        """
        super().__init__()
        if not 0 <= focal_alpha <= 1 or focal_gamma < 0:
            raise ValueError("model.focal_alpha: expected 0 to 1; model.focal_gamma: expected 0 or more")
        if distractors < 0:
            raise ValueError(f"model.distractors is {distractors}; expected 0 or more")
        if distractors and (objective is not None or reader.pooling != "question"):
            raise ValueError("model.distractors goes with model.reader.pooling question and without model.objective")
        self.source, self.config, self.shape, self.settings = encoder, encoder_config, reader, optimizer
        self.criterion: losses.Criterion = losses.CRITERIA[loss]
        if loss == "focal":
            self.criterion = partial(losses.focal, gamma=focal_gamma, alpha=focal_alpha)
        self.last_only, self.objective = legacy_last_task_loss, objective
        self.distractors = distractors
        self.kinds = torch.zeros(0, dtype=torch.int64)
        self.by: Literal["passages", "tasks"] = "passages"
        self.steps, self.seed = 1, 0
        self.network: DocumentReader
        self.answers: list[tuple[Tensor, Tensor, Tensor]] = []

    def configure_optimizers(self) -> Any:  # noqa: ANN401  Lightning's own union
        """Return AdamW and its schedule."""
        optimizer = torch.optim.AdamW(groups(self.network, self.settings), eps=self.settings.eps)
        warmup = max(1, round(self.settings.warmup * self.steps))
        steps, constant = self.steps, self.settings.schedule == "constant"

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            share = min(1.0, (step - warmup) / max(1, steps - warmup))
            return 1.0 if constant else (1 + math.cos(math.pi * share)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Step, batch_idx: int) -> None:  # noqa: ARG002  Lightning's signature
        """Seed dropout by the place of the batch, so that resuming needs no state of a generator."""
        torch.manual_seed(self.seed_of(batch))

    def seed_of(self, batch: Step) -> int:
        """Return the seed of a step."""
        return int(sampling.generator(self.seed, batch.epoch, batch.number, self.global_rank).integers(2**62))

    def plain_loss(self, logits: Tensor, batch: DocumentBatch) -> Tensor:
        """Return the loss of a batch from its logits f32 [P, T, C]."""
        there = options_mask(batch.asked.num_options, logits.shape[-1])[None]
        loss = self.criterion(logits, batch.label, there.expand(logits.shape))
        if self.by == "tasks":
            return losses.by_tasks(loss, batch.weight, last_only=self.last_only)
        return losses.by_rows(loss, batch.weight)

    def loss_of(self, step: Step) -> Tensor:
        """Return the loss of a batch, or of what the objective makes of it."""
        batch = step.batch
        if self.objective is None:
            own = self.network
            pooled, option = own.windows(batch.input_ids, batch.attention_mask, batch.owned, batch.asked)
            loss = self.plain_loss(own.answer(pooled, batch.asked, option).logits, batch)
            if not self.distractors:
                return loss
            number = torch.rand(len(batch.label), device=batch.label.device)
            tokens = self.distractors * LEAST**number
            crowded = own.among(pooled, elsewhere(batch, self.kinds), batch.owned, tokens)
            return (loss + self.plain_loss(own.answer(crowded, batch.asked, option).logits, batch)) / 2
        passages, windows = batch.input_ids.shape[:2]
        embedded = Embedded(
            x=self.network.embed(batch.input_ids.flatten(0, 1)),
            mask=batch.owned.flatten(0, 1),
            groups=torch.arange(passages, device=batch.label.device).repeat_interleave(windows),
            label=batch.label,
            seed=self.seed_of(step),
        )

        def forward(x: Tensor) -> Tensor:
            return self.network.forward_embeddings(x, batch.attention_mask, batch.owned, batch.asked).logits

        return self.objective.embedding_loss(forward, embedded, lambda logits: self.plain_loss(logits, batch))

    def training_step(self, batch: Step, batch_idx: int) -> Tensor:  # noqa: ARG002  Lightning's signature
        """Return the loss of a batch.

        Raises:
            ValueError: it is not finite; the batch is named.
        """
        loss = self.loss_of(batch)
        if not bool(torch.isfinite(loss)):
            raise ValueError(
                f"loss is {loss.item()} in batch {batch.number} of epoch {batch.epoch} (step {self.global_step}); "
                "lower model.optimizer.encoder_rate or trainer.gradient_clip_val, then start in another folder"
            )
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: Step, batch_idx: int) -> None:  # noqa: ARG002  Lightning's signature
        """Collect the answers of the tuning split."""
        held = batch.batch
        logits = self.network(held.input_ids, held.attention_mask, held.owned, held.asked).logits
        asked = held.ask
        task = held.asked.task.expand(asked.shape)[asked]
        self.answers.append((task.cpu(), held.label[asked].cpu(), logits[asked].float().cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log loss, balanced accuracy and minority AUPR of the tuning split, means over questions."""
        task, label, logits = (torch.cat(part).numpy() for part in zip(*self.answers, strict=True))
        self.answers.clear()
        found = tuning_figures(task, label, logits)
        for name, value in found.items():
            self.log(f"tuning/{name}", value, sync_dist=True)


def elsewhere(batch: DocumentBatch, kinds: Tensor) -> Tensor:
    """Return which passages say nothing of a question, bool [P, T]: none of their own is of its text type.

    Args:
        batch: P passages, T questions.
        kinds: number of the text type of each question of the catalogue, i64 [T].
    """
    kind = kinds.to(batch.asked.task.device)[batch.asked.task]
    alike = (kind[:, None] == kind).float()
    return (batch.ask.float() @ alike) == 0


def tuning_figures(task: Any, label: Any, logits: Any) -> dict[str, float]:  # noqa: ANN401  arrays
    """Return loss and balanced accuracy, each the mean over questions.

    Args:
        task: i64 [R].
        label: i64 [R].
        logits: f32 [R, C]; options that are not there at -1e4.
    """
    loss: list[float] = []
    balanced: list[float] = []
    for number in np.unique(task).tolist():
        at = task == number
        own, truth = logits[at].astype(np.float64), label[at]
        top = own.max(-1, keepdims=True)
        logged = own - top - np.log(np.exp(own - top).sum(-1, keepdims=True))
        loss.append(float(-logged[np.arange(len(truth)), truth].mean()))
        right = own.argmax(-1) == truth
        balanced.append(float(np.mean([right[truth == value].mean() for value in np.unique(truth)])))
    return {"loss": float(np.mean(loss)), "balanced_accuracy": float(np.mean(balanced))}


def groups(network: DocumentReader, settings: Optimizer) -> list[dict[str, Any]]:
    """Divide the trained parameters by rate and by whether they decay."""
    maps = {id(part.weight) for part in network.modules() if isinstance(part, nn.Linear)}
    maps |= {id(value) for name, value in network.head.named_parameters() if name in {"dense", "weight"}}
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    held: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            held.setdefault((id(parameter) in encoder, id(parameter) in maps), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.encoder_rate if inside else settings.head_rate,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (inside, decays), parameters in sorted(held.items(), key=lambda item: item[0])
    ]


class Places(Sampler[tuple[int, int, Layout]]):
    """The places of an epoch's batches, from a start on; Lightning tells the epoch."""

    def __init__(self, data: "DocumentData", start: tuple[int, int]) -> None:
        """Set up; `start` is the epoch and the number of its first batch still to come."""
        super().__init__()
        self.data, self.start, self.epoch = data, start, start[0]

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; only the first one after resuming starts inside."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int, Layout]]:
        """Yield epoch, number and layout of each batch."""
        epoch = self.epoch
        first = self.start[1] if epoch == self.start[0] else 0
        for number, layout in enumerate(self.data.layouts(epoch)):
            if number >= first:
                yield epoch, number, layout


class Made(Dataset[Step]):
    """Batches made where they are asked for."""

    def __init__(self, collator: Collator) -> None:
        """Set up."""
        super().__init__()
        self.collator = collator

    def __getitem__(self, place: tuple[int, int, Layout]) -> Step:
        """Make one batch."""
        epoch, number, layout = place
        return Step(epoch, number, self.collator.collate(layout.rows, layout.weight, layout.tasks))


class DocumentData(lightning.LightningDataModule):
    """Batches for training and validation, with the position of training in the checkpoint."""

    def __init__(
        self,
        window: Window = Window(),  # noqa: B008  frozen
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        words: int = 8192,
        data_types: Sequence[str] | None = None,
        share: float = 1.0,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        """Set up.

        Args:
            window: how texts are cut.
            sampling: how batches are drawn.
            words: ids of the tokenizer that is made from the training texts, where the encoder comes with none.
            data_types: of the training rows kept, such as main; all where null.
            share: of the training groups kept, 0 to 1; for learning curves.
            workers: processes that make batches; 0 makes them between steps.
            seed: of the order; follows seed_everything.
        """
        super().__init__()
        if words < 8:
            raise ValueError(f"data.words is {words}; expected 8 or more")
        if not 0 < share <= 1:
            raise ValueError(f"data.share is {share}; expected above 0, at most 1")
        if workers < 0:
            raise ValueError(f"data.workers is {workers}; expected 0 or more")
        self.window, self.sampling, self.words, self.data_types = window, sampling, words, data_types
        self.share, self.workers, self.seed = share, workers, seed
        self.start = (0, 0)
        self.train: Collator
        self.tuning: Collator | None = None

    def open(self, train: Collator, tuning: Collator | None) -> None:
        """Take the passages of both splits."""
        self.train, self.tuning = train, tuning

    def shapes(self, collator: Collator) -> list[tuple[int, int]]:
        """Return windows and positions of each passage."""
        special = len(collator.tokens.first) + len(collator.tokens.last)
        most = self.window.max_chunks or 2**31
        return [
            (min(most, chunks.count(number, self.window, special)), chunks.width(number, self.window, special))
            for number in collator.passages.lengths.tolist()
        ]

    def layouts(self, epoch: int) -> Iterator[Layout]:
        """Return the plan of an epoch of training."""
        own = self.train.passages
        if self.sampling.by == "tasks":
            return sampling.by_tasks(own, self.sampling, seed=self.seed, epoch=epoch)
        return sampling.by_passages(own, self.shapes(self.train), self.sampling, seed=self.seed, epoch=epoch)

    def train_dataloader(self) -> DataLoader[Step]:
        """Return training batches from where training stands."""
        return self.loader(Places(self, self.start), Made(self.train))

    def val_dataloader(self) -> DataLoader[Step]:
        """Return all batches of the tuning split."""
        assert self.tuning is not None
        return self.loader(whole(self.tuning, self.shapes(self.tuning), self.sampling), Made(self.tuning))

    def loader(self, places: Any, made: Made) -> DataLoader[Step]:  # noqa: ANN401  a sampler, or a list
        """Return a loader that takes whole batches; it draws nothing from the global generator."""
        return DataLoader(
            made,
            batch_size=None,
            sampler=places,
            num_workers=self.workers,
            generator=torch.Generator(),
            persistent_workers=self.workers > 0,
            multiprocessing_context="forkserver" if self.workers else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands."""
        assert self.trainer is not None
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"epoch": self.trainer.current_epoch, "batch": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where training stood."""
        self.start = (state_dict["epoch"], state_dict["batch"])


def whole(collator: Collator, shapes: Sequence[tuple[int, int]], settings: Sampling) -> list[tuple[int, int, Layout]]:
    """Return the places of all rows of a split in order of length, each with weight 1."""
    rows_of = sampling.rows_by_passage(collator.passages)
    places: list[tuple[int, int, Layout]] = []
    for number, members in enumerate(sampling.bucketed(shapes, settings, None)):
        rows = np.concatenate([rows_of[at] for at in members])
        places.append((0, number, Layout(rows, np.ones(len(rows), dtype=np.float32))))
    return places
