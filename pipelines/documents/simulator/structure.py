"""What MAUD asks, without its words: text types, questions, options, and how common each answer is."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.documents.catalogue import Catalogue, Question, checked
from pipelines.documents.schema import OTHER

Floats = npt.NDArray[np.float64]
RAREST = 0.02
"""The least common answer of a question with many options."""
OPTIONS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
    "digamma",
    "koppa",
]
"""The word of option k, the same for every question: a question's options share their words with all others'."""
FORMS = {"order": "before", "negation": "not", "scope": "elsewhere"}
"""How the options of a question differ, with the word that stands before those that do not hold."""


class Kind(NamedTuple):
    """One text type.

    Attributes:
        category: of its questions.
        text_type: its name.
        binary: questions of two options.
        options: options of its other questions, one number each.
        multi: sub-questions of each question with several answers.
    """

    category: str
    text_type: str
    binary: int
    options: tuple[int, ...] = ()
    multi: tuple[int, ...] = ()


# Categories, text types a category, questions with several answers and their sub-questions are MAUD's. Of its 144
# tasks 62 are sub-questions, binary by their making, so that the 60 binary tasks that audits count are read as binary
# questions among the other 82. Option counts of 16 of the remaining 22 are those of LegalBench's task pages; the other
# six are chosen, up to the 26 that audits found.
WHOLE = (
    Kind("General", "consideration", 0, (4,)),
    Kind("Conditions", "accuracy", 2, (3, 4, 3), (14, 4)),
    Kind("Conditions", "covenants", 1),
    Kind("Conditions", "litigation", 1),
    Kind("Material Adverse Effect", "adverse effect", 30, (26, 12, 5, 3), (3, 4, 5, 5, 7)),
    Kind("Knowledge", "knowledge", 3),
    Kind("Operating & Efforts", "ordinary course", 3, (3,)),
    Kind("Operating & Efforts", "interim covenants", 2),
    Kind("Operating & Efforts", "antitrust", 1, (3,)),
    Kind("Deal Protection", "no shop", 2, (3,)),
    Kind("Deal Protection", "fiduciary exception", 1, (9,)),
    Kind("Deal Protection", "recommendation change", 2, (9, 10), (6,)),
    Kind("Deal Protection", "matching after change", 1, (7,)),
    Kind("Deal Protection", "superior offer", 1, (4, 4)),
    Kind("Deal Protection", "intervening event", 2, (4,)),
    Kind("Deal Protection", "termination triggers", 1),
    Kind("Deal Protection", "termination limits", 2, (), (4,)),
    Kind("Deal Protection", "matching after termination", 1, (8,)),
    Kind("Deal Protection", "tail period", 1, (5, 6), (10,)),
    Kind("Deal Protection", "breach of no shop", 1, (3,)),
    Kind("Deal Protection", "breach of meeting", 1),
    Kind("Remedies", "specific performance", 1),
)
SMALL = (
    Kind("General", "consideration", 0, (3,)),
    Kind("Conditions", "accuracy", 1, (), (2,)),
    Kind("Knowledge", "knowledge", 2),
)
"""Enough for a test: 5 questions, 6 tasks."""
CUTS = {"whole": WHOLE, "small": SMALL}


@dataclass(frozen=True, kw_only=True)
class Cue:
    """How a passage tells the answer of one task: its key word, then the option that holds, then the others."""

    id: str
    """Of the task."""
    key: str
    """A word that stands nowhere else."""
    form: str
    """One of FORMS."""
    prior: tuple[float, ...]
    """How common each option is; sums to 1."""

    @property
    def length(self) -> int:
        """Tokens of the cue with its full stop."""
        return 2 * len(self.prior) + 1


class Structure(NamedTuple):
    """A catalogue and the cue of each of its tasks, in order."""

    catalogue: Catalogue
    cues: tuple[Cue, ...]


def structure(cut: str = "whole") -> Structure:
    """Return questions and cues: the same in every call, so that two cohorts ask the same.

    Args:
        cut: whole (22 text types, 92 questions, 144 tasks) or small (3, 5 and 6).

    Raises:
        ValueError: another cut.
    """
    if cut not in CUTS:
        raise ValueError(f"cut is {cut}; expected one of {', '.join(CUTS)}")
    questions: list[Question] = []
    for kind in CUTS[cut]:
        parent = len({question.parent for question in questions})
        for number in [2] * kind.binary + list(kind.options):
            questions.append(single(parent, kind, number))
            parent += 1
        for number in kind.multi:
            questions += [part(parent, at, kind) for at in range(number)]
            parent += 1
    random = np.random.Generator(np.random.Philox(20_230_103))
    forms = list(FORMS)
    cues = [
        Cue(id=question.id, key=word(at), form=forms[at % 3], prior=prior(random, len(question.options)))
        for at, question in enumerate(questions)
    ]
    return Structure(checked(questions), tuple(cues))


def single(number: int, kind: Kind, options: int) -> Question:
    """Return a question with one answer."""
    return Question(
        id=str(number),
        category=kind.category,
        text_type=kind.text_type,
        question=f"Which option holds for point {number} of the passage on {kind.text_type}?",
        options=tuple(f"{name} holds" for name in OPTIONS[:options]),
    )


def part(number: int, at: int, kind: Kind) -> Question:
    """Return a sub-question of a question with several answers."""
    option = f"item {at} of point {number}"
    return Question(
        id=f"{number}-{at}",
        subquestion=option,
        category=kind.category,
        text_type=kind.text_type,
        question=f"Which items of point {number} does the passage on {kind.text_type} name?",
        options=(OTHER, option),
        multi=True,
    )


def word(number: int) -> str:
    """Return the key word of a number below 4,096: three syllables, no English word and no option."""
    consonants, vowels = "bdfgklmnprstvzjw", "aeiou"
    syllables = [consonants[number // 16**at % 16] + vowels[(number // 16**at + at) % 5] for at in (0, 1, 2)]
    return "qu" + "".join(syllables)


def prior(random: np.random.Generator, options: int) -> tuple[float, ...]:
    """Return how common each option is: one is common, the others thin out, none is under RAREST."""
    if options == 2:
        minority = float(random.uniform(0.1, 0.4))
        shares = np.array([1 - minority, minority])
    else:
        falling = 0.6 ** np.arange(options)
        shares = RAREST + (1 - RAREST * options) * falling / falling.sum()
    return tuple(float(share) for share in random.permutation(shares))
