"""What an attack is (torch)."""

from typing import Protocol

from torch import Tensor

from robust.aims import Forward, Target
from robust.draws import Draws
from robust.examples import Examples
from robust.threats import Threat


class Attack(Protocol):
    """Moves inputs within a threat so that answers turn wrong; chosen by class_path."""

    @property
    def forwards(self) -> int:
        """How often the network is asked about an example, at most."""
        ...

    def perturb(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Tensor:
        """Return moved inputs of the shape of x, without gradient.

        Args:
            forward: inputs -> logits; the caller holds the network still (robust.stillness).
            x: inputs inside the bounds of the threat.
            target: what the answers should be.
            threat: how far each example may be moved.
            examples: which parts of x belong together.
            draws: by which it is random.
        """
        ...
