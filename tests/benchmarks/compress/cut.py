"""The simulator model cut to a size at which training it on in many ways takes minutes."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compress.hyperspherical.schedules import Schedule
from compress.layers import find
from ehr import losses
from ehr.batches import generator, plan
from ehr.metrics.measures import Answers as Ranked
from ehr.metrics.measures import ranking
from ehr.metrics.resampling import Draws, draw
from ehr.model import Anamnesis
from pipelines.cohort import Cohort, open_cohort
from pipelines.compressing import alone
from pipelines.data import Answered, OutcomeSource, tensors
from pipelines.export import read_run
from pipelines.samples import questions_of
from tests.benchmarks.compress.models import trained
from tests.benchmarks.harness import FIGURES

MODEL = "simulator"
LEARNT, ASKED = 12000, 3000
"""Readings of training and of held-out patients, of those that there are."""
TOKENS, RATE, WARMUP = 1024, 1e-3, 10
RESAMPLES = 200
PARTS = FIGURES / "parts"


class Cut(NamedTuple):
    """What all arms share.

    Attributes:
        network: dense, as fine-tuned; each code with a row of its own.
        source: of training patients.
        held_out: batches of patients who were not learnt from.
        label: of their questions, in the order of the answers, f32 [N, K, H].
        place: the row of each question's patient in the draws, i64 [N].
        draws: resamples of patients.
    """

    network: Anamnesis
    source: OutcomeSource
    held_out: list[Answered]
    label: npt.NDArray[np.float32]
    place: npt.NDArray[np.int64]
    draws: Draws


def open_cut() -> Cut:
    """Read the model and draw its patients."""
    torch.set_num_threads(1)
    model = trained(MODEL)
    cohort, network = open_cohort(model.cohort), read_run(model.run).network
    alone(network)
    source, other = (
        readings(cohort, network, split, count) for split, count in (("train", LEARNT), ("held_out", ASKED))
    )
    layouts = list(plan(other.lengths, tokens=4096, buffer=len(other.groups), seed=0, epoch=0))
    order = np.concatenate([other.groups[at].questions for layout in layouts for row in layout.rows for at in row])
    subject, label = other.asked.subject[order], other.asked.label[order]
    draws = draw(subject, (label == 1).any((1, 2)), resamples=RESAMPLES, seed=0)
    held_out = [tensors(other.make(layout, 0)) for layout in layouts]
    return Cut(network, source, held_out, label, draws.places(subject), draws)


def readings(cohort: Cohort, network: Anamnesis, split: str, count: int) -> OutcomeSource:
    """Return readings of a split, drawn at random."""
    config = network.config
    found = OutcomeSource(cohort, questions_of(cohort, split), max_length=config.max_tokens, share=network.one_way)
    chosen = np.sort(generator(0, 1).permutation(len(found.groups))[:count])
    found.groups, found.lengths = [found.groups[at] for at in chosen], found.lengths[chosen]
    return found


def batches(cut: Cut, seed: int) -> Iterator[Answered]:
    """Yield training batches without end, in an order of the seed's own."""
    epoch = 0
    while True:
        for layout in plan(cut.source.lengths, tokens=TOKENS, buffer=4096, seed=seed, epoch=epoch):
            yield tensors(cut.source.make(layout, epoch))
        epoch += 1


def train(cut: Cut, schedule: Schedule, layers: tuple[str, ...], *, steps: int, seed: int) -> Anamnesis:
    """Train a copy of the network on, on labels alone, and leave its layers as the schedule has them."""
    torch.manual_seed(seed)
    network = copy.deepcopy(cut.network).train()
    schedule.begin(find(network, layers))
    go_on(network, batches(cut, seed), schedule, steps)
    return network.eval()


def go_on(network: Anamnesis, given: Iterator[Answered], schedule: Schedule, steps: int) -> None:
    """Take steps of AdamW with a warm-up and a line down to 0."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / WARMUP, (steps - step) / steps)
        schedule.before_step(network, step, steps)
        content = next(given)
        total, count = losses.masked_bce(network.outcomes_at(content.batch, content.moments), content.label)
        optimizer.zero_grad()
        (total / count.clamp(min=1) + schedule.penalty(network, step, steps)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if schedule.after_step(network, step, steps):
            optimizer.state.clear()


class Answers(NamedTuple):
    """Of held-out questions: the loss of labels, and macro-AUROC, then its resamples."""

    loss: float
    auroc: list[float]


def answers(cut: Cut, network: Anamnesis) -> Answers:
    """Ask a network."""
    network.eval()
    with torch.inference_mode():
        logit = torch.cat([network.outcomes_at(content.batch, content.moments) for content in cut.held_out]).numpy()
    total, count = losses.masked_bce(torch.from_numpy(logit), torch.from_numpy(cut.label))
    found: list[npt.NDArray[np.float64]] = []
    for k, h in np.ndindex(*cut.label.shape[1:]):
        known = ~np.isnan(cut.label[:, k, h])
        given = Ranked(logit[known, k, h].astype(np.float64), cut.label[known, k, h] == 1, cut.place[known])
        if given.estimable:
            # A resample may leave out every positive of a rare outcome; the mean does without it.
            with np.errstate(invalid="ignore"):
                found.append(ranking(given, cut.draws.weight)[0])
    macro = np.nanmean(found, axis=0)
    return Answers(float(total / count), [round(float(value), 6) for value in macro])


def kept(part: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a part that an earlier run left, or measure it and leave it."""
    path: Path = PARTS / f"{part}.json"
    if not path.is_file():
        content = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial")
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        temporary.rename(path)
        shown = {name: value for name, value in content.items() if isinstance(value, float)}
        print(f"{part}: {shown}", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))
