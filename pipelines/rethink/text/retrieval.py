"""Who finds facts for steps: BM25 over words, nearest embeddings, or both."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

from pipelines import artefacts
from pipelines.rethink.evidence import Candidate, Floats, Ints, Retriever
from pipelines.rethink.neighbours import nearest
from pipelines.rethink.paths import Step
from pipelines.rethink.text.pools import Kind, pool_digest
from pipelines.rethink.text.similarity import SentenceEncoder

DIGEST = "pool.json"


def words(texts: Sequence[str]) -> list[list[str]]:
    """Return lower-cased words of two letters or more, English stop words left out."""
    found: Any = bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
    return [list(own) for own in found]


class BM25:
    """Okapi BM25 (Lucene's variant, k1 1.5, b 0.75) by bm25s."""

    def __init__(self, texts: Sequence[str], index: Any = None) -> None:  # noqa: ANN401  bm25s.BM25
        """Index a pool, or take the index of it.

        Raises:
            ValueError: the pool is empty.
        """
        if not texts:
            raise ValueError("the pool holds no facts; expected at least one")
        self.texts = list(texts)
        self.index: Any = index or bm25s.BM25(backend="numpy")
        if index is None:
            # A pool without a single word is a pool still.
            self.index.index([own or [""] for own in words(texts)], show_progress=False)

    def save(self, folder: Path) -> None:
        """Write the index with the digest of its pool."""
        self.index.save(str(folder), show_progress=False)
        artefacts.write_json(folder / DIGEST, {"pool": pool_digest(self.texts), "facts": len(self.texts)})

    @classmethod
    def load(cls, folder: Path, texts: Sequence[str]) -> "BM25":
        """Open a stored index of this very pool.

        Raises:
            ValueError: there is none, or it is of another pool.
        """
        if not (folder / DIGEST).is_file():
            raise ValueError(f"{folder}: holds no {DIGEST}; expected a stored index")
        if json.loads((folder / DIGEST).read_text(encoding="utf-8"))["pool"] != pool_digest(texts):
            raise ValueError(f"{folder}: is the index of other facts; index these anew")
        return cls(texts, bm25s.BM25.load(str(folder), load_corpus=False))

    def retrieve(self, steps: Sequence[Step], without: Sequence[Ints], *, top: int) -> list[list[Candidate]]:
        """Return the candidates of each step that share a word with it; equal scores by their row."""
        distinct = list(dict.fromkeys(step.text for step in steps))
        known = dict(zip(distinct, words(distinct), strict=True))
        scores: dict[str, Floats] = {}
        made: list[list[Candidate]] = []
        for step, hidden in zip(steps, without, strict=True):
            if step.text not in scores:
                # Steps come question by question, so few are needed again later.
                scores = dict(list(scores.items())[-256:])
                scores[step.text] = self._scores(known[step.text])
            made.append(_best(scores[step.text], hidden, self.texts, top))
        return made

    def _scores(self, query: Sequence[str]) -> Floats:
        if not query:
            return np.zeros(len(self.texts), dtype=np.float32)
        return np.asarray(self.index.get_scores(list(query)), dtype=np.float32)


class Dense:
    """The nearest embeddings, exactly."""

    def __init__(self, texts: Sequence[str], encoder: SentenceEncoder) -> None:
        """Embed a pool."""
        self.texts, self.encoder = list(texts), encoder
        self.pool = encoder.encode(self.texts)

    def retrieve(self, steps: Sequence[Step], without: Sequence[Ints], *, top: int) -> list[list[Candidate]]:
        """Return the candidates of each step, by cosine."""
        if not steps:
            return []
        most = max((len(hidden) for hidden in without), default=0)
        near = nearest(self.encoder.encode([step.text for step in steps]), self.pool, min(top + most, len(self.pool)))
        made: list[list[Candidate]] = []
        for place, found, hidden in zip(near.place.tolist(), near.similarity.tolist(), without, strict=True):
            unseen = set(hidden.tolist())
            kept = [(at, value) for at, value in zip(place, found, strict=True) if at >= 0 and at not in unseen]
            made.append([Candidate(at, self.texts[at], value) for at, value in kept[:top]])
        return made


class Hybrid:
    """The candidates of several, each once: turn about, best first."""

    def __init__(self, *parts: Retriever) -> None:
        """Take retrievers over one pool."""
        self.parts = parts

    def retrieve(self, steps: Sequence[Step], without: Sequence[Ints], *, top: int) -> list[list[Candidate]]:
        """Return up to `top` candidates of each retriever."""
        found = [part.retrieve(steps, without, top=top) for part in self.parts]
        made: list[list[Candidate]] = []
        for own in zip(*found, strict=True):
            ranked = sorted(
                (rank, number, candidate) for number, held in enumerate(own) for rank, candidate in enumerate(held)
            )
            first: dict[int, Candidate] = {}
            for _, _, candidate in ranked:
                first.setdefault(candidate.place, candidate)
            made.append(list(first.values()))
        return made


def open_retriever(kind: Kind, texts: Sequence[str], encoder: SentenceEncoder) -> Retriever:
    """Return the retriever asked for over a pool."""
    if kind == "bm25":
        return BM25(texts)
    dense = Dense(texts, encoder)
    return dense if kind == "dense" else Hybrid(BM25(texts), dense)


def _best(scores: Floats, hidden: Ints, texts: Sequence[str], top: int) -> list[Candidate]:
    """Return the best rows with a score above 0 that are not hidden."""
    held = scores.copy()
    held[hidden] = 0
    count = min(top, int((held > 0).sum()))
    if not count:
        return []
    bar = np.partition(held, len(held) - count)[len(held) - count]
    rows = np.flatnonzero(held >= bar)
    kept = rows[np.argsort(-held[rows], kind="stable")[:count]]
    return [Candidate(at, texts[int(at)], float(held[at])) for at in kept.tolist()]
