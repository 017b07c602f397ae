"""What may follow what in a generated future: kinds of tokens, and time tokens that move the clock.  NumPy only.

A future is a row of ids: codes of the vocabulary, 0 .. V-1, and time tokens, V .. V+G-1. A time token closes a visit
and says how long after its opening the next one opens.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.codes import match
from ehr.events import DEATH
from ehr.vocabulary import MASK, Vocabulary

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
IMPOSSIBLE, CODE, OPENS, CLOSES, ENDS = range(5)
TIME_BINS = 64
UPPER_DAYS = np.geomspace(1 / 24, 40 * 365.25, TIME_BINS)
"""Upper edges of the bins of a gap: an hour to 40 years, each a fifth wider than the one before."""
LOWER_DAYS = np.concatenate([[1 / 96], UPPER_DAYS[:-1]])


class Grammar(NamedTuple):
    """Rules by token id.

    Attributes:
        kind: IMPOSSIBLE (special tokens, statics, and what no visit of the training records holds), CODE, OPENS (an
            encounter's start, which comes first in its visit), CLOSES (its end, which needs an open one), ENDS
            (death, after which nothing comes), i64 [V].
        partner: of tokens that open or close, the number of the type of encounter; else -1, i64 [V].
    """

    kind: Ints
    partner: Ints

    @property
    def types(self) -> int:
        """Number of types of encounters."""
        return int(self.partner.max(initial=-1)) + 1


def grammar(vocabulary: Vocabulary, dated: Bools) -> Grammar:
    """Derive the rules.

    Args:
        vocabulary: of the records.
        dated: whether a token stands in a visit of the training records, bool [V].
    """
    codes = vocabulary.codes
    kind = np.where(dated, CODE, IMPOSSIBLE)
    kind[: MASK + 1] = IMPOSSIBLE
    partner = np.full(vocabulary.size, -1, dtype=np.int64)
    numbers: dict[str, int] = {}
    for pattern, role in (("VISIT//*//START", OPENS), ("VISIT//*//END", CLOSES)):
        for at in np.flatnonzero(match(codes, (pattern,))).tolist():
            if kind[at] == CODE:
                kind[at] = role
                partner[at] = numbers.setdefault(codes[at].rpartition("//")[0], len(numbers))
    kind[np.array(match(codes, (DEATH,))) & (kind == CODE)] = ENDS
    return Grammar(kind.astype(np.int64), partner)


def time_bin(gap_days: npt.NDArray[np.floating]) -> Ints:
    """Return the bin of gaps between the openings of visits, 0 .. G-1; longer gaps than 40 years are the last."""
    return np.minimum(np.searchsorted(UPPER_DAYS, gap_days), TIME_BINS - 1).astype(np.int64)
