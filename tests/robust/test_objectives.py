"""Objectives: what they are worth, and where their gradients go."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from robust.aims import Target
from robust.attacks.gradient import Pgd
from robust.draws import Draws
from robust.examples import apart
from robust.heads import Classes, Outcomes
from robust.objectives import AdversarialTraining, Clean, Free, SmoothKL, Trades, leaves, training_attack
from robust.threats import Threat
from tests.robust.cases import images, reader

THREAT = Threat(epsilon=0.1, low=0, high=1)
LABEL = torch.arange(12) % 3
OBJECTIVES = {
    "clean": Clean(),
    "adversarial": AdversarialTraining(attack=training_attack("cross_entropy", 2)),
    "trades": Trades(attack=training_attack("divergence", 2)),
    "smooth": SmoothKL(),
    "free": Free(steps=3),
}
every = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))


def network():
    """Without dropout and batch norm, so that passes can be repeated."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)).double()


def loss_of(objective, net, x, label=LABEL, threat=THREAT, seed=0):
    head = Outcomes() if label.is_floating_point() else Classes()

    def plain(logits):
        return head.loss(logits, label).sum() / head.known(label).sum()

    target = Target(head, label)
    return objective.loss(net, x, target, plain=plain, threat=threat, examples=apart(x), draws=Draws(seed), module=net)


def gradients(loss, net):
    net.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


@every
def test_radius_0_is_the_plain_loss(objective):
    net, x = network(), images()
    expected = functional.cross_entropy(net(x), LABEL)
    found = loss_of(objective, net, x, threat=Threat(epsilon=0))
    assert torch.isclose(found, expected)
    for a, b in zip(gradients(found, net), gradients(functional.cross_entropy(net(x), LABEL), net), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@every
def test_a_move_costs_and_the_same_seed_costs_the_same(objective):
    net, x = network(), images()
    clean, found = loss_of(Clean(), net, x), loss_of(objective, net, x)
    if not isinstance(objective, Clean):
        assert found > clean
    assert torch.equal(loss_of(objective, net, x), found)


@every
def test_missing_outcomes_bear_on_nothing(objective):
    net, x = network(), images()
    label = (torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    label[:6, 1] = float("nan")
    label[7] = float("nan")
    loss = loss_of(objective, net, x, label)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(part).all() for part in gradients(loss, net))
    # The seventh has no answers: what stands in it does not matter.
    other = x.clone()
    other[7] = 1 - other[7]
    assert torch.isclose(loss_of(objective, net, other, label), loss)


def test_trades_with_beta_0_is_cross_entropy():
    net, x = network(), images()
    assert torch.isclose(loss_of(Trades(beta=0), net, x), functional.cross_entropy(net(x), LABEL), rtol=1e-12)


def test_the_gradient_of_trades_reaches_clean_logits():
    net, x = network(), images()
    objective, target = OBJECTIVES["trades"], Target(Classes(), LABEL)
    clean = net(x)
    moved = objective.attack.perturb(
        net, x, target._replace(clean=clean.detach()), threat=THREAT, examples=apart(x), draws=Draws(0)
    )
    p, log_q = clean.softmax(-1), net(moved).log_softmax(-1)
    expected = functional.cross_entropy(clean, LABEL) + 6 * (p * (p.log() - log_q)).sum(-1).mean()
    found = loss_of(objective, net, x)
    assert torch.isclose(found, expected)
    for a, b in zip(gradients(found, net), gradients(expected, net), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def plain_free(net, x, steps, size):
    """FreeLB as the paper has it, gradients added up by backward: the second implementation."""
    net.zero_grad()
    moved = THREAT.start(x, apart(x), Draws(0))
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (functional.cross_entropy(net(moved), LABEL) / steps).backward()
        moved = (moved + size * THREAT.epsilon * moved.grad.sign()).detach()
        moved = (x + (moved - x).clamp(-THREAT.epsilon, THREAT.epsilon)).clamp(0, 1)
    return [parameter.grad.clone() for parameter in net.parameters()]


def test_free_gives_the_gradients_of_the_paper():
    net, x = network(), images()
    expected = plain_free(net, x, 3, 0.5)
    for a, b in zip(gradients(loss_of(Free(steps=3, size=0.5), net, x), net), expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@every
def test_an_embedding_table_learns_too(objective):
    net, table = network(), images(2).requires_grad_()
    token = torch.arange(12) % 2
    loss_of(objective, net, table[token]).backward()
    assert table.grad is not None
    assert float(table.grad.abs().min()) > 0
    if isinstance(objective, Clean):
        return
    # To first order a move shifts the input and no more: the table's gradient is that of the inputs it gave.
    apart_from_it = table.detach()[token].requires_grad_()
    loss_of(objective, net, apart_from_it).backward()
    assert torch.allclose(table.grad[0], apart_from_it.grad[token == 0].sum(0))


@every
def test_running_statistics_are_those_of_one_pass(objective):
    # Whatever an attack asks, statistics are updated by training passes alone.
    net = reader().train()
    net[4].eval()
    torch.manual_seed(0)
    loss_of(objective, net, images()).backward()
    passes = {"Free": 3, "SmoothKL": 2}.get(type(objective).__name__, 1)
    assert int(net[1].num_batches_tracked) == passes
    assert net.training


def test_trades_records_the_attacked_pass_alone():
    net, x = reader().train(), images()
    net[4].eval()
    seen = []
    hook = net[1].register_forward_hook(lambda part, _, __: seen.append(part.running_mean is not None))
    loss_of(OBJECTIVES["trades"], net, x)
    hook.remove()
    assert seen == [False, False, False, True]


def test_leaves_are_found_once():
    net = network()
    x = images().requires_grad_()
    found = leaves(net(net(x).sum() * x).sum())
    assert {id(part) for part in found} == {id(part) for part in (x, *net.parameters())}
    assert len(found) == 5


@pytest.mark.parametrize("made", [lambda: Trades(beta=-1), lambda: Free(steps=0), lambda: Free(size=0)])
def test_settings_are_checked(made):
    with pytest.raises(ValueError, match="expected"):
        made()


def test_hardened_training_hardens():
    # A strong feature that an attacker cannot turn beside many weak ones that he can (Tsipras et al. 2019).
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (400,), generator=generator)
    sign = (2.0 * label - 1)[:, None]
    strong = sign + 0.4 * torch.randn(400, 1, generator=generator)
    weak = 0.4 * sign + 0.4 * torch.randn(400, 20, generator=generator)
    x = torch.cat([strong, weak], dim=1)
    threat = Threat(norm="linf", epsilon=0.45)
    target, examples, robust = Target(Classes(), label), apart(x), {}
    for name in ("clean", "trades"):
        torch.manual_seed(0)
        net = nn.Linear(21, 2)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for step in range(20):
            optimizer.zero_grad()
            loss_of(OBJECTIVES[name], net, x, label, threat, seed=step).backward()
            optimizer.step()
        moved = Pgd(steps=5, size=0.5).perturb(net, x, target, threat=threat, examples=examples, draws=Draws(0))
        robust[name] = float((net(moved).argmax(1) == label).double().mean())
    assert robust["trades"] > robust["clean"] + 0.1
