"""Blocks made faster or smaller: compiled, or run again for their gradient instead of kept (torch)."""

import time
from functools import partial

import torch
from pytorch_lightning.callbacks.throughput_monitor import get_available_flops  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.utils.checkpoint import checkpoint

SIDE = 1024


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the members of a network's lists of modules: what nearly all time and memory goes to."""
    return [block for child in network.children() if isinstance(child, nn.ModuleList) for block in child]


def keep_little(network: nn.Module) -> None:
    """Keep what goes into each block and make the rest again for the gradient; losses stay the same to the bit."""
    for block in blocks(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(network: nn.Module, *, backend: str = "inductor") -> None:
    """Compile what each block does, for any number of rows and positions; names of weights stay.

    Args:
        network: its blocks may keep little already; what they make again is then compiled.
        backend: of torch.compile.
    """
    for block in blocks(network):
        forward = block.forward
        if isinstance(forward, partial):
            compiled = torch.compile(forward.args[0], dynamic=True, backend=backend)
            block.forward = partial(forward.func, compiled, **forward.keywords)
        else:
            block.forward = torch.compile(forward, dynamic=True, backend=backend)


def flops_a_token(network: nn.Module) -> int:
    """Return 6 x the weights of the blocks: forward and backward of one token (Kaplan et al. 2020, section 2.1)."""
    return 6 * sum(parameter.numel() for block in blocks(network) for parameter in block.parameters())


def peak_flops(device: torch.device, precision: str) -> float:
    """Return what a device can do a second, 0 where it is not known.

    Args:
        device: an accelerator gives its maker's figure; a CPU is asked with one product of two matrices.
        precision: of the trainer, such as 32-true or bf16-mixed.
    """
    dtype = torch.bfloat16 if "bf16" in precision else torch.float16 if precision.startswith("16") else torch.float32
    if device.type != "cpu":
        return float(get_available_flops(device, dtype) or 0)
    return measured_flops(dtype)


def measured_flops(dtype: torch.dtype) -> float:
    """Return the operations a second of a square matrix product on the CPU, the better of three."""
    side = torch.ones(SIDE, SIDE, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        torch.mm(side, side)
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best
