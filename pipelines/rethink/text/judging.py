"""The judge of facts: the most similar candidate of each step, and what an entailment model says of it."""

from collections.abc import Sequence

import numpy as np

from pipelines.rethink.evidence import Candidate, Support, empty
from pipelines.rethink.paths import DENIAL, Step
from pipelines.rethink.text.entailment import Entailment
from pipelines.rethink.text.similarity import SentenceEncoder


class TextScorer:
    """Cosine of sentence embeddings for M, an entailment model for E and C."""

    def __init__(self, encoder: SentenceEncoder, entailment: Entailment | None = None) -> None:
        """Take an encoder, and an entailment model or None: E and C are 0 then."""
        self.encoder, self.entailment = encoder, entailment

    def support(self, steps: Sequence[Step], candidates: Sequence[Sequence[Candidate]]) -> Support:
        """Return the support of each step by its most similar candidate; of equal ones, the lowest row."""
        made = empty(len(steps))
        if not steps:
            return made
        said = self.encoder.encode([step.text for step in steps])
        distinct = list(dict.fromkeys(candidate.text for held in candidates for candidate in held))
        row = {text: at for at, text in enumerate(distinct)}
        facts = self.encoder.encode(distinct)
        chosen: list[str] = []
        for at, held in enumerate(candidates):
            if not held:
                continue
            cosine = facts[[row[candidate.text] for candidate in held]] @ said[at]
            rank = min(range(len(held)), key=lambda one: (-cosine[one], held[one].place))
            made.similarity[at], made.rank[at], made.candidate[at] = cosine[rank], rank, held[rank].place
            chosen.append(held[rank].text)
        if self.entailment is not None and chosen:
            found = np.flatnonzero(made.candidate >= 0)
            judged = self.entailment.judge(chosen, [steps[at].text for at in found.tolist()])
            # What entails a statement contradicts its denial, and the other way round.
            denied = np.array([steps[at].kind == DENIAL for at in found.tolist()])
            made.entailment[found] = np.where(denied, judged[:, 2], judged[:, 0])
            made.contradiction[found] = np.where(denied, judged[:, 0], judged[:, 2])
        return made
