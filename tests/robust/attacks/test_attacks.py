"""What holds for every attack, and the optimum where it is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robust.aims import Target, broken, goal_of
from robust.attacks.apgd import Apgd, checkpoints
from robust.attacks.ensemble import BEFORE, UNBROKEN, Ensemble
from robust.attacks.gradient import Pgd
from robust.attacks.noise import Noise
from robust.attacks.square import Square, share_at
from robust.draws import Draws
from robust.examples import Examples, apart, packed
from robust.heads import Classes, Outcomes
from robust.stillness import still
from robust.threats import Threat
from tests.robust.cases import SEGMENT, Pooled, images, reader, rows, six, threats

ATTACKS = {
    "steepest": Pgd(steps=4, restarts=2),
    "adam": Pgd(steps=6, step="adam", size=3.2, cuts=(4,)),
    "last": Pgd(steps=3, keep="last", aim="cross_entropy"),
    "apgd": Apgd(steps=8, restarts=2),
    "apgd-cross-entropy": Apgd(steps=8, aim="cross_entropy"),
    "square": Square(queries=12),
    "noise": Noise(tries=3),
}
ATTACKS["ensemble"] = Ensemble({name: ATTACKS[name] for name in ("steepest", "apgd", "square")})
every = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))


def answers(net, x):
    """Labels that the network gives itself, so that attacks have something to break."""
    with torch.no_grad():
        return (net(x) > 0).double()


@every
@settings(max_examples=8)
@given(threats, st.integers(0, 10_000))
def test_radius_bounds_and_padding_are_kept(attack, threat, seed):
    x, examples = rows(seed=seed), six()
    net = Pooled(examples, 2).eval()
    label = answers(net, x)
    label[0] = float("nan")
    moved = attack.perturb(net, x, Target(Outcomes(), label), threat=threat, examples=examples, draws=Draws(seed))
    assert float(threat.magnitude(moved, x, examples).max()) <= threat.epsilon + 1e-6
    assert torch.equal(moved[SEGMENT == 0], x[SEGMENT == 0])
    assert threat.low is None or float(moved.min()) >= 0
    assert threat.high is None or float(moved.max()) <= 1
    assert not moved.requires_grad
    if threat.epsilon == 0:
        assert torch.equal(net(moved), net(x))


@every
def test_same_seed_same_result_for_any_batch_size(attack):
    net, x = reader().eval(), images()
    label, ids = net(x).argmax(1), torch.arange(12) * 7
    threat = Threat(epsilon=0.05, low=0, high=1)

    def attacked(part):
        own = Target(Classes(), label[part])
        return attack.perturb(net, x[part], own, threat=threat, examples=apart(x[part], ids[part]), draws=Draws(5))

    whole = attacked(slice(0, 12))
    assert torch.equal(attacked(slice(0, 12)), whole)
    parts = torch.cat([attacked(slice(0, 5)), attacked(slice(5, 6)), attacked(slice(6, 12))])
    assert torch.allclose(parts, whole, atol=1e-9)


@every
def test_same_result_for_any_packing(attack):
    x, ids = rows(), torch.tensor([3, 1, 4, 15, 9, 2])
    threat = Threat(norm="l2_token", epsilon=0.3)
    net = Pooled(six(), 2).eval()
    label = answers(net, x)
    whole = attack.perturb(net, x, Target(Outcomes(), label), threat=threat, examples=six(ids), draws=Draws(5))
    for example in range(6):
        own = x[six().place == example][None]
        alone = packed(torch.ones(own.shape[:2], dtype=torch.int64), ids=ids[example : example + 1])
        other = Pooled(alone, 2).eval()
        moved = attack.perturb(
            other, own, Target(Outcomes(), label[[example]]), threat=threat, examples=alone, draws=Draws(5)
        )
        assert torch.allclose(moved[0], whole[six().place == example], atol=1e-9)


@every
def test_modes_gradients_and_buffers_are_left_as_found(attack):
    net, x = reader().train(), images()
    net[1].eval()
    weight = net[0].weight
    weight.grad = torch.full_like(weight, 3.0)
    modes = [part.training for part in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    target = Target(Classes(), torch.zeros(12, dtype=torch.int64))
    for statistics in ("running", "batch"):
        with still(net, statistics=statistics):
            attack.perturb(net, x, target, threat=Threat(epsilon=0.1), examples=apart(x), draws=Draws(0))
    assert [part.training for part in net.modules()] == modes
    assert (weight.grad == 3).all()
    assert all(parameter.grad is None for name, parameter in net.named_parameters() if name != "0.weight")
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.requires_grad for parameter in net.parameters())


@every
def test_no_examples_and_validation_without_gradients(attack):
    net, x = reader().eval(), images()
    none = attack.perturb(
        net,
        x[:0],
        Target(Classes(), torch.zeros(0, dtype=torch.int64)),
        threat=Threat(),
        examples=apart(x[:0]),
        draws=Draws(0),
    )
    assert none.shape == (0, 1, 8, 8)
    target = Target(Classes(), net(x).argmax(1))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            moved = attack.perturb(net, x, target, threat=Threat(), examples=apart(x), draws=Draws(0))
        assert moved.shape == x.shape


@every
def test_what_is_not_finite_stops(attack):
    net, x = reader().eval(), images()
    target = Target(Classes(), torch.zeros(12, dtype=torch.int64))
    broken_net = nn.Sequential(net, nn.Threshold(1e9, float("nan")))
    with pytest.raises(ValueError, match="logits that are not finite"):
        attack.perturb(broken_net, x, target, threat=Threat(), examples=apart(x), draws=Draws(0))
    with pytest.raises(ValueError, match="inputs hold values"):
        attack.perturb(net, x * float("inf"), target, threat=Threat(), examples=apart(x), draws=Draws(0))


@pytest.mark.parametrize("norm", ["linf", "l2_token", "l2_example"])
@pytest.mark.parametrize(
    ("attack", "share"),
    [
        (Pgd(steps=20), 0.999),
        (Pgd(steps=20, step="adam", size=0.5), 0.97),
        (Apgd(steps=30), 0.999),
        (Square(queries=300), 0.8),
    ],
    ids=["pgd", "adam", "apgd", "square"],
)
def test_the_optimum_of_a_linear_network_is_reached(attack, share, norm):
    # The margin -(2 y - 1) w x rises by epsilon times the dual norm of w, and by no more.
    weight = rows(seed=3)[0, :3] - 0.5
    x = rows(seed=4)[:, :3]
    examples = packed(torch.ones(3, 3, dtype=torch.int64))
    threat = Threat(norm=norm, epsilon=0.4)
    most = {
        "linf": weight.abs().sum(),
        "l2_token": weight.norm(dim=1).sum(),
        "l2_example": weight.norm(),
    }[norm] * threat.epsilon

    def forward(x):
        return (x * weight).sum((1, 2))[:, None] - 10

    target = Target(Outcomes(), torch.tensor([[0.0], [0.0], [0.0]]))
    moved = attack.perturb(forward, x, target, threat=threat, examples=examples, draws=Draws(1))
    rise = (forward(moved) - forward(x))[:, 0]
    assert (rise <= most + 1e-6).all()
    # An unstructured random search gets most of the way where each direction counts for itself.
    assert (rise >= (share if norm == "linf" or share > 0.9 else 0.5) * most).all()


def plain_pgd(net, x, label, start, epsilon, steps, size):
    """PGD as the paper has it, a row at a time: the second implementation."""
    found = []
    for row in range(len(x)):
        moved = start[row].clone()
        for _ in range(steps):
            moved = moved.requires_grad_()
            loss = nn.functional.cross_entropy(net(moved[None]), label[row][None])
            (slope,) = torch.autograd.grad(loss, moved)
            moved = (moved + size * slope.sign()).detach()
            moved = (x[row] + (moved - x[row]).clamp(-epsilon, epsilon)).clamp(0, 1)
        found.append(moved)
    return torch.stack(found)


def test_pgd_is_that_of_the_paper():
    net, x = reader().eval(), images()
    label = net(x).argmax(1)
    threat = Threat(epsilon=0.08, low=0, high=1)
    moved = Pgd(steps=7, size=0.25, keep="last").perturb(
        net, x, Target(Classes(), label), threat=threat, examples=apart(x), draws=Draws(4)
    )
    start = threat.start(x, apart(x), Draws(4).fork(0))
    assert torch.allclose(moved, plain_pgd(net, x, label, start, 0.08, 7, 0.02), atol=1e-9)


def test_the_best_iterate_is_no_worse_than_the_start():
    net, x = reader().eval(), images()
    target = Target(Classes(), torch.randint(3, (12,), generator=torch.Generator().manual_seed(0)))
    judge = goal_of("margin", target, apart(x))
    for attack in (Pgd(steps=2, size=5.0), Apgd(steps=3), Square(queries=3), Noise(tries=2)):
        moved = attack.perturb(net, x, target, threat=Threat(epsilon=0.2), examples=apart(x), draws=Draws(0))
        assert (judge(net(moved)) >= judge(net(x)) - 1e-9).all()


def test_more_restarts_are_no_worse():
    net, x = reader().eval(), images()
    target = Target(Classes(), net(x).argmax(1))
    gains = []
    for restarts in (1, 3):
        moved = Pgd(steps=3, restarts=restarts).perturb(
            net, x, target, threat=Threat(epsilon=0.03), examples=apart(x), draws=Draws(0)
        )
        gains.append(goal_of("margin", target, apart(x))(net(moved)))
    assert (gains[1] >= gains[0]).all()


def test_checkpoints_are_those_of_the_paper():
    # p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 times 100 steps.
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_squares_shrink_on_the_published_schedule():
    assert share_at(0.8, 0, 10_000) == 0.8
    assert [share_at(0.8, query, 10_000) for query in (11, 51, 201, 501, 1001)] == [0.4, 0.2, 0.1, 0.05, 0.025]
    assert share_at(0.8, 5, 100) == share_at(0.8, 500, 10_000)


def test_an_ensemble_is_no_weaker_than_its_members():
    net, x = reader().eval(), images(40)
    target, threat = Target(Classes(), net(x).argmax(1)), Threat(epsilon=0.03, low=0, high=1)
    members = {name: ATTACKS[name] for name in ("steepest", "apgd", "square", "noise")}
    record = Ensemble(members).run(net, x, target, threat=threat, examples=apart(x), draws=Draws(0))
    assert record.clean == 1
    assert 0 < record.robust < 1
    for number, attack in enumerate(members.values()):
        alone = attack.perturb(net, x, target, threat=threat, examples=apart(x), draws=Draws(0).fork(number))
        fell = broken(net, alone, target, apart(x))
        assert (record.broken_by[fell] != UNBROKEN).all()
    fell = record.broken_by != UNBROKEN
    assert torch.equal(broken(net, record.x, target, apart(x)), fell)
    assert torch.equal(record.x[~fell], x[~fell])
    # Those that the first member broke were not asked about again.
    assert int(record.forwards.max()) == 1 + sum(member.forwards + 1 for member in members.values())
    assert (record.forwards[record.broken_by == 0] == 1 + members["steepest"].forwards + 1).all()


def test_an_ensemble_of_packed_examples_keeps_what_broke_them():
    x, examples = rows(), six()
    net = Pooled(examples, 2).eval()
    target, threat = Target(Outcomes(), answers(net, x)), Threat(norm="l2_token", epsilon=0.6)
    members = {"noise": Noise(tries=1), "pgd": Pgd(steps=10)}
    record = Ensemble(members).run(net, x, target, threat=threat, examples=examples, draws=Draws(0))
    fell = record.broken_by != UNBROKEN
    assert bool(fell.any())
    assert torch.equal(broken(net, record.x, target, examples), fell)


def test_an_ensemble_of_what_is_wrong_already_asks_once():
    net, x = reader().eval(), images()
    wrong = (net(x).argmax(1) + 1) % 3
    record = Ensemble({"pgd": Pgd()}).run(
        net, x, Target(Classes(), wrong), threat=Threat(), examples=apart(x), draws=Draws(0)
    )
    assert (record.broken_by == BEFORE).all()
    assert (record.forwards == 1).all()
    assert record.clean == record.robust == 0
    assert torch.equal(record.x, x)


class Idle:
    """An attack that does nothing."""

    forwards = 0

    def perturb(self, forward, x, target, *, threat, examples, draws):
        return x.clone()


def test_an_attack_weaker_than_noise_raises_an_alarm():
    net, x = reader().eval(), images(40)
    target, threat = Target(Classes(), net(x).argmax(1)), Threat(epsilon=0.2)
    assert Ensemble({"pgd": Pgd(), "square": Square(queries=50)}).alarms(net, x, target, threat=threat) == []
    said = Ensemble({"idle": Idle()}).alarms(net, x, target, threat=threat)
    assert len(said) == 1
    assert "random noise" in said[0]
    # Without a gradient to follow, random search wins: what masked gradients look like.
    said = Ensemble({"pgd": Idle(), "square": Square(queries=100)}).alarms(net, x, target, threat=threat)
    assert any("masked" in line for line in said)


@pytest.mark.parametrize("label", ["two classes", "outcomes"])
def test_two_classes_and_outcomes_can_be_attacked(label):
    x = images(30)
    net = reader(2 if label == "two classes" else 3).eval()
    target = Target(Classes(), net(x).argmax(1)) if label == "two classes" else Target(Outcomes(), answers(net, x))
    threat = Threat(epsilon=0.2, low=0, high=1)
    for attack in (Pgd(), Apgd(), Square(queries=100)):
        moved = attack.perturb(net, x, target, threat=threat, examples=apart(x), draws=Draws(0))
        assert float(broken(net, moved, target, apart(x)).double().mean()) > 0.5


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (lambda: Pgd(step="newton"), "pgd.step"),
        (lambda: Pgd(keep="first"), "pgd.keep"),
        (lambda: Pgd(steps=0), "steps"),
        (lambda: Pgd(keep="last", restarts=2), "keep: best"),
        (lambda: Apgd(steps=0), "apgd"),
        (lambda: Square(queries=0), "square"),
        (lambda: Noise(tries=0), "noise"),
        (lambda: Ensemble({}), "at least one attack"),
    ],
)
def test_settings_are_checked(made, word):
    with pytest.raises(ValueError, match=word):
        made()


def test_vectors_without_positions_can_be_searched():
    x = torch.rand(5, 6, dtype=torch.float64)
    examples = Examples(torch.arange(5), torch.arange(5))
    weight = torch.linspace(-1, 1, 6, dtype=torch.float64)

    def forward(x):
        return (x @ weight)[:, None] - 5

    target = Target(Outcomes(), torch.zeros(5, 1))
    moved = Square(queries=150).perturb(
        forward, x, target, threat=Threat(epsilon=0.5), examples=examples, draws=Draws(0)
    )
    assert ((forward(moved) - forward(x))[:, 0] >= 0.99 * 0.5 * weight.abs().sum()).all()
