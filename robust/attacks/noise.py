"""Random noise of the full radius: what every attack has to beat (torch)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robust.aims import Forward, Target, checked, judge_of
from robust.draws import Draws
from robust.examples import Examples
from robust.threats import Threat


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The worst of several draws of noise; an attack that does less is broken."""

    tries: int = 10
    """Draws, 1 or more."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        if self.tries < 1:
            raise ValueError(f"noise.tries is {self.tries}; expected 1 or more")

    @property
    def forwards(self) -> int:
        """How often the network is asked about an example."""
        return self.tries + 1

    @torch.no_grad()
    def perturb(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Tensor:
        """Return for each example the draw with the largest margin, or x itself where no draw raises it."""
        threat.check(x)
        found = x.detach().clone()
        if not examples.number or threat.epsilon == 0:
            return found
        judge = judge_of("margin", target, examples)
        best = judge(checked(forward(found)))
        for number in range(self.tries):
            tried = threat.edge(x.detach(), examples, draws.fork(number))
            gain = judge(checked(forward(tried)))
            better = gain > best
            best = torch.where(better, gain, best)
            found = torch.where(examples.spread(better, x), tried, found)
        return found
