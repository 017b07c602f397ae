"""Rows of documents as passages: each text once, with the questions asked of it.  No torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.documents.tokens import Text, Tokens

Ints = npt.NDArray[np.int64]
BLOCK = 256
"""Texts tokenised at a time."""


class Rows(NamedTuple):
    """R questions asked of texts, in any order.

    Attributes:
        text: R texts.
        task: which question each is, i64 [R].
        label: number of the right option, -1 where it is not known, i64 [R].
    """

    text: Sequence[str]
    task: Ints
    label: Ints


class Passages(NamedTuple):
    """P passages and the R rows that ask of them.

    Attributes:
        texts: as tokens, P of them.
        passage: which passage each row is about, i64 [R], in the order of the rows given.
        task: i64 [R].
        label: i64 [R].
    """

    texts: list[Text]
    passage: Ints
    task: Ints
    label: Ints

    @property
    def lengths(self) -> Ints:
        """Tokens of each passage, i64 [P]."""
        return np.array([len(text.token) for text in self.texts], dtype=np.int64)


def gather(rows: Rows, tokens: Tokens) -> Passages:
    """Put rows of one text together, and tokenise each text once.

    Where a text is asked the same question more than once (two annotators, a row that stands twice), each further
    time makes a passage of its own, so that no row is lost.

    Args:
        rows: any.
        tokens: tokenizer.
    """
    number: dict[tuple[str, int], int] = {}
    seen: dict[tuple[str, int], int] = {}
    order: list[str] = []
    passage = np.zeros(len(rows.text), dtype=np.int64)
    for row, (text, task) in enumerate(zip(rows.text, rows.task.tolist(), strict=True)):
        again = seen[text, task] = seen.get((text, task), -1) + 1
        if (text, again) not in number:
            number[text, again] = len(order)
            order.append(text)
        passage[row] = number[text, again]
    texts: list[Text] = []
    for begin in range(0, len(order), BLOCK):
        texts += tokens.encode(order[begin : begin + BLOCK])
    return Passages(texts, passage, rows.task.astype(np.int64), rows.label.astype(np.int64))
