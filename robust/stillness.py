"""A module that answers without being changed: no dropout, no running statistics, modes as they were (torch)."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

Statistics = Literal["running", "batch"]
RECORDS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def unrecorded(module: nn.Module) -> Generator[None]:
    """Let batch norms divide by the statistics of the batch, without their running ones being updated."""
    taken: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for part in module.modules():
            for name in RECORDS:
                buffer = getattr(part, name, None)
                if isinstance(buffer, Tensor):
                    taken.append((part, name, buffer))
                    # Without running statistics those of the batch are used, and nothing is counted.
                    setattr(part, name, None)
        yield
    finally:
        for part, name, buffer in taken:
            setattr(part, name, buffer)


@contextmanager
def still(module: nn.Module, *, statistics: Statistics = "running") -> Generator[None]:
    """Hold a module still, then leave modes and buffers as they were found.

    Args:
        module: what an attack asks.
        statistics: what batch norms divide by: the running statistics, so that an example's answer hangs on itself
            alone; or those of the batch, as in training.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        if statistics == "batch":
            with unrecorded(module):
                yield
        else:
            yield
    finally:
        for part, mode in modes:
            part.training = mode
