"""Averaged weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robust.averaging import Ema, ema_decay


def test_three_steps_by_hand():
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    ema = Ema(net)
    mean = 1.0
    for step, live in enumerate((2.0, 5.0, -3.0)):
        with torch.no_grad():
            net.weight.fill_(live)
        ema.update()
        decay = ((1, 10), (2, 11), (3, 12))[step]
        mean = decay[0] / decay[1] * mean + (1 - decay[0] / decay[1]) * live
        assert ema.weights["weight"].item() == pytest.approx(mean, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(0, 100), st.floats(0, 0.999))
def test_decay_grows_to_its_highest(step, warmup, tau):
    now, then = ema_decay(step, tau=tau, warmup=warmup), ema_decay(step + 1, tau=tau, warmup=warmup)
    assert 0 <= now <= then <= tau
    assert ema_decay(step + warmup + 10**6, tau=tau, warmup=warmup) == tau
    assert ema_decay(step, tau=tau, dynamic=False) == tau


def test_the_published_decay_is_reached_where_the_paper_says():
    assert ema_decay(1789) < 0.995
    assert ema_decay(1790) == pytest.approx(0.995)
    assert ema_decay(99, warmup=100) == 0
    with pytest.raises(ValueError, match="tau"):
        ema_decay(0, tau=1.0)


def moved(net, steps, ema):
    for step in range(steps):
        torch.manual_seed(step)
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(torch.randn(weight.shape))
            net(torch.randn(8, 3))
        ema.update()


def test_buffers_are_those_of_the_live_network():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    ema = Ema(net)
    moved(net, 5, ema)
    live = {name: value.clone() for name, value in net.state_dict().items()}
    with ema.swap():
        for name, buffer in net.named_buffers():
            assert torch.equal(buffer, live[name])
        for name, weight in net.named_parameters():
            assert not torch.equal(weight, live[name])
    for name, value in net.state_dict().items():
        assert torch.equal(value, live[name])


def test_a_run_shorter_than_the_warm_up_has_the_live_weights():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = Ema(net, warmup=10)
    moved(net, 6, ema)
    for name, weight in net.named_parameters():
        assert torch.equal(ema.weights[name], weight)


def test_a_resumed_run_is_the_same_bit_for_bit():
    whole, first = nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3))
    first.load_state_dict(whole.state_dict())
    ema, begun = Ema(whole), Ema(first)
    moved(whole, 6, ema)
    moved(first, 2, begun)
    resumed = Ema(first)
    resumed.load_state_dict({name: value.clone() for name, value in begun.state_dict().items()})
    for step in range(2, 6):
        torch.manual_seed(step)
        with torch.no_grad():
            for weight in first.parameters():
                weight.add_(torch.randn(weight.shape))
        resumed.update()
    for name, value in ema.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    with pytest.raises(ValueError, match="expected a checkpoint of this network"):
        Ema(nn.Linear(2, 2)).load_state_dict(ema.state_dict())


def test_weights_come_back_after_an_error():
    net = nn.Linear(2, 2)
    ema = Ema(net)
    moved_weight = net.weight.detach().clone() + 1
    with torch.no_grad():
        net.weight.copy_(moved_weight)
    with pytest.raises(RuntimeError, match="stop"), ema.swap():
        raise RuntimeError("stop")
    assert torch.equal(net.weight, moved_weight)
