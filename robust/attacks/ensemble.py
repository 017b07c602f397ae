"""The worst of several attacks, with a record for each example and alarms against attacks that fail (torch)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robust.aims import Forward, Target, broken
from robust.attacks.apgd import Apgd
from robust.attacks.gradient import Pgd
from robust.attacks.noise import Noise
from robust.attacks.protocol import Attack
from robust.attacks.square import Square
from robust.draws import Draws
from robust.examples import Examples, apart
from robust.threats import Threat

BEFORE, UNBROKEN = -2, -1
BLACK_BOXES = (Square, Noise)


def quick() -> dict[str, Attack]:
    """Return attacks for every day: PGD-20 from three starts, APGD-50 on the margin, Square with 500 questions."""
    return {"pgd": Pgd(steps=20, restarts=3), "apgd": Apgd(steps=50), "square": Square(queries=500)}


def full() -> dict[str, Attack]:
    """Return attacks for a report: APGD-100 on the loss and on the margin from five starts, Square with 5,000."""
    return {
        "apgd-cross-entropy": Apgd(steps=100, aim="cross_entropy"),
        "apgd-margin": Apgd(steps=100, restarts=5),
        "square": Square(queries=5000),
    }


class Record(NamedTuple):
    """What became of each example.

    Attributes:
        x: moved inputs; x itself where no attack succeeded, [R, ...].
        broken_by: number of the attack that broke it, -1 where none did, -2 where it was wrong before, i64 [B].
        forwards: questions to the network about it, at most, i64 [B].
    """

    x: Tensor
    broken_by: Tensor
    forwards: Tensor

    @property
    def clean(self) -> float:
        """Share of the examples that are right before any attack, 0 to 1; NaN without any."""
        return float((self.broken_by != BEFORE).double().mean())

    @property
    def robust(self) -> float:
        """Share of the examples that no attack breaks, 0 to 1; NaN without any."""
        return float((self.broken_by == UNBROKEN).double().mean())


@dataclass(frozen=True)
class Ensemble:
    """Attacks in turn; each goes on with what the ones before left unbroken."""

    members: Mapping[str, Attack]
    """By name, in the order in which they run."""

    def __post_init__(self) -> None:
        """Refuse an ensemble of none."""
        if not self.members:
            raise ValueError("ensemble.members is empty; expected at least one attack")

    @property
    def forwards(self) -> int:
        """How often the network is asked about an example, at most."""
        return 1 + sum(member.forwards for member in self.members.values())

    def perturb(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Tensor:
        """Return moved inputs: what broke each example, x itself where nothing did."""
        return self.run(forward, x, target, threat=threat, examples=examples, draws=draws).x

    def run(
        self, forward: Forward, x: Tensor, target: Target, *, threat: Threat, examples: Examples, draws: Draws
    ) -> Record:
        """Attack, and keep a record for each example.

        Examples that stand apart are taken alone once others are broken, so that `forward` must answer for any rows;
        packed ones go on with their neighbours, and what had broken them is kept.
        """
        threat.check(x)
        wrong = broken(forward, x, target, examples)
        record = Record(x.detach().clone(), torch.where(wrong, BEFORE, UNBROKEN), torch.ones_like(wrong).long())
        for number, attack in enumerate(self.members.values()):
            left = torch.nonzero(record.broken_by == UNBROKEN)[:, 0]
            if not len(left):
                break
            own, asked, rows = (
                (target.take(left), examples.take(left), left) if examples.apart else (target, examples, slice(None))
            )
            start = x.detach()[rows]
            moved = attack.perturb(forward, start, own, threat=threat, examples=asked, draws=draws.fork(number))
            fell = broken(forward, moved, own, asked)
            if not examples.apart:
                fell = fell[left]
            record = added(record, moved, left, fell, number, attack.forwards, examples)
        return record

    def alarms(self, forward: Forward, x: Tensor, target: Target, *, threat: Threat) -> list[str]:
        """Return why what it finds on examples that stand apart is not to be trusted; empty where nothing says so.

        Each member is run anew on all examples: on what it is given after others it cannot be compared.
        """
        examples = apart(x)

        def success(attack: Attack) -> float:
            moved = attack.perturb(forward, x, target, threat=threat, examples=examples, draws=Draws(0))
            return float(broken(forward, moved, target, examples).double().mean())

        found = {name: success(member) for name, member in self.members.items()}
        noise = success(Noise())
        alarms = [
            f"{name} breaks {100 * share:.1f} % of the examples, random noise of the same size {100 * noise:.1f} %"
            for name, share in found.items()
            if share < noise
        ]
        black = {name: share for name, share in found.items() if isinstance(self.members[name], BLACK_BOXES)}
        white = {name: share for name, share in found.items() if name not in black}
        if black and white and max(black.values()) > max(white.values()):
            alarms.append(
                f"{max(black, key=black.__getitem__)} breaks more without gradients than any attack with them: "
                "gradients are masked"
            )
        return alarms


def added(
    record: Record, moved: Tensor, left: Tensor, fell: Tensor, number: int, forwards: int, examples: Examples
) -> Record:
    """Return the record after an attack on the examples `left`, of which some fell, bool [len(left)]."""
    broken_by, asked = record.broken_by.clone(), record.forwards.clone()
    broken_by[left[fell]] = number
    asked[left] += forwards + 1
    if examples.apart:
        x = record.x.clone()
        x[left[fell]] = moved[fell]
    else:
        x = torch.where(examples.spread(broken_by == number, moved), moved, record.x)
    return Record(x, broken_by, asked)
