"""Which weights of a module are compressed, and each of them as one matrix [rows, columns]."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = "@blocks"
DEFAULT: tuple[str, ...] = (BLOCKS,)
"""Linear maps and convolutions inside blocks. Norms, embeddings, what stands outside the blocks (output heads among
it) and weights shared with an embedding stay as they are."""
LINEAR, CONV1D, CONV2D, EMBEDDING = "linear", "conv1d", "conv2d", "embedding"


def kind(module: nn.Module) -> str | None:
    """Return linear, conv1d, conv2d or embedding; None for a module without a matrix of weights.

    `conv1d` is the transposed linear layer of Hugging Face's GPT-2, known by its name so that transformers is not
    imported. Grouped convolutions are block-diagonal and have no kind.
    """
    if isinstance(module, nn.Linear):
        return LINEAR
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
        return CONV1D
    if isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
        return CONV2D
    return EMBEDDING if isinstance(module, nn.Embedding) else None


def as_matrix(module: nn.Module) -> Tensor:
    """Return the weights as [rows, columns], detached: a row an output (of an embedding: a token).

    Shares memory with the module except for a Conv1D; write with `set_matrix`.

    Raises:
        ValueError: the module has no matrix of weights.
    """
    found, weight = kind(module), getattr(module, "weight", None)
    if found is None or not isinstance(weight, Tensor):
        raise ValueError(
            f"{type(module).__name__}: has no matrix of weights; expected Linear, Conv1D, Conv2d, Embedding"
        )
    weight = weight.detach()
    return weight.T.contiguous() if found == CONV1D else weight.flatten(1)


def set_matrix(module: nn.Module, matrix: Tensor) -> None:
    """Write [rows, columns] into the module's weights, in their own shape, dtype and device."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    shaped = matrix.T if kind(module) == CONV1D else matrix.reshape(weight.shape)
    with torch.no_grad():
        weight.copy_(shaped)


def columns_of(module: nn.Module, x: Tensor) -> Tensor:
    """Return what the rows of the module's matrix are multiplied with, [..., columns].

    Args:
        module: of kind linear, conv1d or conv2d.
        x: the module's input; of a Conv2d [B, channels, height, width], whose patches become [B, places, columns].

    Raises:
        ValueError: an embedding, which picks rows and multiplies nothing.
    """
    found = kind(module)
    if found == CONV2D:
        assert isinstance(module, nn.Conv2d)
        padding = module.padding
        if isinstance(padding, str):
            total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
            if padding == "same":
                (top, left) = (side // 2 for side in total)
                x = functional.pad(x, (left, total[1] - left, top, total[0] - top))
            padding = (0, 0)
        patches = functional.unfold(x, module.kernel_size, module.dilation, padding, module.stride)
        return patches.transpose(1, 2)
    if found not in (LINEAR, CONV1D):
        raise ValueError(f"{type(module).__name__}: multiplies no input; choose Linear, Conv1D or Conv2d layers")
    return x


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the repeated parts of a model by name: children of its outermost ModuleLists, in order of definition."""
    found: dict[str, nn.Module] = {}
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in model.named_modules():
        parent = name.rpartition(".")[0]
        if parent in lists and not any(name.startswith(f"{other}.") for other in found):
            found[name] = module
    return found


def find(model: nn.Module, layers: Sequence[str] = DEFAULT) -> dict[str, nn.Module]:
    """Return the layers chosen, by name, in order of definition; a module under two names once.

    Args:
        model: any module.
        layers: shell patterns over names; `@blocks` stands for the linear maps and convolutions inside blocks (of a
            model without blocks: for all but the last); a pattern after `!` takes layers away. Embeddings are taken
            only by a pattern without wildcards at its end, such as `embedding` or `*.embedding`, never by `*`.

    Raises:
        ValueError: a pattern fits no layer, or all are taken away.
    """
    known = dict(matrices(model))
    chosen: set[str] = set()
    for pattern in layers:
        taken = pattern.removeprefix("!")
        fitting = in_blocks(model, known) if taken == BLOCKS else matching(known, taken)
        if not fitting:
            raise ValueError(unknown(taken, list(known)))
        chosen = chosen - fitting if pattern.startswith("!") else chosen | fitting
    if not chosen:
        raise ValueError(f"layers {', '.join(layers)}: choose nothing; take a pattern after ! away")
    return {name: module for name, module in known.items() if name in chosen}


def matrices(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module with a matrix of weights; of several that share one parameter the first alone."""
    seen: set[int] = set()
    # An embedding first, wherever it is defined: a head tied to it is the embedding's.
    held = [(name, module) for name, module in model.named_modules() if kind(module)]
    tied = {id(module.weight) for _, module in held if kind(module) == EMBEDDING}
    for name, module in held:
        key = id(module.weight)
        if key not in seen and not (key in tied and kind(module) != EMBEDDING):
            seen.add(key)
            yield name, module


def in_blocks(model: nn.Module, known: dict[str, nn.Module]) -> set[str]:
    """Return the names of linear maps and convolutions inside blocks; without blocks, of all but the last."""
    maps = [name for name, module in known.items() if kind(module) != EMBEDDING]
    inside = tuple(f"{name}." for name in blocks(model))
    found = {name for name in maps if name.startswith(inside) or f"{name}." in inside}
    return found or set(maps[:-1] or maps)


def matching(known: dict[str, nn.Module], pattern: str) -> set[str]:
    """Return the names that fit a pattern; an embedding has to be named."""
    wild = pattern.endswith("*")
    fitting = {name for name in known if fnmatchcase(name, pattern)}
    return {name for name in fitting if not (wild and kind(known[name]) == EMBEDDING)}


def unknown(pattern: str, known: list[str]) -> str:
    """Return what to say of a pattern that fits nothing: the nearest names."""
    near = get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
    return f"layers: {pattern} fits no layer; nearest: {', '.join(near) or 'none, the model has no matrix of weights'}"
