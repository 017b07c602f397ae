"""How rivals learn: padded batches, AdamW with a cosine, the epoch that the tuning split prefers (torch)."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ehr.baselines.neural.batches import Examples, Floats, Ints, Padded, shuffled
from ehr.baselines.neural.recipes import Network, Pretraining, Recipe, Sizes
from ehr.batches import generator
from ehr.timelines import Sample

BETAS = (0.9, 0.98)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a rival learns."""

    pretraining_epochs: int = 3
    """Passes over the records, where the network pretrains."""
    epochs: int = 5
    """Passes over the labelled samples; the best one by tuning loss is kept."""
    rows: int = 32
    """Samples in a batch."""
    learning_rate: float = 5e-4
    """Highest rate."""
    weight_decay: float = 0.01
    """Of all weights."""
    warmup: float = 0.05
    """Share of the steps in which the rate climbs."""
    tokens: int = 256
    """Tokens of a sample, at most, as they were cut."""
    seed: int = 0
    """Of weights, order, noise and dropout."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        for name in ("epochs", "rows", "tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"schedule.{name} is {getattr(self, name)}; expected 1 or more")
        if self.learning_rate <= 0 or self.pretraining_epochs < 0:
            raise ValueError("schedule: expected a learning_rate above 0 and pretraining_epochs of 0 or more")


class Learner:
    """A rival with `fit` and `predict`."""

    def __init__(self, recipe: Recipe, schedule: Schedule = Schedule()) -> None:
        """Set up.

        Args:
            recipe: what network.
            schedule: how it learns.
        """
        self.recipe, self.schedule = recipe, schedule
        self.network: Network

    def fit(self, train: Examples, tuning: Examples | None, records: Sequence[Sample], *, codes: int) -> "Learner":
        """Pretrain on records, then learn the outcomes.

        Args:
            train: labelled samples.
            tuning: samples that choose the epoch; the last one is kept where None.
            records: whole records of the training patients, for pretraining; none may be given.
            codes: V.
        """
        torch.manual_seed(self.schedule.seed)
        _, outcomes, horizons = train.label.shape
        self.network = self.recipe.build(Sizes(codes, outcomes, horizons, self.schedule.tokens))
        if isinstance(self.network, Pretraining) and records and self.schedule.pretraining_epochs:
            for _ in Epochs(self.network, self.schedule, records, None, self.schedule.pretraining_epochs):
                pass
        best, kept = math.inf, None
        for _ in Epochs(self.network, self.schedule, train.samples, train.label, self.schedule.epochs):
            loss = self.loss(tuning) if tuning else -math.inf
            if not tuning or loss < best:
                best, kept = loss, copy.deepcopy(self.network.state_dict())
        assert kept is not None
        self.network.load_state_dict(kept)
        return self

    @torch.inference_mode()
    def loss(self, examples: Examples) -> float:
        """Return the mean loss of outcomes."""
        self.network.eval()
        found = [
            self.network.outcome_loss(
                Padded.of([examples.samples[i] for i in at]), torch.from_numpy(examples.label[at])
            )
            for at in by_length(examples.samples, self.schedule.rows)
        ]
        total, count = (sum(float(part[side]) for part in found) for side in (0, 1))
        return total / max(count, 1.0)

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> Floats:
        """Return logits of N samples, f32 [N, K, H]."""
        self.network.eval()
        parts = by_length(samples, self.schedule.rows)
        found = [self.network.outcomes(Padded.of([samples[i] for i in at])).float().numpy() for at in parts]
        order = np.concatenate(parts)
        answers = np.concatenate(found)
        answers[order] = answers.copy()
        return answers


class Epochs:
    """Training, an epoch at a time."""

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        samples: Sequence[Sample],
        label: Floats | None,
        epochs: int,
    ) -> None:
        """Set up (arguments as in Learner)."""
        self.network, self.schedule = network, schedule
        self.samples, self.label, self.number = samples, label, epochs
        self.steps = epochs * -(-len(samples) // schedule.rows)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=schedule.learning_rate, betas=BETAS, weight_decay=schedule.weight_decay
        )
        self.rate = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.rate_at)

    def rate_at(self, step: int) -> float:
        """Return the rate of a step as a share of the highest."""
        warmup = max(1, round(self.schedule.warmup * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, self.steps - warmup)))) / 2

    def __iter__(self) -> "Epochs":
        """Begin with the first epoch."""
        self.epoch = 0
        return self

    def __next__(self) -> int:
        """Train one epoch and return its number."""
        if self.epoch == self.number:
            raise StopIteration
        self.network.train()
        seed = self.schedule.seed
        for at in shuffled(len(self.samples), self.schedule.rows, seed=seed, epoch=self.epoch):
            self.step(at)
        self.epoch += 1
        return self.epoch - 1

    def step(self, at: Ints) -> float:
        """Learn one batch and return its loss."""
        batch = Padded.of([self.samples[i] for i in at])
        if self.label is None:
            assert isinstance(self.network, Pretraining)
            noise = generator(self.schedule.seed, self.epoch, int(at[0])).random(batch.token.shape)
            total, count = self.network.pretraining_loss(batch, torch.from_numpy(noise).float())
        else:
            total, count = self.network.outcome_loss(batch, torch.from_numpy(self.label[at]))
        loss: Tensor = total / count.clamp(min=1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def by_length(samples: Sequence[Sample], rows: int) -> list[Ints]:
    """Return positions in batches of like length, so that little is padding."""
    order = np.argsort([len(sample.token) for sample in samples], kind="stable").astype(np.int64)
    return [order[begin : begin + rows] for begin in range(0, len(order), rows)]
