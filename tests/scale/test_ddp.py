"""One loss curve, whatever the number of processes, how weights are divided, and how often training was killed."""

import pytest

from tests.scale import curves

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
STEPS = 60


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return a folder with a cohort, and the curve of one process."""
    folder = curves.prepare(tmp_path_factory.mktemp("ddp"))
    curves.finish(curves.command(folder, folder / "alone", 1, steps=STEPS))
    return folder, curves.losses(folder / "alone" / "metrics.csv")


@pytest.mark.parametrize(("processes", "strategy"), [(2, "ddp"), (4, "ddp"), (2, "fsdp2")])
def test_processes_together_learn_what_one_learns(alone, processes, strategy):
    folder, expected = alone
    output = folder / f"{strategy}-{processes}"
    curves.finish(curves.command(folder, output, processes, steps=STEPS, strategy=strategy))
    assert curves.apart(expected, curves.losses(output / "metrics.csv")) <= 1e-5


@pytest.mark.parametrize(
    ("before", "after", "how"), [(2, 1, "ddp"), (1, 3, "ddp"), (2, 3, "fsdp2")], ids=["fewer", "more", "divided"]
)
def test_killed_and_gone_on_with_by_another_number(alone, before, after, how):
    folder, expected = alone
    output = folder / f"resumed-{before}-{after}-{how}"
    words = curves.command(folder, output, before, steps=STEPS, strategy=how)
    curves.kill_at(words, output, curves.random_step(before, STEPS))
    said = curves.finish(curves.command(folder, output, after, steps=STEPS, strategy="ddp"))
    assert "going on from step" in said
    assert curves.apart(expected, curves.losses(output / "metrics.csv")) <= 1e-5
