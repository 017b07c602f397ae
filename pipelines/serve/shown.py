"""Cards that were shown, by what each was about, until somebody says what became of them."""

from collections import OrderedDict

MOST = 100_000
UNKNOWN = "unknown"


class Shown:
    """The latest cards: their ids and the outcome that each was about. Nothing of a patient is kept."""

    def __init__(self, most: int = MOST) -> None:
        """Set up.

        Args:
            most: cards that are remembered; of older ones nothing is known any more.
        """
        self.most = most
        self._held: OrderedDict[str, str] = OrderedDict()

    def add(self, card: str, outcome: str) -> None:
        """Remember a card."""
        self._held[card.lower()] = outcome
        if len(self._held) > self.most:
            self._held.popitem(last=False)

    def about(self, card: str) -> str:
        """Return what a card was about; `unknown` where this server, since it started, did not show it."""
        return self._held.get(card.lower(), UNKNOWN)
