"""Groups of passages with answers: near and far cues, abridged passages and counterfactual ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from pipelines.documents.catalogue import Catalogue
from pipelines.documents.schema import DOCUMENTS, RARE
from pipelines.documents.simulator.passages import draw_length, write
from pipelines.documents.simulator.structure import Cue, Structure, structure

TRUTH = pl.Schema(
    {
        "document_id": pl.String,
        "id": pl.String,
        "stated": pl.Int64,
        "far": pl.Boolean,
        "start": pl.Int64,
        "end": pl.Int64,
    }
)
"""One row a row of DOCUMENTS, in its order: the option that the cue states, which is not the label where the label is
wrong; whether the cue lies past token 512; where in the text it stands, in characters."""
MOST_ASKED = 4
"""Questions of an abridged or counterfactual passage at most."""
SHORT = 0.12
"""Length of an abridged or counterfactual passage, of a whole one."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What is simulated."""

    groups: int = 152
    """Contracts; each has one passage of every text type, and answers all its questions."""
    seed: int = 0
    """Equal settings give equal rows."""
    cut: str = "whole"
    """whole or small, see `structure`."""
    length: float = 1.0
    """Scales the length of passages: 1 is MAUD's (median near 510 tokens). Far cues lie past token 512 at any scale,
    so that a passage with far cues has more tokens than that; a small scale makes the others short."""
    noise: float = 0.02
    """Share of labels that are not what the passage says; with the priors it sets the best AUPR."""
    far: float = 0.5
    """Share of main passages whose cues all lie past token 512."""
    abridged: int = 14
    """Abridged passages a group."""
    counterfactual: int = 6
    """Passages a group in which rare answers are as common as others; of no group, and never scored."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.groups < 1 or self.abridged < 0 or self.counterfactual < 0:
            raise ValueError("groups, abridged or counterfactual is too small; expected 1, 0 and 0 at least")
        for name in ("noise", "far"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not 0 < self.length <= 100:
            raise ValueError(f"length is {self.length}; expected a number over 0, 100 at most")


class Cohort(NamedTuple):
    """Simulated documents.

    Attributes:
        documents: DOCUMENTS, without split.
        catalogue: their questions.
        truth: TRUTH, row by row.
    """

    documents: pl.DataFrame
    catalogue: Catalogue
    truth: pl.DataFrame


class Answers(NamedTuple):
    """Of each task: the answer, and what the passage states."""

    label: list[int]
    stated: list[int]


class Rows:
    """Rows of documents and of their truth, as they are made."""

    def __init__(self, held: Structure) -> None:
        """Begin with none."""
        self.held = held
        self.documents: list[tuple[object, ...]] = []
        self.truth: list[tuple[object, ...]] = []

    def add(
        self,
        random: np.random.Generator,
        name: tuple[str, str, str],
        places: Sequence[int],
        answers: Answers,
        *,
        far: bool,
        tokens: int,
    ) -> None:
        """Write one passage and append its rows; name is document, group and data_type."""
        document, group, data_type = name
        stated = [answers.stated[at] for at in places]
        passage = write(random, [self.held.cues[at] for at in places], stated, far=far, tokens=tokens)
        for at, option, (start, end) in zip(places, stated, passage.spans, strict=True):
            question, label = self.held.catalogue.questions[at], answers.label[at]
            asked = (question.text_type, question.id, question.subquestion)
            answered = (question.options[label], label, question.category, data_type, None)
            origin = f"simulated row {len(self.documents) + 1}"
            self.documents.append((document, group, passage.text, *asked, *answered, origin))
            self.truth.append((document, question.id, option, far, start, end))


def simulate(corpus: Corpus) -> Cohort:
    """Return a corpus: group by group the main passages, then the abridged, then the counterfactual ones."""
    held = structure(corpus.cut)
    rows = Rows(held)
    for number in range(corpus.groups):
        # A stream of its own for each group: how many groups there are changes none of them.
        add_group(rows, np.random.Generator(np.random.Philox(key=[corpus.seed, number])), number, corpus)
    return Cohort(
        pl.DataFrame(rows.documents, schema=DOCUMENTS, orient="row"),
        held.catalogue,
        pl.DataFrame(rows.truth, schema=TRUTH, orient="row"),
    )


def add_group(rows: Rows, random: np.random.Generator, number: int, corpus: Corpus) -> None:
    """Append all passages of one group."""
    asked = rows.held.catalogue.asked()
    kinds = list(asked)
    group = f"contract_{number}"
    answers = draw(random, rows.held.cues, corpus.noise)
    for kind in kinds:
        far = bool(random.random() < corpus.far)
        tokens = draw_length(random, corpus.length, far=far)
        rows.add(random, (f"{group}/{kind}", group, "main"), asked[kind], answers, far=far, tokens=tokens)
    for at in range(corpus.abridged):
        kind = kinds[int(random.integers(len(kinds)))]
        name = (f"{group}/{kind}/abridged-{at}", group, "abridged")
        rows.add(random, name, some(random, asked[kind]), answers, far=False, tokens=short(random, corpus))
    for at in range(corpus.counterfactual):
        kind = kinds[int(random.integers(len(kinds)))]
        edited = draw(random, rows.held.cues, corpus.noise, even=True)
        name = (f"{RARE}/{number}-{at}/{kind}", RARE, "rare_answers")
        rows.add(random, name, some(random, asked[kind]), edited, far=False, tokens=short(random, corpus))


def draw(random: np.random.Generator, cues: Sequence[Cue], noise: float, *, even: bool = False) -> Answers:
    """Return an answer to each task by its prior, or all alike, and what is stated: another option at times."""
    label: list[int] = []
    stated: list[int] = []
    for cue, chance in zip(cues, random.random((len(cues), 3)), strict=True):
        options = len(cue.prior)
        bounds = np.arange(1, options) / options if even else np.cumsum(cue.prior)[:-1]
        answer = int(np.searchsorted(bounds, chance[0], side="right"))
        other = (answer + 1 + int(chance[1] * (options - 1))) % options
        label.append(answer)
        stated.append(other if chance[2] < noise else answer)
    return Answers(label, stated)


def some(random: np.random.Generator, places: Sequence[int]) -> list[int]:
    """Return up to MOST_ASKED of the questions of a text type."""
    return sorted(int(at) for at in random.choice(places, size=min(MOST_ASKED, len(places)), replace=False))


def short(random: np.random.Generator, corpus: Corpus) -> int:
    """Return the tokens of an abridged passage."""
    return draw_length(random, SHORT * corpus.length, far=bool(random.random() < 0.5))
