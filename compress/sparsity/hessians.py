"""What a layer's inputs say of its weights: their Gram matrix, and the factor of its inverse that SparseGPT reads.

Frantar and Alistarh 2023, section 3.
"""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor


class SingularHessian(ValueError):  # noqa: N818  the name says what is wrong
    """A Hessian has no inverse, whatever was added to its diagonal."""


class Hessian:
    """Sum of x x^T over a layer's input tokens, and of a part held out beside it.

    Attributes:
        gram: unnormalised sum, [C, C].
        tokens: how many were summed.
        held_out: the same of the rows held out; None where nothing is.
    """

    def __init__(self, columns: int, *, dtype: torch.dtype = torch.float32, held_out: float = 0.0) -> None:
        """Set up empty.

        Args:
            columns: C.
            dtype: of the sum; float32, or float64 for oracles.
            held_out: share of input rows (of leading index 0) that go to `held_out`: every n-th, n = 1 / share.
        """
        if not 0 <= held_out <= 0.5:
            raise ValueError(f"held_out is {held_out}; expected a share from 0 to 0.5")
        self.gram = torch.zeros(columns, columns, dtype=dtype)
        self.tokens = 0
        self.every = round(1 / held_out) if held_out else 0
        self.rows = 0
        self.held_out = Hessian(columns, dtype=dtype) if held_out else None

    @property
    def columns(self) -> int:
        """C."""
        return len(self.gram)

    @property
    def counted(self) -> int:
        """Tokens, those held out too."""
        return self.tokens + (self.held_out.tokens if self.held_out is not None else 0)

    def update(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Add inputs.

        Args:
            x: [..., C].
            mask: bool, the leading shape of x; tokens that are False add nothing and are not counted.

        Raises:
            ValueError: shapes differ, or an input that counts is not finite.
        """
        if x.shape[-1] != self.columns or (mask is not None and mask.shape != x.shape[:-1]):
            told = "" if mask is None else f" and a mask {tuple(mask.shape)}"
            raise ValueError(f"inputs {tuple(x.shape)}{told}; expected [..., {self.columns}] and a mask of [...]")
        if self.held_out is None or not self.every:
            self.add(x, mask)
            return
        row = (torch.arange(len(x), device=x.device) + self.rows) % self.every == self.every - 1
        self.rows += len(x)
        for part, taken in ((self, ~row), (self.held_out, row)):
            part.add(x[taken], None if mask is None else mask[taken])

    def add(self, x: Tensor, mask: Tensor | None) -> None:
        """Add inputs to this part alone."""
        x = x.detach().reshape(-1, self.columns) if mask is None else x.detach()[mask]
        if self.gram.device != x.device:
            self.gram = self.gram.to(x.device)
        x = x.to(self.gram.dtype)
        self.gram.addmm_(x.T, x)
        self.tokens += len(x)
        # The sum of squares tells of infinities and NaN without a look at every input.
        if len(x) and not torch.isfinite(torch.diagonal(self.gram)).all():
            raise ValueError("inputs are not finite; mend the model or the data")

    def merge(self, other: Self) -> None:
        """Add what another process summed.

        Raises:
            ValueError: it is of another layer, or one holds out and the other does not.
        """
        if self.columns != other.columns or (self.held_out is None) != (other.held_out is None):
            raise ValueError(f"Hessians of {self.columns} and {other.columns} columns; expected the same layer")
        self.gram += other.gram.to(self.gram.device)
        self.tokens += other.tokens
        if self.held_out is not None and other.held_out is not None:
            self.held_out.merge(other.held_out)

    def normalised(self) -> Tensor:
        """Return the mean of x x^T over tokens, [C, C].

        Raises:
            ValueError: no token was counted.
        """
        if not self.tokens:
            raise ValueError("no token is left after masking; give calibration data that reach the layer")
        return self.gram / self.tokens

    def everything(self) -> Self:
        """Return the sum over the rows held out too, in a Hessian that holds none out."""
        if self.held_out is None:
            return self
        found = type(self)(self.columns, dtype=self.gram.dtype)
        found.gram = self.gram + self.held_out.gram.to(self.gram.device)
        found.tokens = self.counted
        return found


class Factor(NamedTuple):
    """A damped Hessian and the factor of its inverse; layers with the same inputs share one.

    Attributes:
        hessian: damped, dead inputs set to 1, [C, C].
        upper: U with hessian^-1 = U^T U, upper triangular, [C, C].
        dead: bool [C]; inputs that are always 0.
        damping: added to the diagonal, as a share of its mean.
    """

    hessian: Tensor
    upper: Tensor
    dead: Tensor
    damping: float


def factor(hessian: Tensor, *, damping: float = 0.01, tries: int = 6, reference: bool = False) -> Factor:
    """Damp a Hessian and factor its inverse; damping grows tenfold until it can be, the last time in float64.

    U_ii^2 is the i-th diagonal of the inverse of the trailing Hessian, so that one factor serves every column.

    Args:
        hessian: symmetric, f32 or f64 [C, C]; left as it is.
        damping: first share of the mean diagonal that is added to the diagonal.
        tries: how often.
        reference: factor as the first implementation does, rounding for rounding.

    Raises:
        SingularHessian: none of them worked.
    """
    invert = inverse_factor_by_inverse if reference else inverse_factor
    hessian = hessian.clone()
    diagonal = torch.diagonal(hessian)
    dead = diagonal == 0
    diagonal[dead] = 1
    mean = torch.mean(diagonal)
    share = damping
    for number in range(tries):
        damped = hessian.clone()
        torch.diagonal(damped).add_(share * mean)
        wide = damped.double() if number == tries - 1 else damped
        upper = invert(wide)
        if upper is not None:
            return Factor(damped, upper.to(hessian.dtype), dead, share)
        share = 10 * share if share else 1e-4
    raise SingularHessian(
        f"the Hessian has no inverse, not even with {share / 10:g} of its mean diagonal added; give more, or other, "
        "calibration data"
    )


def damped_more(factor: Factor, times: float) -> Tensor:
    """Return a factor's Hessian with so many times its damping, [C, C]."""
    hessian = factor.hessian.clone()
    # The mean diagonal with damping is (1 + damping) times that without.
    mean = torch.diagonal(hessian).mean() / (1 + factor.damping)
    torch.diagonal(hessian).add_((times - 1) * factor.damping * mean)
    return hessian


def inverse_factor(hessian: Tensor) -> Tensor | None:
    """Return U with hessian^-1 = U^T U, or None where there is none that is finite.

    With rows and columns in reverse the Hessian is L L^T, and U is L^-1 in reverse: no inverse is formed and factored
    once more, which takes less time and rounds less.
    """
    lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    if failed or not torch.isfinite(torch.diagonal(lower)).all():
        return None
    upper = inverse_of_lower(lower).flip(0, 1)
    return upper if torch.isfinite(upper).all() else None


def inverse_of_lower(lower: Tensor, *, block: int = 256) -> Tensor:
    """Return the inverse of a lower triangle, halved until a block is small: nearly all of it is matrix products."""
    size = len(lower)
    if size <= block:
        one = torch.eye(size, dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, one, upper=False)
    half = size // 2
    found = torch.zeros_like(lower)
    found[:half, :half] = first = inverse_of_lower(lower[:half, :half], block=block)
    found[half:, half:] = second = inverse_of_lower(lower[half:, half:], block=block)
    found[half:, :half] = -second @ (lower[half:, :half] @ first)
    return found


def inverse_factor_by_inverse(hessian: Tensor) -> Tensor | None:
    """Return the same U by way of the inverse, as the first implementation does."""
    lower, failed = torch.linalg.cholesky_ex(hessian)
    if failed or not torch.isfinite(torch.diagonal(lower)).all():
        return None
    upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    return None if failed or not torch.isfinite(upper).all() else upper


def error(dense: Tensor, changed: Tensor, gram: Tensor) -> float:
    """Return ||X(W - W')^T||^2 / ||X W^T||^2 of inputs with this Gram matrix; 0 where both are 0.

    Args:
        dense: W [R, C].
        changed: W' [R, C].
        gram: [C, C], of any scale.
    """
    lost, whole = squared(dense - changed, gram), squared(dense, gram)
    return lost / whole if whole else (math.inf if lost else 0.0)


def squared(weight: Tensor, gram: Tensor) -> float:
    """Return tr(W G W^T)."""
    weight = weight.to(gram.dtype)
    return float(((weight @ gram) * weight).sum(dtype=torch.float64))
