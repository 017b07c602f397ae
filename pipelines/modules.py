"""Lightning modules: what a training step is, and how the learning rate runs."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from torch import Tensor

from ehr import losses
from ehr.batches import generator
from ehr.codes import match
from ehr.corruption import Corruption, Denoising, Later
from ehr.grammar import TIME_BINS
from ehr.hazards import hazard_nll
from ehr.model import Anamnesis
from ehr.network import AnamnesisConfig, Network
from ehr.outcomes.registry import Registry
from ehr.unrolling import GENERATING
from ehr.vocabulary import MASK, Vocabulary
from pipelines.acceleration import compile_blocks
from pipelines.data import Answered, Step
from pipelines.hardening import EmbeddingObjective, hardened
from pipelines.optimizer import Optimizer, weights
from pipelines.samples import Questions, counts
from pipelines.sharding import Sharded, shard


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """Weights of what pretraining asks for beside the codes of visits; 0 does not ask."""

    hazards: float = 0.0
    """When each code comes next, as hazards constant in pieces of time, under censoring."""
    values: float = 0.0
    """Values, as places in the distribution of their code (squared error)."""

    def __post_init__(self) -> None:
        """Refuse weights below 0."""
        for name in ("hazards", "values"):
            if getattr(self, name) < 0:
                raise ValueError(f"model.auxiliary.{name} is {getattr(self, name)}; expected 0 or more")

    @property
    def asks(self) -> list[str]:
        """What is asked for."""
        return [name for name in ("hazards", "values") if getattr(self, name) > 0]


class Training(lightning.LightningModule):
    """What both stages share: the optimizer, the seed of each step, the check of the loss."""

    def __init__(self, optimizer: Optimizer, *, compile: bool, activation_checkpointing: bool) -> None:
        """Set up; `steps` is told before training begins."""
        super().__init__()
        self.settings = optimizer
        self.compiled, self.keeps_little = compile, activation_checkpointing
        self.steps = 1
        self.seed = 0
        self.network: Anamnesis

    def configure_model(self) -> None:
        """Compile blocks and divide weights where that is asked for."""
        if self.compiled:
            compile_blocks(self.network)
        if isinstance(self.trainer.strategy, Sharded):
            mesh = self.trainer.strategy.device_mesh["data_parallel"]
            shard(self.network, mesh, ("pretrain", "outcomes_at"))

    def configure_optimizers(self) -> Any:  # noqa: ANN401  Lightning's own union
        """Return AdamW and its schedule."""
        optimizer = torch.optim.AdamW(
            weights(self.network, self.settings), lr=self.settings.learning_rate, betas=(0.9, 0.98)
        )
        warmup = max(1, round(self.settings.warmup * self.steps))
        final, steps = self.settings.final, self.steps

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            share = min(1.0, (step - warmup) / max(1, steps - warmup))
            return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Step, batch_idx: int) -> None:  # noqa: ARG002  Lightning's signature
        """Seed dropout by the place of the batch, so that resuming needs no state of a generator."""
        torch.manual_seed(int(generator(self.seed, batch.epoch, batch.number, self.global_rank).integers(2**62)))

    def parts(self, content: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401  by stage
        """Return the sum of losses of a batch, and what it is divided by."""
        raise NotImplementedError

    def loss_of(self, step: Step) -> Tensor:
        """Return the loss of a batch as one process sees it."""
        total, count = self.parts(step.content)
        return total / count.clamp(min=1)

    def training_step(self, batch: Step, batch_idx: int) -> Tensor:  # noqa: ARG002  Lightning's signature
        """Return what a process adds to the loss of a batch, so that the mean over processes is that loss.

        Processes hold unequal numbers of what the loss is a mean of: each divides its sum by the number in all.
        """
        total, count = self.parts(batch.content)
        whole, number = self.over_all(total, count)
        self.log("train/loss", self.checked(whole / number, batch))
        return total * self.trainer.world_size / number

    def checked(self, loss: Tensor, step: Step) -> Tensor:
        """Return the loss if it is finite.

        Raises:
            ValueError: it is not; the batch is named.
        """
        if not bool(torch.isfinite(loss)):
            raise ValueError(
                f"loss is {loss.item()} in batch {step.number} of epoch {step.epoch} (step {self.global_step}); "
                "lower model.optimizer.learning_rate or trainer.gradient_clip_val, then start in another folder"
            )
        return loss

    def over_all(self, total: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of losses and what it is divided by, at least 1, of all processes together."""
        both = torch.stack([total.detach(), count.detach()])
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(both)
        return both[0], both[1].clamp(min=1)


OBJECTIVES = ("set_ce", "set_asl", *GENERATING)
NEGATIVES = 512
"""Codes drawn as negatives of a batch under set_asl."""


class Pretraining(Training):
    """Denoising: the set of codes of visits, from what came before them; or their codes one by one."""

    def __init__(
        self,
        network: Network = Network(),  # noqa: B008  frozen
        corruption: Corruption = Corruption(),  # noqa: B008  frozen
        optimizer: Optimizer = Optimizer(),  # noqa: B008  frozen
        size_weight: float = 0.1,
        objective: str = "set_ce",
        auxiliary: Auxiliary = Auxiliary(),
        *,
        compile: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        """Set up; the network is built once the vocabulary is known.

        Args:
            network: size and shape.
            corruption: what is asked for and hidden.
            optimizer: rates.
            size_weight: weight of the loss of the set's size beside that of its codes.
            objective: set_ce, the set of codes without order; set_asl, whether each code is there; permuted_ce, the
                rest of the set after some of it, which generating needs; ordered_ce, the next code in the order of the
                record (the control).
            auxiliary: weights of what is asked beside codes.
            compile: compile the blocks (torch.compile).
            activation_checkpointing: make what blocks hold again for the gradient, instead of keeping it.
        """
        super().__init__(optimizer, compile=compile, activation_checkpointing=activation_checkpointing)
        if objective not in OBJECTIVES:
            raise ValueError(f"model.objective is {objective}; expected one of {', '.join(OBJECTIVES)}")
        if objective in GENERATING and network.attention != "visit_causal":
            raise ValueError(f"model.objective {objective} needs model.network.attention visit_causal")
        self.shape, self.corruption, self.size_weight = network, corruption, size_weight
        if auxiliary.asks and (objective in GENERATING or network.attention != "visit_causal"):
            raise ValueError(
                f"model.auxiliary asks for {' and '.join(auxiliary.asks)}; expected nothing, or model.objective set_ce "
                "or set_asl with model.network.attention visit_causal"
            )
        self.objective, self.auxiliary = objective, auxiliary

    def build(self, vocabulary: Vocabulary, max_length: int) -> None:
        """Make the network; weights follow the global seed."""
        generates = self.objective in GENERATING
        self.network = new_network(
            self.shape,
            vocabulary,
            max_length,
            time_bins=TIME_BINS if generates else 0,
            asks=self.auxiliary.asks,
        )
        # Not asked here; DDP waits for the gradient of every weight that may have one.
        self.network.heads.requires_grad_(requires_grad=False)
        frequency = np.array(vocabulary.patients, dtype=np.float32) + 0.5
        with torch.no_grad():
            self.network.sets.bias.copy_(torch.from_numpy(np.log(frequency / frequency.sum())))
            if generates:
                # A visit has several codes to one gap; and no set is counted.
                self.network.clock.bias.fill_(-np.log(6 * TIME_BINS))
                self.network.sets.size.requires_grad_(requires_grad=False)

    def parts(self, content: Denoising[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sum of losses over queries, and the number of queries."""
        query, log_size, table, rates = self.network.pretrain(content)
        table, bias = self.network.law(table)
        # Queries that are padding carry no targets; the others are numbered anew.
        number = torch.cumsum((content.query_segment > 0).flatten(), dim=0) - 1
        asked = number[content.target_query]
        target, weight = content.target, content.weight
        if self.objective == "set_asl":
            # All of them where nothing is learnt from it, so that the tuning loss hangs on no draw.
            drawn = torch.randperm(len(table), device=table.device)[: NEGATIVES if self.training else None]
            code = losses.set_asl(query, table, bias, target_query=asked, target=target, weight=weight, drawn=drawn)
        else:
            code = losses.set_ce(query, table, bias, target_query=asked, target=target, weight=weight)
        if self.objective not in GENERATING:
            code = code + self.size_weight * losses.poisson_nll(log_size, asked)
        if self.auxiliary.values:
            code = code + self.auxiliary.values * self.values(query, asked, content.target)
        if rates is not None and content.later is not None:
            code = code + self.auxiliary.hazards * self.waiting(rates, content.later)
        return code, code.new_tensor(len(query))

    def values(self, query: Tensor, asked: Tensor, target: Tensor) -> Tensor:
        """Return the sum over queries of the error of the values among their targets."""
        head = self.network.values
        at = torch.isfinite(head.get_buffer("level")[target]).nonzero()[:, 0]
        foretold, level = head(query[asked[at]], target[at])
        return losses.value_error(foretold, level, asked[at])

    def waiting(self, rates: Tensor, later: Later[Tensor]) -> Tensor:
        """Return the sum over moments of the loss of what comes when."""
        there = (later.segment > 0).flatten()
        number = torch.cumsum(there, dim=0) - 1
        return hazard_nll(
            rates,
            self.network.hazards.codes.weight,
            self.network.hazards.bias,
            censor_days=later.censor_days.flatten()[there],
            query=number[later.query],
            event=later.event,
            days=later.days,
        )

    def validation_step(self, batch: Step, batch_idx: int) -> None:  # noqa: ARG002  Lightning's signature
        """Log the loss of the tuning split."""
        total, count = self.parts(batch.content)
        number = int(count.item())
        if number:
            self.log("tuning/loss", total / count, batch_size=number, sync_dist=True)


class Finetuning(Training):
    """Many outcomes at once, from the pretrained network."""

    def __init__(
        self,
        optimizer: Optimizer = Optimizer(),  # noqa: B008  frozen
        network: Network | None = None,
        dropout: float | None = None,
        *,
        summary: bool = False,
        objective: EmbeddingObjective | None = None,
        compile: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        """Set up.

        Args:
            optimizer: rates.
            network: size and shape where training starts from scratch (without --pretrained).
            dropout: in place of the pretrained network's.
            summary: tell outcomes counts, last values and times since last beside the record.
            objective: by class_path, in place of the plain loss: hardened training over moved embeddings.
            compile: compile the blocks (torch.compile).
            activation_checkpointing: make what blocks hold again for the gradient, instead of keeping it.
        """
        super().__init__(optimizer, compile=compile, activation_checkpointing=activation_checkpointing)
        self.shape, self.dropout, self.summary, self.objective = network, dropout, summary, objective
        self.answers: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []

    def build(self, network: Anamnesis, vocabulary: Vocabulary, registry: Registry, asked: Questions) -> None:
        """Take the pretrained network and give it heads for the outcomes.

        Args:
            network: as pretrained, or new.
            vocabulary: of the cohort.
            registry: the outcomes.
            asked: training labels, whose prevalence is where the heads start.
        """
        settings = network.config.to_dict()
        settings["outcomes"], settings["horizons"] = registry.names, registry.horizons.tolist()
        settings["network"] = {**settings["network"], "summary": self.summary}
        if self.dropout is not None:
            settings["network"]["dropout"] = self.dropout
        self.network = Anamnesis(AnamnesisConfig(**settings))
        kept = {name: value for name, value in network.state_dict().items() if not name.startswith("heads.")}
        self.network.load_state_dict(kept, strict=False)
        self.network.know(vocabulary)
        self.network.sets.requires_grad_(requires_grad=False)
        for name in ("clock", "hazards", "values"):
            if hasattr(self.network, name):
                getattr(self.network, name).requires_grad_(requires_grad=False)
        self.network.heads.set_prior(prevalence(asked))
        with torch.no_grad():
            if self.network.heads.summary is not None:
                # What was pretrained is not disturbed at the start.
                self.network.heads.summary.mix.weight.zero_()
            for row, outcome in enumerate(registry.outcomes):
                # An outcome starts as the codes of its own event, where the vocabulary knows them.
                own = np.flatnonzero(match(vocabulary.codes[MASK + 1 :], outcome.any_of)) + MASK + 1
                if len(own):
                    self.network.begin(row, torch.from_numpy(own), outcome.gap_days)

    def on_fit_start(self) -> None:
        """Refuse what cannot be done together.

        Raises:
            ValueError: embeddings would be moved outside the calls in which divided weights come together.
        """
        if self.objective is not None and isinstance(self.trainer.strategy, Sharded):
            raise ValueError("model.objective with trainer.strategy fsdp2: expected one of them; use ddp, or auto")

    def parts(self, content: Answered) -> tuple[Tensor, Tensor]:
        """Return the sum of losses over labels, and the number of labels."""
        if self.objective is not None:
            # The seed of this step's dropout.
            return hardened(self.network, content, self.objective, torch.initial_seed())
        return losses.masked_bce(self.network.outcomes_at(content.batch, content.moments), content.label)

    def validation_step(self, batch: Step, batch_idx: int) -> None:  # noqa: ARG002  Lightning's signature
        """Collect the answers of the tuning split."""
        content: Answered = batch.content
        logit = self.network.outcomes_at(content.batch, content.moments)
        self.answers.append((logit.float().cpu().numpy(), content.label.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        """Log loss and macro-AUROC of the tuning split."""
        logit, label = (np.concatenate(part) for part in zip(*self.answers, strict=True))
        self.answers.clear()
        total, count = losses.masked_bce(torch.from_numpy(logit), torch.from_numpy(label))
        self.log("tuning/loss", total / count.clamp(min=1), sync_dist=True)
        self.log("tuning/auroc", macro_auroc(logit, label), sync_dist=True)


def new_network(shape: Network, vocabulary: Vocabulary, max_length: int, **heads: Any) -> Anamnesis:  # noqa: ANN401
    """Make a network for a vocabulary with random weights; `heads` are those of AnamnesisConfig for pretraining."""
    links = sum(len(chain) for chain in vocabulary.ancestors)
    network = Anamnesis(
        AnamnesisConfig(
            vocabulary_size=vocabulary.size,
            ancestor_links=links,
            network=vars(shape),
            max_tokens=max_length,
            **heads,
        )
    )
    network.know(vocabulary)
    return network


def prevalence(asked: Questions) -> Tensor:
    """Return (positives + 1/2) / (labels + 1) by outcome and horizon, f32 [K, H]."""
    labels, positives = counts(asked)
    return torch.from_numpy(((positives + 0.5) / (labels + 1)).astype(np.float32))


def macro_auroc(logit: npt.NDArray[np.float32], label: npt.NDArray[np.float32]) -> float:
    """Return the mean AUROC over outcomes and horizons that have both classes, 0.5 where none has.

    Args:
        logit: f32 [N, K, H].
        label: 0, 1 or NaN, f32 [N, K, H].
    """
    found: list[float] = []
    for k, h in np.ndindex(*label.shape[1:]):
        there = ~np.isnan(label[:, k, h])
        positive = label[there, k, h] == 1
        if 0 < positive.sum() < len(positive):
            found.append(auroc(logit[there, k, h], positive))
    return float(np.mean(found)) if found else 0.5


def auroc(logit: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]) -> float:
    """Return the share of pairs in the right order, ties counting half (Mann-Whitney U)."""
    _, place, count = np.unique(logit, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    number = int(positive.sum())
    above = rank[place][positive].sum() - number * (number + 1) / 2
    return float(above / (number * (len(positive) - number)))
