"""Callbacks of training: signals are heard by ours alone, and given back."""

import os
import signal
from types import SimpleNamespace

import pytest

from pipelines.callbacks.checkpoints import HEARD, Resume, Stopped


def loop(batch, *, last=False, every=3):
    """Return what the callback asks of a trainer behind a batch."""
    return SimpleNamespace(
        world_size=1,
        global_step=batch + 1,
        accumulate_grad_batches=1,
        is_last_batch=last,
        val_check_batch=float("inf"),
        check_val_every_n_epoch=1,
        save_checkpoint=lambda path: path.write_text(str(batch + 1)),
    )


@pytest.mark.parametrize("number", HEARD)
def test_a_signal_waits_for_the_next_place_to_stop_at_and_reaches_nobody_else(tmp_path, number):
    before = [signal.getsignal(heard) for heard in HEARD]
    resume, others = Resume(tmp_path, every=100), []
    resume.on_fit_start(loop(-1), None)
    # Lightning begins to listen between the two hooks, and would end the process with 0.
    for heard in HEARD:
        signal.signal(heard, lambda *_: others.append(1))
    resume.on_train_start(loop(-1), None)
    os.kill(os.getpid(), number)
    resume.on_train_batch_end(loop(0, last=True), None, None, None, 0)
    assert not resume.path.exists()
    with pytest.raises(Stopped):
        resume.on_train_batch_end(loop(1), None, None, None, 1)
    assert resume.path.read_text() == "2"
    resume.teardown(None, None, "fit")
    assert others == []
    assert [signal.getsignal(heard) for heard in HEARD] == before
