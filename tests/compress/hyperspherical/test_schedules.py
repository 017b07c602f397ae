"""Schedules: distances fall, masks grow to their share, steps decide alone, and every term can be switched off."""

import copy

import pytest
import torch
from torch import nn

from compress.hyperspherical import penalties
from compress.hyperspherical.layer import fold, held
from compress.hyperspherical.rivals import TernaryWeights
from compress.hyperspherical.schedules import (
    HypersphericalQuantisation,
    LossAwareTernary,
    RecoverablePruning,
    reinitialise,
    spheres,
)
from compress.hyperspherical.ternary import twn
from compress.layers import as_matrix, find
from compress.sizes import recovered

STEPS = 60
EVERY = (
    LossAwareTernary(),
    HypersphericalQuantisation(every=3),
    TernaryWeights(),
    TernaryWeights(zeros=0.75),
    TernaryWeights(soft=0.5),
)


class Task:
    """A small classifier with something to learn, trained from one start."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
        self.x = torch.randn(256, 12)
        self.y = (self.x[:, :1] * self.x[:, 1:2] > 0).float()

    def begin(self, schedule):
        schedule.begin(find(self.model))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3)
        return self

    def train(self, schedule, steps=range(STEPS)):
        for step in steps:
            schedule.before_step(self.model, step, STEPS)
            loss = nn.functional.binary_cross_entropy_with_logits(self.model(self.x), self.y)
            self.optimizer.zero_grad()
            (loss + schedule.penalty(self.model, step, STEPS)).backward()
            self.optimizer.step()
            if schedule.after_step(self.model, step, STEPS):
                self.optimizer.state.clear()
        return self


def trained(schedule):
    return Task().begin(schedule).train(schedule).model


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_a_trained_network_holds_three_values_a_row(schedule):
    model = trained(schedule)
    x = torch.randn(9, 12)
    before = model(x)
    layers = list(find(model))
    found = fold(model)
    assert list(found) == layers
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-4)
    for name in layers:
        matrix = as_matrix(model.get_submodule(name))
        assert recovered(matrix.numpy()) is not None
        assert found[name].codes.unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("schedule", [*EVERY, RecoverablePruning()], ids=repr)
def test_going_on_half_way_gives_the_same_weights(schedule):
    whole = trained(schedule)
    first = Task().begin(schedule).train(schedule, range(29))
    second = Task().begin(schedule)
    second.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.train(schedule, range(29, STEPS))
    for name, value in whole.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name


def test_the_distance_falls_in_the_first_stage_and_ends_below_the_one_without_penalty():
    schedule = LossAwareTernary(penalty_weight=1.0)
    task = Task().begin(schedule)
    before = penalties.distance(task.model)
    task.train(schedule, range(18))
    after = penalties.distance(task.model)
    assert after < before
    control = penalties.distance(trained(LossAwareTernary(penalty_weight=0.0, rescale=False)))
    assert penalties.distance(task.train(schedule, range(18, STEPS)).model) < control


def test_pruning_grows_to_its_share_and_rows_stay_of_length_one():
    schedule = HypersphericalQuantisation(sparsity=0.75, every=4)
    shares = [schedule.share(step, 100) for step in (0, 4, 22, 39, 80)]
    assert shares == pytest.approx([0, 0, 0.75 * (1 - (17 / 35) ** 3), 0.75, 0.75])
    task, zeros = Task().begin(schedule), []
    for step in range(STEPS):
        task.train(schedule, [step])
        zeros.append([int((~sphere.mask).sum()) for sphere in spheres(task.model)])
        for _, layer in held(task.model):
            torch.testing.assert_close(layer.originals[0].detach().norm(dim=1), torch.ones(48))
    assert zeros == sorted(zeros)
    assert zeros[-1] == [48 * 9, 48 * 36]
    assert all(
        int((as_matrix(model) == 0).sum()) >= count for model, count in zip(layers_of(task), zeros[-1], strict=True)
    )


def layers_of(task):
    fold(task.model)
    return find(task.model).values()


def test_beginning_anew_lies_between_the_weights_and_their_ternary_form():
    schedule = HypersphericalQuantisation()
    task = Task().begin(schedule)
    found = [penalties.distance(task.model)]
    for towards in (0.5, 1.0):
        other = copy.deepcopy(task.model)
        reinitialise(other, towards)
        found.append(penalties.distance(other))
    assert found[0] > found[1] > found[2] == pytest.approx(0, abs=1e-6)


def test_lengths_are_held_at_the_end():
    schedule = HypersphericalQuantisation(lengths_frozen=0.5)
    task = Task().begin(schedule).train(schedule, range(30))
    lengths = [layer.originals[1].detach().clone() for _, layer in held(task.model)]
    task.train(schedule, range(30, STEPS))
    for (_, layer), before in zip(held(task.model), lengths, strict=True):
        assert torch.equal(layer.originals[1], before)


def test_the_rest_ends_below_the_control():
    found = {}
    for weight in (0.0, 1.0):
        model = trained(RecoverablePruning(penalty_weight=weight))
        penalties.watch(model, 0.7)
        model(torch.zeros(1, 12))
        found[weight] = float(penalties.noted(model).detach())
    assert found[1.0] < 0.7 * found[0.0]


def test_a_schedule_with_every_term_off_is_plain_training_on_the_sphere():
    off = (
        LossAwareTernary(penalty_weight=0, drawing=1.0, rescale=False),
        RecoverablePruning(penalty_weight=0),
        HypersphericalQuantisation(sparsity=0, ternary_from=1.0, towards=0, lengths_frozen=0),
    )
    states = [trained(schedule).state_dict() for schedule in off]
    for other in states[1:]:
        for name, value in states[0].items():
            assert torch.equal(value, other[name]), name


def test_the_plain_rival_is_twn_and_its_gradient_straight():
    task = Task().begin(TernaryWeights())
    (name, layer), *_ = held(task.model)
    weight = layer.originals[0]
    expected = twn(weight)
    torch.testing.assert_close(task.model.get_submodule(name).weight, expected.codes * expected.scale[:, None])
    task.model.get_submodule(name).weight.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LossAwareTernary(drawing=1.5), "schedule.drawing is 1.5; expected 0 to 1"),
        (lambda: LossAwareTernary(temperature=0.5), "expected 0 and 1 or more"),
        (lambda: HypersphericalQuantisation(every=0), "every"),
        (lambda: HypersphericalQuantisation(pruning_from=0.5), "no later"),
        (lambda: RecoverablePruning(pruned=()), "expected some"),
        (lambda: TernaryWeights(soft=2), "schedule.soft is 2"),
    ],
)
def test_settings_outside_their_range_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
