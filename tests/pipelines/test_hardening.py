"""Fine-tuning on moved embeddings."""

import math

import pytest
import torch

from ehr import losses
from ehr.batches import Batch
from ehr.model import Anamnesis, Moments
from ehr.network import AnamnesisConfig
from pipelines.data import Answered
from pipelines.hardening import hardened
from robust.objectives import Clean, Free, Trades, training_attack
from robust.threats import Threat
from robust.training import EmbeddingTraining

SMALL = {"width": 16, "heads": 2, "hidden": 32, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}


@pytest.fixture(params=[False, True], ids=["plain", "summary"])
def network(request):
    torch.manual_seed(0)
    made = Anamnesis(
        AnamnesisConfig(
            vocabulary_size=12,
            network={**SMALL, "summary": request.param},
            outcomes=["a", "b"],
            horizons=[[30, 365], [30, -1]],
        )
    )
    made.get_buffer("bag").copy_(torch.arange(12))
    made.get_buffer("bag_offsets").copy_(torch.arange(12))
    # New heads answer the prior alone, whatever they are shown. The linear part of a summary learns nothing here.
    with torch.no_grad():
        for part in made.heads.parameters():
            if part.requires_grad:
                part.normal_(std=0.5)
    return made.train()


@pytest.fixture
def content():
    """Three samples in two rows, one of them asked twice; statics first, padding last."""
    segment = torch.tensor([[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 0, 0]], dtype=torch.int32)
    batch = Batch(
        token=torch.tensor([[3, 4, 5, 3, 6, 7, 0], [8, 9, 10, 11, 4, 0, 0]]),
        segment=segment,
        visit=torch.tensor([[0, 1, 2, 0, 1, 1, 0], [0, 1, 1, 2, 3, 0, 0]], dtype=torch.int32),
        age_days=torch.tensor([[0.0, 9000, 9100, 0, 7000, 7000, 0], [0, 100, 100, 200, 300, 0, 0]]),
        subject=torch.arange(3),
        prediction_time=torch.arange(3),
        query_age_days=torch.tensor([9200.0, 7100, 400]),
    )
    moments = Moments(
        torch.tensor([[9200.0, 7100], [250, 400]]),
        torch.tensor([[1, 2], [1, 1]], dtype=torch.int32),
        torch.tensor([[9, 9], [3, 9]], dtype=torch.int32),
    )
    nan = math.nan
    label = torch.tensor([[[1.0, 0], [0, nan]], [[0, 0], [1, nan]], [[nan, nan], [nan, nan]], [[1, 1], [0, nan]]])
    return Answered(batch, moments, label)


def plain(network, content):
    return losses.masked_bce(network.outcomes_at(content.batch, content.moments), content.label)


def test_the_plain_objective_is_the_plain_loss(network, content):
    total, count = plain(network, content)
    found, number = hardened(network, content, EmbeddingTraining(Clean()), 0)
    assert number == count == 9
    assert torch.allclose(found, total)
    slopes = torch.autograd.grad(total, network.embedding.weight)[0]
    assert torch.allclose(torch.autograd.grad(found, network.embedding.weight)[0], slopes, atol=1e-6)


@pytest.mark.parametrize(
    "objective",
    [Free(steps=2), Trades(beta=1.0, attack=training_attack("divergence", 2))],
    ids=["free", "trades"],
)
def test_a_move_costs_and_everything_learns(network, content, objective):
    training = EmbeddingTraining(objective, Threat(norm="l2_token", epsilon=0.3))
    found, _ = hardened(network, content, training, 5)
    assert found > plain(network, content)[0]
    assert torch.equal(hardened(network, content, training, 5)[0], found)
    assert not torch.equal(hardened(network, content, training, 6)[0], found)
    found.backward()
    slopes = network.embedding.weight.grad
    assert torch.isfinite(slopes).all()
    assert (slopes[3:] != 0).any(dim=1).all()
    assert all(part.grad is not None for part in network.encoder.parameters())
    assert all(part.grad is not None for part in network.decoder.parameters())


def test_statics_and_padding_are_not_moved(network, content):
    class Watch:
        def embedding_loss(self, forward, embedded, loss):
            self.seen = embedded
            return loss(forward(embedded.x))

    watch = Watch()
    hardened(network, content, watch, 0)
    movable = torch.tensor([[0, 1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    assert torch.equal(watch.seen.mask, movable)
    assert watch.seen.groups[movable].tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert watch.seen.answers.tolist() == [0, 1, 2, 2]


def test_a_batch_without_labels_passes(network, content):
    empty = content._replace(label=torch.full_like(content.label, math.nan))
    found, count = hardened(network, empty, EmbeddingTraining(Free(steps=2)), 0)
    assert found == count == 0
