"""Finished blocks of a pruning under way, each a file written whole or not at all."""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from compress.layers import as_matrix, set_matrix
from compress.report import Layer, layer, plain
from compress.sparsity.settings import SparseGPT

PLAN = "plan.json"


class Store:
    """A folder of finished blocks that belongs to one model, one set of data and one choice of settings."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that is there."""
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, model: nn.Module, batches: Sequence[Any], settings: SparseGPT) -> Self:
        """Open a folder, made where it is not there.

        Raises:
            ValueError: what it holds belongs to something else.
        """
        hashed = hashlib.sha256(repr(settings).encode())
        for name, value in model.state_dict().items():
            feed(hashed, (name, value))
        feed(hashed, batches)
        folder.mkdir(parents=True, exist_ok=True)
        plan, content = folder / PLAN, (json.dumps({"sha256": hashed.hexdigest()}) + "\n").encode()
        if not plan.is_file():
            write(plan, content)
        elif plan.read_bytes() != content:
            raise ValueError(f"{folder}: holds blocks of another model, other data or other settings; delete it")
        return cls(folder)

    def path(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"{number:05d}.npz"

    def save(self, number: int, layers: Mapping[str, nn.Module], told: Sequence[Layer], tokens: int) -> None:
        """Keep a block that is done."""
        record = [{name: plain(value) for name, value in held._asdict().items()} for held in told]
        arrays = {f"weight{at}": octets(as_matrix(module)) for at, module in enumerate(layers.values())}
        arrays["record"] = np.frombuffer(json.dumps([record, tokens]).encode(), np.uint8)
        held = io.BytesIO()
        np.savez(held, **arrays)  # pyright: ignore[reportArgumentType]
        write(self.path(number), held.getvalue())

    def load(self, number: int, layers: Mapping[str, nn.Module]) -> tuple[list[Layer], int] | None:
        """Put a kept block into the model and return what was told of it; None where it is not done."""
        if not self.path(number).is_file():
            return None
        with np.load(self.path(number), allow_pickle=False) as held:
            for at, module in enumerate(layers.values()):
                matrix = as_matrix(module)
                set_matrix(module, torch.from_numpy(held[f"weight{at}"]).view(matrix.dtype).reshape(matrix.shape))
            record, tokens = json.loads(held["record"].tobytes())
        return [layer(content) for content in record], tokens


def octets(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the bytes of a tensor, u8; numpy has no bfloat16."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def feed(hashed: Any, value: Any) -> None:  # noqa: ANN401  a hash, and anything that a batch is made of
    """Hash nested containers of tensors, arrays and plain values; of other objects their type."""
    if isinstance(value, Tensor):
        hashed.update(f"{value.dtype}{tuple(value.shape)}".encode())
        hashed.update(octets(value).tobytes() if value.numel() else b"")
    elif isinstance(value, np.ndarray):
        hashed.update(f"{value.dtype}{value.shape}".encode())
        hashed.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        feed(hashed, list(value.items()))
    elif isinstance(value, (tuple, list)):
        hashed.update(f"{len(value)}(".encode())
        for part in value:
            feed(hashed, part)
    else:
        plain_value = isinstance(value, (str, bytes, int, float, bool, type(None)))
        hashed.update((repr(value) if plain_value else type(value).__name__).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
