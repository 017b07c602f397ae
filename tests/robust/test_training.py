"""The objective that Lightning modules take by class_path."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust.heads import Outcomes
from robust.objectives import AdversarialTraining, Clean, Free, Trades, training_attack
from robust.threats import Threat
from robust.training import Embedded, EmbeddingTraining
from tests.robust.cases import SEGMENT, Pooled, rows, six

LABEL = torch.tensor([[1.0, 0.0], [0.0, math.nan], [math.nan, math.nan], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])


def embedded(x, label=LABEL, mask=None):
    examples = six()
    return Embedded(x, SEGMENT > 0 if mask is None else mask, examples.place, label, 7, torch.arange(6))


def mean_loss(logits):
    return Outcomes().loss(logits, LABEL).sum() / Outcomes().known(LABEL).sum()


def test_clean_training_is_the_plain_loss():
    net, x = Pooled(six(), 2).eval(), rows()
    found = EmbeddingTraining(Clean()).embedding_loss(net, embedded(x), mean_loss)
    assert torch.equal(found, mean_loss(net(x)))


@pytest.mark.parametrize(
    "objective",
    [Trades(beta=1.0), Free(), AdversarialTraining(attack=training_attack("cross_entropy", 2))],
    ids=["trades", "free", "adversarial"],
)
def test_a_table_and_a_network_learn_from_moved_embeddings(objective):
    net, table = Pooled(six(), 2).eval(), (rows()[0] - 0.5).requires_grad_()
    token = torch.arange(18).view(3, 6) % 6
    seen = []

    def forward(x):
        seen.append(x.detach())
        return net(x)

    training = EmbeddingTraining(objective, Threat(norm="l2_token", epsilon=0.2))
    loss = training.embedding_loss(forward, embedded(table[token]), mean_loss)
    loss.backward()
    assert torch.isfinite(table.grad).all()
    assert (table.grad != 0).any()
    assert all((parameter.grad != 0).any() for parameter in net.parameters())
    # A share of the median length of what may be moved; padding stands where it stood.
    x = table.detach()[token]
    radius = 0.2 * float(x[SEGMENT > 0].norm(dim=-1).median())
    farthest = max(float((part - x).norm(dim=-1).max()) for part in seen)
    assert 0.5 * radius < farthest <= radius + 1e-6
    assert all(torch.equal(part[SEGMENT == 0], x[SEGMENT == 0]) for part in seen)


def test_masked_positions_are_not_moved():
    net, x = Pooled(six(), 2).eval(), rows()
    mask = (SEGMENT > 0) & (torch.arange(6) % 2 == 0)
    seen = []

    def forward(x):
        seen.append(x.detach())
        return net(x)

    EmbeddingTraining().embedding_loss(forward, embedded(x, mask=mask), mean_loss)
    assert all(torch.equal(part[~mask], x[~mask]) for part in seen)
    assert any(not torch.equal(part[mask], x[mask]) for part in seen)


class Passages:
    """What documents hand over: windows of passages, classes with -1 where a question is not answered."""

    def __init__(self, x):
        self.x, self.seed = x, 3
        self.mask = torch.ones(x.shape[:2], dtype=torch.bool)
        self.groups = torch.tensor([0, 0, 1])
        self.label = torch.tensor([[0, -1], [2, 1]])


def test_windows_of_a_passage_share_a_budget():
    torch.manual_seed(0)
    net = nn.Linear(4, 6).double()
    x = rows()

    def forward(x):
        seen.append(x.detach())
        pooled = torch.stack([x[:2].sum((0, 1)), x[2].sum(0)])
        return net(pooled).view(2, 2, 3)

    def loss(logits):
        return functional.cross_entropy(logits.flatten(0, 1), passages.label.flatten(), ignore_index=-1)

    seen, passages = [], Passages(x)
    threat = Threat(norm="l2_example", epsilon=0.5)
    found = EmbeddingTraining(threat=threat, relative=False).embedding_loss(forward, passages, loss)
    assert torch.isfinite(found)
    for part in seen:
        assert float((part - x)[:2].norm()) <= 0.5 + 1e-6
        assert float((part - x)[2].norm()) <= 0.5 + 1e-6


def test_a_batch_without_anything_to_move_is_the_plain_loss():
    net, x = Pooled(six(), 2).eval(), rows()
    mask = torch.zeros_like(SEGMENT, dtype=torch.bool)
    found = EmbeddingTraining(Free()).embedding_loss(net, embedded(x, mask=mask), mean_loss)
    assert torch.isclose(found, mean_loss(net(x)))
