"""AdA: weights within bounds, losses that rise, inputs that stay alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from robust.ada.augmix import IMAGES, AugMix
from robust.ada.guard import SimilarityGuard, ssim
from robust.ada.objective import Ada
from robust.ada.perturbation import WeightPerturbation
from robust.aims import Target
from robust.draws import Draws
from robust.examples import apart
from robust.heads import Classes
from robust.stillness import still
from robust.threats import Threat
from tests.robust.cases import images, reader

IDS = torch.arange(12)
LABEL = torch.arange(12) % 3


def corruption(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1)).double()
    return net.requires_grad_(requires_grad=False).eval()


def loss_of(net):
    return lambda x: functional.cross_entropy(net(x), LABEL, reduction="none")


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.5]), st.sampled_from([0, 3]), st.sampled_from([1, 5, 12]))
def test_no_layer_leaves_its_ball(seed, nu, steps, group):
    settings = WeightPerturbation(nu=nu, steps=steps, group=group)
    network, net, draws = corruption(), reader().eval(), Draws(seed)
    base = settings.weights(network)
    moves = settings.start(base, IDS[::group], draws)
    groups = -(-12 // group)
    for step in range(steps + 1):
        for name, move in moves.items():
            assert move.shape == (groups, *base[name].shape)
            size = move.flatten(1).norm(dim=1)
            assert (size <= nu * base[name].norm() + 1e-9).all()
            if not steps:
                assert torch.allclose(size, nu * base[name].norm())
        if step < steps:
            x = images().unflatten(0, (groups, -1)) if 12 % group == 0 else None
            if x is None:
                return

            def raised(weights, x=x):
                made = torch.cat(
                    [
                        functional_call(
                            network, {name: base[name] + move[g] for name, move in weights.items()}, (x[g],)
                        )
                        for g in range(len(x))
                    ]
                )
                return loss_of(net)(made).sum()

            moves = settings.step(moves, base, raised)


def test_ascent_raises_the_loss_above_random_moves_and_both_above_none():
    net, network, x = reader().eval().requires_grad_(requires_grad=False), corruption(), images()
    loss = {}
    for steps in (0, 1, 5):
        made = WeightPerturbation(nu=0.1, steps=steps).corrupt(network, x, loss_of(net), IDS, Draws(0))
        loss[steps] = float(loss_of(net)(made).mean())
    plain = float(loss_of(net)(network(x)).mean())
    assert loss[5] > loss[1] > plain
    assert loss[5] > loss[0] + 0.01


def test_nu_0_is_the_network_itself():
    network, x = corruption(), images()
    made = WeightPerturbation(nu=0.0).corrupt(network, x, loss_of(reader().eval()), IDS, Draws(0))
    assert torch.allclose(made, network(x))
    assert not made.requires_grad


def test_each_group_moves_by_itself():
    network, net, x = corruption(), reader().eval(), images()
    settings = WeightPerturbation(nu=0.2, steps=2)
    whole = settings.corrupt(network, x, loss_of(net), IDS, Draws(0))

    def part_of(rows):
        own = functional.cross_entropy
        return lambda made: own(net(made), LABEL[rows], reduction="none")

    for rows in (slice(0, 5), slice(5, 12)):
        assert torch.allclose(settings.corrupt(network, x[rows], part_of(rows), IDS[rows], Draws(0)), whole[rows])


def test_frozen_networks_stay_as_they_are():
    network, net = corruption(), reader().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    WeightPerturbation(nu=0.2).corrupt(network, images(), loss_of(net), IDS, Draws(0))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in (*network.parameters(), *net.parameters()))
    empty = WeightPerturbation().corrupt(network, images()[:0], loss_of(net), IDS[:0], Draws(0))
    assert empty.shape == (0, 1, 8, 8)


def test_only_named_layers_move():
    settings = WeightPerturbation(layers=("2.",))
    assert set(settings.weights(corruption())) == {"2.weight", "2.bias"}
    with pytest.raises(ValueError, match="begins with 7"):
        WeightPerturbation(layers=("7",)).weights(corruption())


def plain_ssim(a, b, side):
    """Structural similarity window by window: the second implementation."""
    found = []
    for i in range(a.shape[0] - side + 1):
        for j in range(a.shape[1] - side + 1):
            p, q = a[i : i + side, j : j + side], b[i : i + side, j : j + side]
            covariance = ((p - p.mean()) * (q - q.mean())).mean()
            top = (2 * p.mean() * q.mean() + 1e-4) * (2 * covariance + 9e-4)
            bottom = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var(correction=0) + q.var(correction=0) + 9e-4)
            found.append(top / bottom)
    return torch.stack(found).mean()


def test_similarity_is_that_of_the_paper():
    x, y = images(3), images(3, seed=1)
    expected = torch.stack([plain_ssim(a[0], b[0], 7) for a, b in zip(x, y, strict=True)])
    assert torch.allclose(ssim(x, y), expected)
    assert torch.allclose(ssim(x, x), torch.ones(3, dtype=torch.float64))
    assert (ssim(x, y) < ssim(x, 0.9 * x + 0.1 * y)).all()


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_what_is_held_is_similar_enough(seed, least):
    x, far = images(), images(seed=seed + 1)
    guard = SimilarityGuard(least=least)
    held = guard.hold(x, far, ssim)
    assert (ssim(x, held) >= least - 1e-12).all()
    alike = ssim(x, far) >= least
    assert torch.equal(held[alike], far[alike])
    if least == 1.0:
        assert torch.equal(held, x)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_mixtures_stay_within_what_images_are(seed):
    x = images()
    mixed = AugMix(severity=1.0).mix(x, IDS, IMAGES, Draws(seed))
    assert mixed.shape == x.shape
    assert float(mixed.min()) >= -1e-9
    assert float(mixed.max()) <= 1 + 1e-9
    assert torch.allclose(AugMix(severity=1.0).mix(x[2:4], IDS[2:4], IMAGES, Draws(seed)), mixed[2:4])


@pytest.mark.parametrize("operation", IMAGES)
def test_operations_of_no_strength_change_nothing(operation):
    x = images()
    assert torch.allclose(operation(x, torch.zeros(12, dtype=x.dtype)), x, atol=1e-9)
    assert not torch.allclose(operation(x, torch.full((12,), 0.7, dtype=x.dtype)), x, atol=1e-2)


@pytest.mark.parametrize("several", [False, True])
def test_training_on_corrupted_inputs(several):
    net, x, target = reader().train(), images(), Target(Classes(), LABEL)
    networks = (corruption(0), corruption(1)) if several else (corruption(0),)
    kept = dict.fromkeys(["alone", "mixed"])
    for name in kept:
        objective = Ada(
            networks=networks,
            similarity=ssim,
            perturbation=WeightPerturbation(nu=0.1, steps=2, group=4),
            augmix=AugMix() if name == "mixed" else None,
            operations=IMAGES,
            consistency=12.0 if name == "mixed" else 0.0,
            low=0,
            high=1,
        )
        net.zero_grad()
        torch.manual_seed(0)
        loss = objective.loss(
            net,
            x,
            target,
            plain=lambda logits: functional.cross_entropy(logits, LABEL),
            threat=Threat(),
            examples=apart(x),
            draws=Draws(0),
            module=net,
        )
        loss.backward()
        assert torch.isfinite(loss)
        assert all(parameter.grad is not None for parameter in net.parameters())
        assert net.training
        kept[name] = loss.item()
    assert kept["mixed"] != kept["alone"]
    with still(net):
        made = Ada(networks=networks, similarity=ssim, low=0, high=1).corrupted(
            net, x, target, apart(x), Draws(0), None
        )
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert (ssim(x, made) >= 0.3).all()


@pytest.mark.parametrize(
    "made",
    [
        lambda: WeightPerturbation(nu=-1),
        lambda: SimilarityGuard(least=2),
        lambda: AugMix(width=0),
        lambda: Ada(networks=(), similarity=ssim),
        lambda: Ada(networks=(corruption(),), similarity=ssim, augmix=AugMix()),
    ],
)
def test_settings_are_checked(made):
    with pytest.raises(ValueError, match="expected"):
        made()
