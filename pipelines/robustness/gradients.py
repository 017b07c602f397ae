"""What gradients tell of a run: how far embeddings must move, and which edit of a code promises most (torch)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ehr.batches import pad
from ehr.model import LATEST, Anamnesis, Moments
from ehr.shifts.candidates import DELETE, INSERT, Candidates
from ehr.timelines import Sample
from robust.aims import Target
from robust.attacks.apgd import Apgd
from robust.draws import Draws
from robust.examples import packed
from robust.heads import Outcomes
from robust.stillness import still
from robust.threats import Threat

ROWS = 64
Floats = npt.NDArray[np.float32]


class Embedded(NamedTuple):
    """Samples as embeddings, one a row.

    Attributes:
        x: [B, T, width].
        forward: x -> logits [B, K, H].
        visit: i32 [B, T].
        token: i64 [B, T], 0 = padding.
    """

    x: Tensor
    forward: Callable[[Tensor], Tensor]
    visit: Tensor
    token: Tensor


def embedded(network: Anamnesis, samples: Sequence[Sample]) -> Embedded:
    """Return samples as embeddings, and how the network reads them."""
    length = max(1, *(len(sample.token) for sample in samples))
    arrays = pad(samples, length=length, rows=len(samples))
    token, visit, age_days, query_age_days = (torch.from_numpy(array) for array in arrays)
    table = network.table().detach()
    segment = (token != 0).to(torch.int32)
    anchor = query_age_days[:, None]
    asked = torch.ones_like(segment[:, :1])
    moments = Moments(anchor, asked, torch.full_like(asked, LATEST))
    position = torch.arange(token.numel()).view(token.shape)

    def forward(x: Tensor) -> Tensor:
        # Every position reads its own row of what was moved, as it reads the table otherwise.
        reading = network.encode(position, segment, visit, age_days, anchor, x.flatten(0, 1))
        return network.answer(reading, token, moments, anchor, table)[:, 0]

    return Embedded(functional.embedding(token, table), forward, visit, token)


def moved(
    network: Anamnesis, samples: Sequence[Sample], label: Floats, *, share: float, steps: int, seed: int
) -> Floats:
    """Return logits f32 [B, K, H] after embeddings of dated codes were moved as an attack finds best.

    Args:
        network: in eval mode.
        samples: B of them.
        label: 0, 1 or NaN, f32 [B, K, H].
        share: radius at each code, of the median length of embeddings.
        steps: of APGD on the loss.
        seed: of its start.
    """
    radius = share * float(network.table().detach()[3:].norm(dim=-1).median())
    threat = Threat(norm="l2_token", epsilon=radius)
    found: list[Floats] = []
    with still(network):
        for begin in range(0, len(samples), ROWS):
            part = embedded(network, samples[begin : begin + ROWS])
            segment = (part.token != 0).to(torch.int32)
            examples = packed(segment, part.visit > 0)
            target = Target(Outcomes(), torch.from_numpy(label[begin : begin + ROWS]))
            attack = Apgd(steps=steps, aim="cross_entropy")
            x = attack.perturb(
                part.forward, part.x, target, threat=threat, examples=examples, draws=Draws(seed).fork(begin)
            )
            with torch.no_grad():
                found.append(part.forward(x).numpy())
    return np.concatenate(found)


def promise(network: Anamnesis, samples: Sequence[Sample], label: Floats, edits: Candidates) -> npt.NDArray[np.float64]:
    """Return how much each edit raises the loss to first order, f64 [M]: gradient times change of embedding.

    Args:
        network: in eval mode.
        samples: B of them.
        label: 0, 1 or NaN, f32 [B, K, H].
        edits: M rows.
    """
    table = network.table().detach()
    found = np.zeros(len(edits.example))
    with still(network):
        for begin in range(0, len(samples), ROWS):
            part = embedded(network, samples[begin : begin + ROWS])
            leaf = part.x.clone().requires_grad_()
            wanted = torch.from_numpy(label[begin : begin + ROWS])
            loss = Outcomes().loss(part.forward(leaf), wanted).sum()
            (slope,) = torch.autograd.grad(loss, leaf)
            rows = np.flatnonzero((edits.example >= begin) & (edits.example < begin + ROWS))
            at, position = (torch.from_numpy(part_[rows]) for part_ in (edits.example - begin, edits.position))
            kind, token = torch.from_numpy(edits.kind[rows]), torch.from_numpy(edits.token[rows])
            there = torch.where((kind == INSERT)[:, None], 0.0, part.x[at, position])
            then = torch.where((kind == DELETE)[:, None], 0.0, table[token])
            found[rows] = (slope[at, position] * (then - there)).sum(-1).double().numpy()
    return found
