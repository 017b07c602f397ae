"""When a network under training is penalised, pruned, drawn to three values a row, and held there (torch).

Reconstructions from the abstracts of arXiv 2212.12653 (HypersphericalQuantisation), 2212.12651 (RecoverablePruning) and
2212.12649 (LossAwareTernary); no equations and no code were at hand. Every term can be switched off. A schedule keeps
no state: what it does follows from the step, masks stand in the layers' buffers, so a resumed run goes on exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from compress.hyperspherical import penalties
from compress.hyperspherical.layer import Sphere, convert, held, nearest, renormalise


class Schedule(Protocol):
    """What happens to layers while a network is trained."""

    def settled(self) -> float:
        """Share of the steps after which the form is final."""
        ...

    def begin(self, layers: Mapping[str, nn.Module]) -> None:
        """Convert the layers."""
        ...

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Set the layers for the step that comes, 0 to steps - 1."""
        ...

    def penalty(self, model: nn.Module, step: int, steps: int) -> Tensor:
        """Return what is added to the loss, after the forward pass."""
        ...

    def after_step(self, model: nn.Module, step: int, steps: int) -> bool:
        """Mend the layers behind a step; True where the optimizer has to forget its moments."""
        ...


def shares(**named: float) -> None:
    """Refuse settings outside 0 to 1."""
    for name, value in named.items():
        if not 0 <= value <= 1:
            raise ValueError(f"schedule.{name} is {value}; expected 0 to 1")


@dataclass(frozen=True, kw_only=True)
class LossAwareTernary:
    """A penalty draws directions to their ternary form, then that form is used (HLATQ) [reconstruction]."""

    penalty_weight: float = 0.1
    """Of the cosine distance, summed over layers; 0: none."""
    drawing: float = 0.3
    """Share of the steps before the forward pass is ternary; the penalty grows over them and is half behind them."""
    rescale: bool = True
    """Let the gradient pass mostly where a weight is about to enter or leave the support."""
    floor: float = 0.1
    """What passes at least."""
    temperature: float = 8.0
    """How narrow that becomes, from 1 on."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        shares(drawing=self.drawing, floor=self.floor)
        if self.penalty_weight < 0 or self.temperature < 1:
            raise ValueError(
                f"schedule.penalty_weight and temperature are {self.penalty_weight} and {self.temperature}; "
                "expected 0 and 1 or more"
            )

    def settled(self) -> float:
        """Share of the steps after which the form is final."""
        return self.drawing

    def begin(self, layers: Mapping[str, nn.Module]) -> None:
        """Convert the layers."""
        convert(layers)

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Use the ternary form behind the first stage, with a rate that narrows."""
        ternary = step >= self.drawing * steps
        penalties.watch(model, "distance" if self.penalty_weight else None)
        done = max(0.0, step / steps - self.drawing) / max(1 - self.drawing, 1 / steps)
        for sphere in spheres(model):
            sphere.mode = "ternary" if ternary else "dense"
            sphere.floor = self.floor
            sphere.rescale = 1 + (self.temperature - 1) * done if ternary and self.rescale else None

    def penalty(self, model: nn.Module, step: int, steps: int) -> Tensor:
        """Return the weighted distance."""
        if not self.penalty_weight:
            return torch.zeros(())
        first = self.drawing * steps
        weight = step / first if step < first else 0.5
        return self.penalty_weight * weight * penalties.noted(model)

    def after_step(self, model: nn.Module, step: int, steps: int) -> bool:
        """Return to the sphere; the moments of the dense stage say little of the ternary one."""
        renormalise(model)
        return step < self.drawing * steps <= step + 1


@dataclass(frozen=True, kw_only=True)
class HypersphericalQuantisation:
    """Prune on the sphere little by little, begin anew between pruned and ternary, train ternary (HQ) [reconstruction].

    The share pruned follows s (1 - (1 - t / T)^3) (Zhu and Gupta 2017).
    """

    sparsity: float = 0.5
    """Share of each row that is pruned in the end; more makes smaller files."""
    pruning_from: float = 0.05
    """Share of the steps on the sphere before pruning begins."""
    ternary_from: float = 0.4
    """Share of the steps at which pruning ends and the forward pass becomes ternary."""
    every: int = 10
    """Steps from one pruning to the next."""
    towards: float = 0.5
    """How far kept weights start anew towards their ternary form, 0 (not at all) to 1."""
    lengths_frozen: float = 0.1
    """Share of the steps, the last ones, in which lengths stay."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        shares(
            sparsity=self.sparsity,
            pruning_from=self.pruning_from,
            ternary_from=self.ternary_from,
            towards=self.towards,
            lengths_frozen=self.lengths_frozen,
        )
        if self.every < 1 or self.pruning_from > self.ternary_from or self.sparsity == 1:
            raise ValueError(
                f"schedule.every, pruning_from, ternary_from and sparsity are {self.every}, {self.pruning_from}, "
                f"{self.ternary_from} and {self.sparsity}; expected 1 or more, the first share no later than the "
                "second, and below 1"
            )

    def settled(self) -> float:
        """Share of the steps after which the form is final."""
        return self.ternary_from

    def begin(self, layers: Mapping[str, nn.Module]) -> None:
        """Convert the layers."""
        convert(layers)

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Use the ternary form behind the pruning, and hold the lengths at the end."""
        frozen = step >= (1 - self.lengths_frozen) * steps
        for _, layer in held(model):
            layer.weights.mode = "ternary" if step >= self.ternary_from * steps else "dense"
            layer.originals[1].requires_grad_(not frozen)

    def penalty(self, model: nn.Module, step: int, steps: int) -> Tensor:  # noqa: ARG002  as the protocol has it
        """Return 0: nothing is added to the loss."""
        return torch.zeros(())

    def share(self, step: int, steps: int) -> float:
        """Return the share of a row that is pruned behind a step."""
        first, last = self.pruning_from * steps, self.ternary_from * steps
        done = min(1.0, max(0.0, (step + 1 - first) / max(last - first, 1)))
        return self.sparsity * (1 - (1 - done) ** 3)

    def after_step(self, model: nn.Module, step: int, steps: int) -> bool:
        """Return to the sphere, prune where it is time, begin anew where pruning ends."""
        renormalise(model)
        ends = step < self.ternary_from * steps <= step + 1
        pruning = self.pruning_from * steps <= step + 1 <= self.ternary_from * steps
        if self.sparsity and (ends or (pruning and step % self.every == 0)):
            prune(model, self.sparsity if ends else self.share(step, steps))
            renormalise(model)
        if ends and self.towards:
            reinitialise(model, self.towards)
        return ends


@dataclass(frozen=True, kw_only=True)
class RecoverablePruning:
    """Rows keep what they say in few entries, so that pruning needs no training afterwards [reconstruction].

    The loss gains E_i = sum of v_ij^2 over the smallest entries, whose square root bounds what pruning changes of the
    row's product with any input of length 1.
    """

    penalty_weight: float = 1.0
    """Of E, summed over layers; 0: a control that is trained as long."""
    pruned: tuple[float, ...] = (0.5, 0.7, 0.9)
    """Shares of a row that the penalty counts as about to be pruned, one after the other, step by step."""
    ramp: float = 0.5
    """Share of the steps over which the penalty grows."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        shares(ramp=self.ramp, **{f"pruned {at}": value for at, value in enumerate(self.pruned)})
        if self.penalty_weight < 0 or not self.pruned:
            raise ValueError(f"schedule.penalty_weight is {self.penalty_weight}, pruned {self.pruned}; expected some")

    def settled(self) -> float:
        """Share of the steps after which the form is final."""
        return self.ramp

    def begin(self, layers: Mapping[str, nn.Module]) -> None:
        """Convert the layers."""
        convert(layers)

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:  # noqa: ARG002  as the protocol has it
        """Say which share is about to be pruned."""
        penalties.watch(model, float(self.pruned[step % len(self.pruned)]) if self.penalty_weight else None)

    def penalty(self, model: nn.Module, step: int, steps: int) -> Tensor:
        """Return the weighted rest."""
        if not self.penalty_weight:
            return torch.zeros(())
        ramp = min(1.0, (step + 1) / max(self.ramp * steps, 1))
        return self.penalty_weight * ramp * penalties.noted(model)

    def after_step(self, model: nn.Module, step: int, steps: int) -> bool:  # noqa: ARG002  as the protocol has it
        """Return to the sphere."""
        renormalise(model)
        return False


def spheres(model: nn.Module) -> list[Sphere]:
    """Return what computes the weights of the layers on the sphere."""
    return [layer.weights for _, layer in held(model) if isinstance(layer.weights, Sphere)]


def prune(model: nn.Module, share: float) -> None:
    """Prune the smallest entries of each row, down to a share of zeros; what was pruned stays so."""
    for _, layer in held(model):
        columns = layer.originals[0].shape[1]
        layer.weights.prune(layer.originals[0], max(1, columns - round(share * columns)))


@torch.no_grad()
def reinitialise(model: nn.Module, towards: float) -> None:
    """Move directions v to (1 - b) v + b v^, of length 1, with v^ their ternary form and b 0 to 1."""
    for _, layer in held(model):
        unit = layer.weights.unit(layer.originals[0])
        layer.originals[0].copy_(layer.weights.unit((1 - towards) * unit + towards * nearest(unit).hard))
