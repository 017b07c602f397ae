"""Global batches are the same samples, and weigh the same, for any number of processes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from ehr.batches import Layout, plan
from pipelines import running
from pipelines.cohort import open_cohort
from pipelines.data import Made, PretrainingData
from pipelines.modules import Pretraining
from tests.pipelines import cohorts


@given(
    lengths=some.lists(some.integers(1, 300), min_size=1, max_size=60),
    world=some.integers(1, 9),
    tokens=some.integers(64, 1024),
    seed=some.integers(0, 5),
)
def test_the_parts_of_all_ranks_make_the_batch(lengths, world, tokens, seed):
    for layout in plan(np.array(lengths), tokens=tokens, seed=seed):
        parts = [layout.part(rank, world) for rank in range(world)]
        assert sorted(row for part in parts for row in part.rows) == sorted(layout.rows)
        sizes = [len(part.rows) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a module with its network and data over a small cohort."""
    cohort = open_cohort(cohorts.write(tmp_path_factory.mktemp("ranks") / "cohort", 80))
    torch.manual_seed(0)
    shape = {"width": 16, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    module = Pretraining(network=type(Pretraining().shape)(**shape))
    data = PretrainingData(tokens=512, max_length=48, seed=2)
    module.build(cohort.vocabulary, data.max_length)
    data.open(cohort, module.corruption, one_way=module.network.one_way)
    return module, data


def parts_of(module, data, layout, world):
    """Return loss and number of each process, and the mean gradient of what each takes for its loss."""
    steps = [Made(data.train, rank=rank, world=world)[0, 0, layout] for rank in range(world)]
    found = [module.parts(step.content) for step in steps]
    number = sum(count for _, count in found).clamp(min=1)
    module.zero_grad()
    # What training_step returns, averaged as DDP does.
    torch.stack([total * world / number for total, _ in found]).mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    return [float(count) for _, count in found], float(sum(total.detach() for total, _ in found) / number), gradient


def test_a_process_without_a_row_gives_every_gradient_that_others_wait_for(trained):
    module, data = trained
    layout = next(iter(data.places(data.train).layouts(0)))
    waited = []
    for rank in (0, 39):
        step = Made(data.train, rank=rank, world=40)[0, 0, layout]
        module.zero_grad()
        total, count = module.parts(step.content)
        total.backward()
        waited.append({name for name, parameter in module.named_parameters() if parameter.grad is not None})
        assert (float(count) == 0) == (rank == 39)
    assert waited[0] == waited[1]


@pytest.mark.parametrize("world", [2, 3, 7, 40])
def test_unequal_ranks_weigh_as_one_process(trained, world):
    module, data = trained
    layout = next(iter(data.places(data.train).layouts(0)))
    _, loss, gradient = parts_of(module, data, layout, 1)
    counts, other, same = parts_of(module, data, layout, world)
    assert len(set(counts)) > 1
    # Of 40 processes some have no row at all.
    assert (min(counts) == 0) == (world > len(layout.rows))
    assert other == pytest.approx(loss, abs=1e-5)
    torch.testing.assert_close(same, gradient, atol=1e-5, rtol=1e-4)


def test_the_place_of_training_counts_whole_batches(trained):
    _, data = trained
    everything = [(epoch, number, layout) for epoch, number, layout in data.places(data.train)]
    data.start = (0, 3)
    assert list(data.places(data.train)) == everything[3:]
    data.start = (0, 0)
    with pytest.raises(ValueError, match=r"data\.tokens is 512; the checkpoint was made with 64"):
        data.load_state_dict({"seed": 2, "tokens": 64, "epoch": 0, "batch": 3})
    assert isinstance(everything[0][2], Layout)


def test_another_machine_is_the_same_task():
    here = "trainer: {devices: 1, strategy: auto, max_epochs: 3}\ndata: {workers: 0, tokens: 9}\nseed_everything: 1\n"
    there = here.replace("devices: 1", "devices: 8").replace("auto", "fsdp2").replace("workers: 0", "workers: 4")
    assert running.task_of(here) == running.task_of(there)
    assert running.task_of(here) != running.task_of(here.replace("max_epochs: 3", "max_epochs: 4"))
    assert running.task_of(here) != running.task_of(here.replace("tokens: 9", "tokens: 8"))
