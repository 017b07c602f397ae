"""Batches for Lightning: packed by plan, made by any worker, resumed at any batch."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ehr import corruption
from ehr.batches import Batch, Layout, collate, generator, plan
from ehr.corruption import Asked, Corruption, Denoising
from ehr.grammar import Grammar, grammar
from ehr.model import Moments
from ehr.timelines import Record, Sample, Timelines, cut
from ehr.unrolling import GENERATING, unroll
from pipelines.cohort import Cohort, splits, timelines
from pipelines.noise import Noise, Noising
from pipelines.samples import Group, Questions, groups, questions_of

CROP = 1
Ints = npt.NDArray[np.int64]


class Step(NamedTuple):
    """One batch and its place in the epoch; `content` is Denoising or Answered.

    The place is what names the batch in messages and seeds its dropout.
    """

    epoch: int
    number: int
    content: Any


class Answered(NamedTuple):
    """Packed records, the N moments at which outcomes are asked for, and their labels f32 [N, K, H]."""

    batch: Batch[Tensor]
    moments: Moments
    label: Tensor


class Source(Protocol):
    """Samples that can be put into batches."""

    lengths: Ints

    def make(self, layout: Layout, epoch: int) -> tuple[Any, ...]:
        """Return the content of a batch, arrays or tensors."""
        ...


class Mapped:
    """Timelines of a cohort, memory-mapped anew in each process instead of being sent there."""

    def __init__(self, cohort: Cohort) -> None:
        """Note where they are."""
        self.cohort = cohort
        self.opened: Timelines | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the map behind."""
        return {"cohort": self.cohort, "opened": None}

    def __call__(self) -> Timelines:
        """Return the timelines of this process."""
        self.opened = self.opened or timelines(self.cohort)
        return self.opened


class Asking(NamedTuple):
    """What pretraining asks of a record.

    Attributes:
        rules: the grammar, where codes are asked for one by one; else sets of them are.
        ordered: one by one in the order of the record.
        ahead: when each code comes, too.
    """

    rules: Grammar | None
    ordered: bool
    ahead: bool


class RecordSource:
    """Records of a split for pretraining, corrupted anew in each epoch."""

    def __init__(
        self,
        cohort: Cohort,
        split: str,
        settings: Corruption,
        *,
        max_length: int,
        seed: int,
        one_way: bool,
        asking: Asking,
    ) -> None:
        """Find the subjects with at least one visit.

        Args:
            cohort: prepared records.
            split: of which.
            settings: of the noise.
            max_length: tokens of a sample, at most.
            seed: of the noise.
            one_way: whether attention is visit-causal.
            asking: what is asked.

        Raises:
            ValueError: there is none.
        """
        self.timelines = Mapped(cohort)
        self.settings, self.max_length, self.seed, self.one_way = settings, max_length, seed, one_way
        self.asking = asking
        self.known = corruption.facts(cohort.vocabulary)
        held = splits(cohort)
        subjects = held["subject_id"].to_numpy()[(held["split"] == split).to_numpy()]
        sizes = np.array([self.size(self.timelines().record(subject)) for subject in subjects.tolist()], dtype=np.int64)
        self.subjects: Ints = subjects[sizes > 0]
        self.lengths: Ints = np.minimum(sizes[sizes > 0], max_length)
        if not len(self.subjects):
            raise ValueError(f"{cohort.path}: split {split} has no patient with a visit; nothing to train on")

    @staticmethod
    def size(record: Record) -> int:
        """Return the tokens of a record, 0 where it has no visit."""
        return len(record.token) if len(record.visit) and record.visit[-1] > 0 else 0

    def sample(self, at: int, epoch: int) -> Sample:
        """Return a record, or of a long one the part up to a time drawn anew in each epoch."""
        record = self.timelines().record(int(self.subjects[at]))
        end = len(record.token)
        if end > self.max_length:
            draw = generator(self.seed, epoch, record.subject, CROP)
            end = int(draw.integers(self.max_length, end + 1))
        return cut(record, int(record.time[end - 1]), max_length=self.max_length)

    def asked(self, sample: Sample, epoch: int) -> tuple[Sample, Asked]:
        """Return a record as the model reads it, and what it is asked."""
        asking = self.asking
        if asking.rules is not None:
            return unroll(sample, asking.rules, seed=self.seed, epoch=epoch, ordered=asking.ordered)
        how: dict[str, Any] = {"seed": self.seed, "epoch": epoch, "one_way": self.one_way, "ahead": asking.ahead}
        return corruption.corrupt(sample, self.settings, self.known, **how)

    def make(self, layout: Layout, epoch: int) -> Denoising[npt.NDArray[Any]]:
        """Return a corrupted batch; what no query reads makes room, so that rows are fewer than planned."""
        rows = [[self.asked(self.sample(at, epoch), epoch) for at in row] for row in layout.rows]
        return corruption.denoising(*corruption.tightened(rows))


class OutcomeSource:
    """Labelled samples of a split for fine-tuning."""

    def __init__(
        self, cohort: Cohort, asked: Questions, *, max_length: int, share: bool, noising: Noising | None = None
    ) -> None:
        """Gather the questions of each patient."""
        self.timelines, self.asked, self.max_length, self.noising = Mapped(cohort), asked, max_length, noising
        self.groups: list[Group] = groups(self.timelines(), asked, max_length, share=share)
        self.lengths: Ints = np.array([group.length for group in self.groups], dtype=np.int64)

    def sample(self, group: Group) -> Sample:
        """Return what a group reads."""
        return cut(self.timelines().record(group.subject), group.time, max_length=self.max_length)

    def read(self, group: Group, epoch: int) -> tuple[Sample, float]:
        """Return what a group reads in an epoch, and the days by which its ages are wrong there."""
        sample = self.sample(group)
        return self.noising(sample, epoch) if self.noising else (sample, 0.0)

    def make(self, layout: Layout, epoch: int) -> Answered:
        """Return a batch with its moments and labels, as arrays."""
        rows = [[self.groups[at] for at in row] for row in layout.rows]
        read = [[self.read(group, epoch) for group in row] for row in rows]
        batch = collate([[sample for sample, _ in row] for row in read], layout.width)
        shape = (len(batch.token), max([sum(len(group.questions) for group in row) for row in rows] or [1]))
        age = np.zeros(shape, dtype=np.float32)
        segment, before = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
        for at, row in enumerate(rows):
            begin = 0
            for number, group in enumerate(row, start=1):
                place = slice(begin, begin := begin + len(group.questions))
                age[at, place], before[at, place] = group.age_days + np.float32(read[at][number - 1][1]), group.before
                segment[at, place] = number
        asked = np.concatenate([np.zeros(0, dtype=np.int64), *(group.questions for row in rows for group in row)])
        label = self.asked.label[asked]
        return Answered(batch, Moments(age, segment, before), label)  # pyright: ignore[reportArgumentType]


def tensors(content: Any) -> Any:  # noqa: ANN401  NamedTuples of arrays, nested
    """Turn the arrays of nested NamedTuples into tensors that share their memory."""
    if isinstance(content, np.ndarray):
        return torch.from_numpy(content)
    if isinstance(content, tuple):
        return type(content)(*(tensors(item) for item in content))
    return content


class Places(Sampler[tuple[int, int, Layout]]):
    """The places of an epoch's batches, from a start on; Lightning tells the epoch."""

    def __init__(self, lengths: Ints, *, tokens: int, buffer: int, seed: int, start: tuple[int, int] = (0, 0)) -> None:
        """Set up; `start` is the epoch and the number of its first batch still to come."""
        super().__init__()
        self.lengths, self.tokens, self.buffer, self.seed = lengths, tokens, buffer, seed
        self.start = start
        self.epoch = start[0]

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; only the first one after resuming starts inside."""
        self.epoch = epoch

    def layouts(self, epoch: int) -> Iterator[Layout]:
        """Return the plan of an epoch."""
        return plan(self.lengths, tokens=self.tokens, buffer=self.buffer, seed=self.seed, epoch=epoch)

    def __iter__(self) -> Iterator[tuple[int, int, Layout]]:
        """Yield epoch, number and layout of each batch."""
        epoch = self.epoch
        first = self.start[1] if epoch == self.start[0] else 0
        for number, layout in enumerate(self.layouts(epoch)):
            if number >= first:
                yield epoch, number, layout


class Made(Dataset[Step]):
    """Batches made where they are asked for; of several processes each takes its rows of the same batch."""

    def __init__(self, source: Source, *, rank: int = 0, world: int = 1) -> None:
        """Set up for one process."""
        super().__init__()
        self.source, self.rank, self.world = source, rank, world

    def __getitem__(self, place: tuple[int, int, Layout]) -> Step:
        """Make one batch."""
        epoch, number, layout = place
        return Step(epoch, number, tensors(self.source.make(layout.part(self.rank, self.world), epoch)))


class PackedData(lightning.LightningDataModule):
    """Packed batches for training and validation, with the position of training in the checkpoint."""

    def __init__(
        self, tokens: int = 16_384, max_length: int = 512, buffer: int = 4096, workers: int = 0, seed: int = 0
    ) -> None:
        """Set up.

        Args:
            tokens: positions in a batch, over all processes together.
            max_length: tokens of a sample, at most: the statics, and the latest of the others.
            buffer: samples packed together; more means less padding.
            workers: processes that make batches; 0 makes them between steps.
            seed: of order and noise; follows seed_everything.
        """
        super().__init__()
        for name, value in (("tokens", tokens), ("max_length", max_length), ("buffer", buffer)):
            if value < 1:
                raise ValueError(f"data.{name} is {value}; expected 1 or more")
        if workers < 0:
            raise ValueError(f"data.workers is {workers}; expected 0 or more")
        self.tokens, self.max_length, self.buffer, self.workers, self.seed = tokens, max_length, buffer, workers, seed
        self.start = (0, 0)
        self.train: Source
        self.tuning: Source | None = None

    def places(self, source: Source) -> Places:
        """Return the batches of a source in order."""
        start = self.start if source is self.train else (0, 0)
        return Places(source.lengths, tokens=self.tokens, buffer=self.buffer, seed=self.seed, start=start)

    def first(self, rows: int | None = None) -> tuple[Step, int]:
        """Return the first batch of training, or some rows of it, and its number of rows in all."""
        layout = next(Places(self.train.lengths, tokens=self.tokens, buffer=self.buffer, seed=self.seed).layouts(0))
        return Made(self.train)[0, 0, layout._replace(rows=layout.rows[:rows])], len(layout.rows)

    def train_dataloader(self) -> DataLoader[Step]:
        """Return training batches from where training stands."""
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return self.loader(self.places(self.train), Made(self.train, rank=rank, world=world))

    def val_dataloader(self) -> DataLoader[Step]:
        """Return all batches of the tuning split, the same in every process."""
        assert self.tuning is not None
        # Plain list: Lightning would tell a sampler the epoch, and validation is the same in each.
        return self.loader(list(self.places(self.tuning)), Made(self.tuning))

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
        """Return where training stands: the next batch, whatever the number of processes."""
        assert self.trainer is not None
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"epoch": self.trainer.current_epoch, "batch": done, "seed": self.seed, "tokens": self.tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where training stood.

        Raises:
            ValueError: the plan of batches is another one.
        """
        for name in ("seed", "tokens"):
            if state_dict[name] != getattr(self, name):
                raise ValueError(
                    f"data.{name} is {getattr(self, name)}; the checkpoint was made with {state_dict[name]}"
                )
        self.start = (state_dict["epoch"], state_dict["batch"])


class PretrainingData(PackedData):
    """Records of the splits train and tuning."""

    rules: Grammar | None = None

    def open(
        self, cohort: Cohort, settings: Corruption, *, one_way: bool, objective: str = "set_ce", ahead: bool = False
    ) -> None:
        """Read where the patients stand."""
        self.rules = rules_of(cohort) if objective in GENERATING else None
        asking = Asking(self.rules, ordered=objective == "ordered_ce", ahead=ahead)
        how: dict[str, Any] = {"one_way": one_way, "asking": asking}

        def source(split: str) -> RecordSource:
            return RecordSource(cohort, split, settings, max_length=self.max_length, seed=self.seed, **how)

        self.train = source("train")
        self.tuning = source("tuning") if has_split(cohort, "tuning") else None


class FinetuningData(PackedData):
    """Labelled samples of the splits train and tuning."""

    def __init__(self, noise: Noise | None = None, **packing: Any) -> None:  # noqa: ANN401  those of PackedData
        """Set up.

        Args:
            noise: by class_path, what changes training records each time that they are read.
            packing: tokens, max_length, buffer, workers and seed.
        """
        super().__init__(**packing)
        self.noise = noise

    def open(self, cohort: Cohort, *, share: bool) -> Questions:
        """Read labels; return the questions of the training split."""

        def source(asked: Questions, noising: Noising | None = None) -> OutcomeSource:
            return OutcomeSource(cohort, asked, max_length=self.max_length, share=share, noising=noising)

        asked = questions_of(cohort, "train")
        noise = self.noise
        noising = None if noise is None else Noising(noise, noise.know(cohort.vocabulary), self.seed)
        self.train = source(asked, noising)
        self.tuning = source(questions_of(cohort, "tuning")) if has_split(cohort, "tuning") else None
        return asked


def rules_of(cohort: Cohort) -> Grammar:
    """Return the grammar of a cohort's futures: what stands in a visit of its training split may be drawn."""
    source, held, size = timelines(cohort), splits(cohort), cohort.vocabulary.size
    seen = np.zeros(size, dtype=bool)
    for subject in held["subject_id"].to_numpy()[(held["split"] == "train").to_numpy()].tolist():
        record = source.record(subject)
        seen[record.token[record.visit > 0]] = True
    return grammar(cohort.vocabulary, seen)


def rates_of(cohort: Cohort) -> npt.NDArray[np.float32]:
    """Return the rate a day of each code's first time in training records, (events + 1/2) / (days + 1), f32 [V]."""
    source, held, size = timelines(cohort), splits(cohort), cohort.vocabulary.size
    events, days = np.zeros(size), 0.0
    for subject in held["subject_id"].to_numpy()[(held["split"] == "train").to_numpy()].tolist():
        record = source.record(subject)
        dated = record.visit > 0
        if dated.any():
            events[np.unique(record.token[dated])] += 1
            days += float(np.ptp(record.age_days[dated]))
    return ((events + 0.5) / (days + 1)).astype(np.float32)


def has_split(cohort: Cohort, name: str) -> bool:
    """Tell whether a cohort has patients in a split."""
    return name in splits(cohort)["split"].unique()
