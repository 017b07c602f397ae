"""Settings of one-shot pruning."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["sparsegpt", "wanda", "wanda+refit", "magnitude"]


@dataclass(frozen=True, kw_only=True)
class SparseGPT:
    """How weights are chosen, and what is done for those that stay."""

    method: Method = "sparsegpt"
    """sparsegpt; or, as something to compare with, wanda, wanda+refit, magnitude."""
    sparsity: float = 0.5
    """Share of the weights of each layer that become 0, 0 to 1; ignored with a pattern."""
    pattern: str | None = None
    """n:m keeps n of every m weights in a row (2:4, 4:8)."""
    tail: Literal["error", "dense"] = "error"
    """What becomes of columns that fill no group of m: an error, or they stay dense."""
    mask_block: int = 128
    """Columns whose mask is chosen at once; with a pattern, m at a time."""
    update_block: int = 64
    """Columns after which the rest of the matrix is updated; of these two, one divides the other."""
    damping: float = 0.01
    """Added to the diagonal of the Hessian, as a share of its mean."""
    damping_tries: int = 6
    """How often a Hessian without an inverse is damped ten times more."""
    threshold: Literal["exact", "reference"] = "exact"
    """exact: the number asked for; reference: the first implementation's rule, which takes one more and all ties."""
    bits: int | None = None
    """Joint quantisation of what stays to so many bits, 2 to 8, on a grid by row."""
    grid: Literal["minmax", "mse"] = "minmax"
    """The grid: a row's whole range, or the range with the least error."""
    refit_steps: int = 20
    """Steps of conjugate gradients on the weights that stay; 0 leaves them as SparseGPT did."""
    held_out: float = 0.1
    """Share of the calibration rows on which the number of these steps is chosen; then all rows are refitted on."""
    allocation: Literal["uniform", "owl"] = "uniform"
    """The same sparsity for each layer, or less for layers with many outliers."""
    propagate: Literal["replay", "dense"] = "replay"
    """replay: each block is calibrated behind pruned ones; dense: all at once behind dense ones, in one pass."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        for name in ("method", "tail", "threshold", "grid", "allocation", "propagate"):
            known = get_args(Method if name == "method" else SparseGPT.__annotations__[name])
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)}; expected one of {', '.join(known)}")
        if not 0 <= self.sparsity <= 1 or (self.threshold == "reference" and self.sparsity == 1):
            raise ValueError(f"sparsity is {self.sparsity}; expected 0 to 1 (below 1 with threshold: reference)")
        large, small = max(self.mask_block, self.update_block), min(self.mask_block, self.update_block)
        if small < 1 or (self.pattern is None and large % small):
            raise ValueError(f"mask_block and update_block are {large} and {small}; expected one to divide the other")
        if self.pattern is not None and self.update_block % self.groups[1]:  # pyright: ignore[reportOptionalSubscript]
            raise ValueError(f"update_block is {self.update_block}; expected a multiple of the m of {self.pattern}")
        if self.bits is not None and not (2 <= self.bits <= 8 and self.method == "sparsegpt"):
            raise ValueError(f"bits is {self.bits} with {self.method}; expected 2 to 8 with sparsegpt")
        if self.damping < 0 or self.damping_tries < 1 or self.refit_steps < 0 or not 0 <= self.held_out <= 0.5:
            raise ValueError("expected damping and refit_steps from 0 on, damping_tries from 1 on, held_out 0 to 0.5")
        if self.pattern is not None and self.allocation == "owl":
            raise ValueError(f"allocation is owl with the pattern {self.pattern}, which fixes every layer's share")

    @property
    def groups(self) -> tuple[int, int] | None:
        """The pattern as two numbers, n and m.

        Raises:
            ValueError: it is no pattern.
        """
        if self.pattern is None:
            return None
        match = re.fullmatch(r"(\d+):(\d+)", self.pattern)
        if not match or not 0 < int(match[1]) <= int(match[2]):
            raise ValueError(f"pattern is {self.pattern}; expected n:m with 0 < n <= m, such as 2:4")
        return int(match[1]), int(match[2])
