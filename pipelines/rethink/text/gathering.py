"""The support of paths by each evidence: what counts, and what it is held against."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.progress import say
from pipelines.rethink import evidence as evidences
from pipelines.rethink.controls import another
from pipelines.rethink.evidence import Ints, Retriever, Scorer, Support
from pipelines.rethink.paths import Path as Reasoning
from pipelines.rethink.text.files import Completion, Question
from pipelines.rethink.text.fitting import Rethinking
from pipelines.rethink.text.pools import Kind, Pool, given, own_rows, same_text
from pipelines.rethink.text.splitting import steps, yes_or_no

BESIDE, WHOLE, OWN, SWAPPED = "pool without own facts", "whole pool", "own facts", "another's facts"
FILES = {BESIDE: "pool-without-own", WHOLE: "pool", OWN: "own", SWAPPED: "swapped"}


class Means(NamedTuple):
    """Who finds evidence and who judges it; opened only where no stored support is given."""

    encoder: Path | None
    entailment: Path | None
    support: Path | None

    def judges(self, pool: Pool, kind: Kind) -> tuple[Retriever, Scorer]:
        """Open them."""
        from pipelines.rethink.text.entailment import open_entailment
        from pipelines.rethink.text.judging import TextScorer
        from pipelines.rethink.text.retrieval import open_retriever
        from pipelines.rethink.text.similarity import SentenceEncoder, packaged

        encoder = SentenceEncoder(self.encoder or packaged())
        judge = open_entailment(self.entailment, encoder) if self.entailment else None
        return open_retriever(kind, pool.texts, encoder), TextScorer(encoder, judge)


def decomposed(completions: Sequence[Completion]) -> list[Reasoning]:
    """Return completions as paths."""
    return [
        Reasoning(
            own.question_id, f"{own.source}#{own.sample}", own.source, tuple(steps(own.text)), yes_or_no(own.text)
        )
        for own in completions
    ]


def gathered(
    paths: Sequence[Reasoning], questions: Sequence[Question], pool: Pool, means: Means, settings: Rethinking
) -> dict[str, list[Support]]:
    """Return the support of each path by each evidence: the primary one first, then what it is held against.

    Evidence is the pool without the facts written for the question (and those that say the same); the whole pool; the
    question's own facts, an upper bound since they were written from the right answer; and another question's facts, a
    control. Where no fact was written for any of these questions there is the pool alone, and the control is what was
    found for another question.
    """
    owned = own_rows(pool, questions)
    wanted = list(FILES) if any(len(own) for own in owned) else [WHOLE, SWAPPED]
    if len(questions) < 2:
        wanted.remove(SWAPPED)
    if means.support is not None:
        folder = means.support / "support"
        return {name: evidences.stored(paths, folder / f"{FILES[name]}.parquet", pool.ids) for name in wanted}
    retriever, scorer = means.judges(pool, settings.retrieval)
    twins = same_text(pool, owned)
    of = {own.id: at for at, own in enumerate(questions)}
    place = [of[path.question_id] for path in paths for _ in path.steps]
    said = [step for path in paths for step in path.steps]
    nothing = np.empty(0, dtype=np.int64)
    made: dict[str, list[Support]] = {}
    for name in wanted:
        say(f"evidence: {name}")
        if name == OWN:
            held = given(said, [owned[at] for at in place], pool.texts)
        elif name == SWAPPED:
            held = given(said, swapped(made, paths, of, owned, settings.crossing.seed, place), pool.texts)
        else:
            hidden = [twins[at] if name == BESIDE else nothing for at in place]
            held = retriever.retrieve(said, hidden, top=settings.top)
        made[name] = evidences.divide(scorer.support(said, held), [len(path.steps) for path in paths])
    return made


def swapped(
    made: Mapping[str, Sequence[Support]],
    paths: Sequence[Reasoning],
    of: Mapping[str, int],
    owned: Sequence[Ints],
    seed: int,
    place: Sequence[int],
) -> list[Ints]:
    """Return for each step the facts of another question: its own ones, or else those found for its paths."""
    rows = list(owned)
    if not any(len(own) for own in rows):
        found: list[list[int]] = [[] for _ in rows]
        for path, support in zip(paths, made[WHOLE], strict=True):
            found[of[path.question_id]] += support.candidate[support.candidate >= 0].tolist()
        rows = [np.unique(np.array(own, dtype=np.int64)) for own in found]
    other = another(len(rows), seed)
    return [rows[int(other[at])] for at in place]
