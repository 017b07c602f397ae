"""What a reader must beat: the commonest answer, chance, and words counted without their order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.documents.catalogue import Catalogue
from pipelines.documents.predictions import places

Floats = npt.NDArray[np.float64]
PENALTIES = (0.3, 3.0, 30.0)
"""C of the logistic regression, inverse strength; the one with the least loss on the dev rows is taken."""


def shares(train: pl.DataFrame, catalogue: Catalogue) -> Floats:
    """Return how common each answer is among the training rows, with one row added to each option, f64 [T, C]."""
    counts = (np.arange(int(catalogue.num_options.max())) < catalogue.num_options[:, None]).astype(np.float64)
    labelled = train.filter(pl.col("label").is_not_null())
    np.add.at(counts, (places(labelled, catalogue), labelled["label"].to_numpy()), 1)
    return counts / counts.sum(1, keepdims=True)


def majority(train: pl.DataFrame, rows: pl.DataFrame, catalogue: Catalogue) -> Floats:
    """Return the training shares of the answers for every row, f64 [N, C]: the commonest answer is chosen."""
    return shares(train, catalogue)[places(rows, catalogue)]


def random(rows: pl.DataFrame, catalogue: Catalogue, *, seed: int = 0) -> Floats:
    """Return probabilities drawn at random, f64 [N, C]."""
    generator = np.random.Generator(np.random.Philox(seed))
    options = catalogue.num_options[places(rows, catalogue)]
    drawn = generator.exponential(size=(len(rows), int(catalogue.num_options.max())))
    drawn *= np.arange(drawn.shape[1]) < options[:, None]
    return drawn / drawn.sum(1, keepdims=True)


def bag_of_words(
    train: pl.DataFrame,
    dev: pl.DataFrame,
    rows: pl.DataFrame,
    catalogue: Catalogue,
    *,
    longest: int = 1,
) -> Floats:
    """Return the probabilities of TF-IDF and logistic regression, one a task, f64 [N, C].

    Args:
        train: DOCUMENTS to learn from; what counts as augmented too.
        dev: DOCUMENTS on which the penalty is chosen, one for all tasks.
        rows: DOCUMENTS, N rows.
        catalogue: the questions.
        longest: words of a feature; 1 knows nothing of order, 2 counts neighbours too.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    held = [frame.filter(pl.col("label").is_not_null()) for frame in (train, dev)]
    vectorizer = TfidfVectorizer(ngram_range=(1, longest), sublinear_tf=True, max_features=50_000)
    vectorizer.fit(held[0]["text"].unique(maintain_order=True).to_list())
    features = [counted(vectorizer, frame["text"]) for frame in (*held, rows)]
    prior = shares(held[0], catalogue)
    answers = [
        fitted(held[0], features[0], [(held[1], features[1]), (rows, features[2])], prior, catalogue, penalty)
        for penalty in PENALTIES
    ]
    if not len(held[1]):
        return answers[len(PENALTIES) // 2][1]
    label = held[1]["label"].to_numpy()
    losses = [-np.log(np.clip(own[np.arange(len(label)), label], 1e-12, 1)).mean() for own, _ in answers]
    return answers[int(np.argmin(losses))][1]


def counted(vectorizer: Any, texts: pl.Series) -> Any:  # noqa: ANN401  a sparse matrix
    """Return the features of each text; one that stands there often is counted once."""
    unique = texts.unique(maintain_order=True)
    place = {text: at for at, text in enumerate(unique)}
    return vectorizer.transform(unique.to_list())[[place[text] for text in texts]]


def fitted(
    train: pl.DataFrame,
    features: Any,  # noqa: ANN401  a sparse matrix
    given: Sequence[tuple[pl.DataFrame, Any]],
    prior: Floats,
    catalogue: Catalogue,
    penalty: float,
) -> list[Floats]:
    """Return the probabilities of each frame given, one regression a task; the shares where a task has one answer."""
    from sklearn.linear_model import LogisticRegression

    place, label = places(train, catalogue), train["label"].to_numpy()
    asked = [places(frame, catalogue) for frame, _ in given]
    found = [prior[at].copy() for at in asked]
    for at in np.unique(place):
        own = np.flatnonzero(place == at)
        if len(np.unique(label[own])) < 2:
            continue
        model = LogisticRegression(C=penalty, max_iter=300).fit(features[own], label[own])
        for answer, where, (_, matrix) in zip(found, asked, given, strict=True):
            rows = np.flatnonzero(where == at)
            if len(rows):
                # Classes that no training row has keep no chance.
                answer[rows] = 0
                answer[np.ix_(rows, model.classes_)] = model.predict_proba(matrix[rows])
    return found
