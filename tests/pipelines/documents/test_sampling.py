"""Batches: nothing lost, classes balanced alike by weights and by drawing, losses that reach every question."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.documents import losses, sampling
from pipelines.documents.passages import Passages
from pipelines.documents.sampling import Sampling, class_weights, oversampled
from pipelines.documents.tokens import Text


def passages(tasks, labels, lengths=None):
    """Return a passage a row."""
    count = len(tasks)
    sizes = lengths or [5] * count
    texts = [Text(*(np.zeros(size, dtype=np.int32) for _ in range(3))) for size in sizes]
    return Passages(texts, np.arange(count), np.array(tasks, dtype=np.int64), np.array(labels, dtype=np.int64))


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 4)), min_size=1, max_size=60)


@given(rows)
def test_class_weights_are_oversampling_in_expectation(drawn):
    task, label = (np.array(part, dtype=np.int64) for part in zip(*drawn, strict=True))
    weight = class_weights(task, label, balance=1.0, task_power=0.0)
    assert (weight[label < 0] == 0).all()
    loss = np.random.default_rng(0).normal(size=len(task))
    for number in np.unique(task[label >= 0]):
        own = np.flatnonzero((task == number) & (label >= 0))
        repeated = oversampled(label[own], own)
        assert set(repeated) == set(own)
        times = {row: int((repeated == row).sum()) for row in own.tolist()}
        classes = [own[label[own] == value] for value in np.unique(label[own])]
        assert len({sum(times[row] for row in rows.tolist()) for rows in classes}) == 1
        assert all(np.ptp([times[row] for row in rows.tolist()]) <= 1 for rows in classes)
        # Which row of a class is repeated once more is drawn; over all draws each class counts by its mean.
        weighted = (weight[own] * loss[own]).sum() / weight[own].sum()
        assert weighted == pytest.approx(np.mean([loss[rows].mean() for rows in classes]), abs=1e-5)
    if (label >= 0).any():
        assert weight[label >= 0].mean() == pytest.approx(1, abs=1e-5)


@given(rows, st.floats(0, 1))
def test_questions_weigh_their_rows_to_a_power(drawn, power):
    task, label = (np.array(part, dtype=np.int64) for part in zip(*drawn, strict=True))
    weight = class_weights(task, label, task_power=power)
    sums = {t: weight[task == t].sum() for t in np.unique(task[label >= 0])}
    counts = {t: ((task == t) & (label >= 0)).sum() for t in sums}
    scale = {t: sums[t] / counts[t] ** power for t in sums}
    assert np.ptp(list(scale.values())) < 1e-3 * max(scale.values()) if scale else True


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=80), st.integers(1, 400))
def test_every_passage_is_in_one_batch_and_batches_keep_their_limits(shape, positions):
    shape = [(windows, 16 * length) for windows, length in shape]
    settings = Sampling(positions=positions, passages=7)
    for draw in (None, sampling.generator(3)):
        found = sampling.bucketed(shape, settings, draw)
        assert sorted(at for members in found for at in members) == list(range(len(shape)))
        for members in found:
            area = len(members) * max(shape[at][0] for at in members) * max(shape[at][1] for at in members)
            assert area <= positions or len(members) == 1
            assert len(members) <= 7


def test_an_epoch_is_drawn_from_seed_and_number_alone():
    made = passages([0] * 40, [0, 1] * 20, list(range(1, 41)))
    shape = [(1, 16)] * 40

    def order(seed, epoch):
        plan = sampling.by_passages(made, shape, Sampling(positions=64), seed=seed, epoch=epoch)
        return [layout.rows.tolist() for layout in plan]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_steps_by_questions_draw_so_many_rows_of_so_many_questions():
    made = passages([0] * 9 + [1] * 4 + [2] * 2 + [3, 3, 3] + [4, 4], [0, 1] * 10)
    settings = Sampling(by="tasks", tasks=2, rows=6, rounds=3)
    plan = list(sampling.by_tasks(made, settings, seed=0, epoch=0))
    assert len(plan) == 3 * 3
    for layout in plan:
        assert set(made.task[layout.rows]) == set(layout.tasks)
        for task in layout.tasks:
            assert layout.weight[made.task[layout.rows] == task].sum() == 6
    # A pool of 12 rows (6 of each class) has been gone through once after two rounds.
    seen = [row for layout in plan[:6] for row in layout.rows[made.task[layout.rows] == 0].tolist()]
    assert set(seen) == set(range(9))


def logit(seed=0, shape=(6, 4, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


OPTIONS = torch.tensor([2, 3, 5, 4])
THERE = (torch.arange(5) < OPTIONS[:, None]).expand(6, 4, 5)
LABEL = torch.arange(24).reshape(6, 4) % OPTIONS


def test_losses_are_those_of_torch_over_the_options_there_are():
    raw = logit()
    found = losses.cross_entropy(raw, LABEL, THERE)
    spread = losses.bce_onehot(raw, LABEL, THERE)
    for column, options in enumerate(OPTIONS.tolist()):
        own, label = raw[:, column, :options], LABEL[:, column]
        assert torch.allclose(found[:, column], torch.nn.functional.cross_entropy(own, label, reduction="none"))
        hot = torch.nn.functional.one_hot(label, options).float()
        plain = torch.nn.functional.binary_cross_entropy_with_logits(own, hot, reduction="none").mean(-1)
        assert torch.allclose(spread[:, column], plain, atol=1e-6)
    halved = losses.focal(raw, LABEL, THERE, gamma=0.0, alpha=0.5)
    assert torch.allclose(halved, spread / 2, atol=1e-6)
    assert (losses.focal(raw, LABEL, THERE) <= halved + 1e-6).all()


@pytest.mark.parametrize("name", list(losses.CRITERIA))
def test_options_that_are_not_there_get_no_gradient(name):
    raw = logit()
    losses.CRITERIA[name](raw, LABEL, THERE).sum().backward()
    assert (raw.grad[~THERE] == 0).all()
    assert (raw.grad[THERE] != 0).all()


def test_all_questions_of_a_step_get_gradient_and_one_under_the_published_loss():
    weight = torch.ones(6, 4)
    for last_only, expected in ((False, 4), (True, 1)):
        raw = logit()
        losses.by_tasks(losses.cross_entropy(raw, LABEL, THERE), weight, last_only=last_only).backward()
        reached = (raw.grad.abs().sum((0, 2)) > 0).tolist()
        assert sum(reached) == expected
        assert reached[-1]


def test_rows_without_a_label_weigh_nothing():
    raw = logit()
    weight = torch.ones(6, 4)
    weight[2] = 0
    label = LABEL.clone()
    label[2] = -1
    losses.by_rows(losses.cross_entropy(raw, label, THERE), weight).backward()
    assert (raw.grad[2] == 0).all()


@pytest.mark.parametrize("wrong", [{"positions": 0}, {"balance": 2.0}, {"task_power": -1.0}, {"rows": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"data\.sampling\."):
        Sampling(**wrong)
