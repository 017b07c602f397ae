"""One passage: cues between filler, near the beginning or past token 512."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipelines.documents.simulator.structure import FORMS, OPTIONS, Cue

WINDOW = 512
"""Tokens that a truncating reader sees."""
MEDIAN, SPREAD, LONGEST = 510, 0.7, 3_600
"""Tokens of MAUD's passages: half are up to 512, 82 % up to 1,024, 99 % up to 2,048; log-normal is near to that."""
SLACK = 4
"""Filler tokens a cue has at least, to lie here or there."""
DECOYS = 0.02
"""Share of filler words that are options after no key: the option words alone mean nothing, wherever they stand."""
STOP = "."
STOPS = 0.05
"""Share of filler that ends a sentence."""
WORDS = [
    "the",
    "of",
    "and",
    "or",
    "to",
    "any",
    "in",
    "by",
    "such",
    "with",
    "as",
    "for",
    "its",
    "on",
    "under",
    "this",
    "that",
    "agreement",
    "company",
    "parent",
    "merger",
    "party",
    "parties",
    "shall",
    "may",
    "will",
    "be",
    "is",
    "are",
    "has",
    "have",
    "been",
    "other",
    "each",
    "all",
    "subject",
    "prior",
    "after",
    "date",
    "time",
    "effective",
    "closing",
    "section",
    "set",
    "forth",
    "pursuant",
    "terms",
    "conditions",
    "provided",
    "however",
    "respect",
    "including",
    "without",
    "limitation",
    "material",
    "adverse",
    "effect",
    "change",
    "event",
    "circumstance",
    "board",
    "directors",
    "determination",
    "good",
    "faith",
    "counsel",
    "advice",
    "reasonable",
    "best",
    "efforts",
    "commercially",
    "consent",
    "written",
    "notice",
    "proposal",
    "acquisition",
    "superior",
    "offer",
    "recommendation",
    "termination",
    "fee",
    "expenses",
    "covenant",
    "breach",
    "representation",
    "warranty",
    "accurate",
    "correct",
    "law",
    "order",
    "governmental",
    "entity",
    "approval",
    "required",
    "filing",
    "antitrust",
    "clearance",
    "stock",
    "shares",
    "holders",
    "meeting",
    "vote",
    "per",
    "cash",
    "consideration",
    "exchange",
    "subsidiaries",
    "business",
    "ordinary",
    "course",
    "consistent",
    "past",
    "practice",
    "period",
    "days",
    "third",
    "person",
    "entered",
    "into",
    "intends",
    "obligations",
    "performed",
    "complied",
    "certificate",
    "officer",
    "signed",
    "behalf",
    "statement",
    "proxy",
    "registration",
    "financing",
    "equity",
    "debt",
    "amount",
    "value",
    "fair",
    "market",
    "price",
    "interest",
    "rate",
    "capital",
    "assets",
    "liabilities",
    "operations",
    "results",
    "condition",
    "financial",
    "taken",
    "whole",
    "industry",
    "general",
    "economic",
    "political",
    "changes",
    "war",
    "terrorism",
    "natural",
    "disaster",
    "pandemic",
    "disproportionate",
    "impact",
    "relative",
    "similarly",
    "situated",
    "knowledge",
    "actual",
    "inquiry",
    "employee",
    "benefit",
    "plan",
    "tax",
    "return",
]
FILLER = np.array([*WORDS, *OPTIONS, STOP])


class Passage(NamedTuple):
    """A text and where its cues are.

    Attributes:
        text: words and full stops with one space between, so that words split at spaces are its tokens.
        spans: first and last-plus-one character of each cue, in the order given.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


def cue_tokens(random: np.random.Generator, cue: Cue, stated: int) -> list[str]:
    """Return the words of a cue: the key, the option that holds, and the others, each behind the form's word.

    Whatever is stated, the same words stand there, each as often: what is told is told by their order alone, and it
    can be picked up from two neighbours, the key and what comes after it. That keeps it within reach of a small
    reader, while nothing that counts words can see it.
    """
    options = OPTIONS[: len(cue.prior)]
    others = random.permutation(len(options) - 1)
    left = options[:stated] + options[stated + 1 :]
    behind = [token for at in others for token in (FORMS[cue.form], left[at])]
    return [cue.key, options[stated], *behind, STOP]


def write(
    random: np.random.Generator, cues: Sequence[Cue], stated: Sequence[int], *, far: bool, tokens: int
) -> Passage:
    """Return a passage.

    What is stated changes no draw: only the order of words inside the cues hangs on it.

    Args:
        random: of this passage.
        cues: of the tasks that it answers, at most what fits into WINDOW tokens.
        stated: the option that each cue states.
        far: whether all cues come after token 512, or all within it.
        tokens: its length, made longer where the cues need it.
    """
    said = [cue_tokens(random, cue, option) for cue, option in zip(cues, stated, strict=True)]
    taken = sum(len(part) for part in said)
    # A reader keeps two of its 512 tokens for itself.
    room = WINDOW - 2 - taken
    if not far and room < 0:
        raise ValueError(f"cues of {taken} tokens; expected at most {WINDOW - 2}: ask fewer questions of one passage")
    lead = WINDOW + 1
    size = max(tokens - taken, SLACK * (1 + len(said)) + (lead if far else 0))
    filler = fill(random, size)
    first, last = (lead, size) if far else (0, min(size, room))
    places = np.sort(random.integers(first, last + 1, size=len(said)))
    order = random.permutation(len(said))
    pieces: list[str] = []
    begun = 0
    at: dict[int, tuple[int, int]] = {}
    for place, which in zip(places, order, strict=True):
        pieces += filler[begun:place]
        at[int(which)] = (len(pieces), len(pieces) + len(said[which]))
        pieces += said[which]
        begun = place
    pieces += filler[begun:]
    ends = np.cumsum([len(piece) + 1 for piece in pieces])
    starts = ends - [len(piece) + 1 for piece in pieces]
    spans = tuple((int(starts[at[which][0]]), int(ends[at[which][1] - 1]) - 1) for which in range(len(said)))
    return Passage(" ".join(pieces), spans)


def fill(random: np.random.Generator, size: int) -> list[str]:
    """Return words that mean nothing, in sentences, with decoys among them."""
    chance = random.random(size)
    drawn = random.integers(len(WORDS), size=size)
    decoy = len(WORDS) + random.integers(len(OPTIONS), size=size)
    token = np.where(chance < STOPS, len(FILLER) - 1, np.where(chance < STOPS + DECOYS, decoy, drawn))
    return FILLER[token].tolist()


def draw_length(random: np.random.Generator, scale: float, *, far: bool) -> int:
    """Return the tokens of a passage: of the longer half of MAUD's for far cues, else of the shorter."""
    away = SPREAD * abs(random.normal())
    return max(12, int(scale * min(LONGEST, MEDIAN * np.exp(away if far else -away))))
