"""Answers of a reader in torch, over passages of any length."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.documents import sampling
from pipelines.documents.batches import Collator, DocumentBatch
from pipelines.documents.chunks import Window, count, width
from pipelines.documents.model import DocumentReader
from pipelines.documents.pooling import Pooled
from pipelines.documents.sampling import Sampling

Floats = npt.NDArray[np.float32]


class Answers(NamedTuple):
    """Answers to the rows of passages, in their order.

    Attributes:
        logits: f32 [R, C]; options that are not there at -1e4.
        truncated: whether the passage of a row was cut off, bool [R].
    """

    logits: Floats
    truncated: npt.NDArray[np.bool_]


@torch.no_grad()
def answers(reader: DocumentReader, collator: Collator, *, positions: int = 16_384) -> Answers:
    """Answer every row of passages.

    Args:
        reader: put into eval mode.
        collator: passages and how they are cut; with max_chunks null every passage is read whole.
        positions: read at a time; more are read in blocks of windows.
    """
    reader.eval()
    own = collator.passages
    logits = np.full((len(own.passage), collator.most), -1e4, dtype=np.float32)
    truncated = np.zeros(len(own.passage), dtype=np.bool_)
    for rows, batch in batches(collator, positions):
        found = read(reader, batch, positions)
        place = {task: at for at, task in enumerate(batch.asked.task.tolist())}
        _, members = np.unique(own.passage[rows], return_inverse=True)
        columns = np.array([place[task] for task in own.task[rows].tolist()], dtype=np.int64)
        logits[rows] = found.float().cpu().numpy()[members, columns]
        truncated[rows] = batch.truncated.numpy()[members]
    return Answers(logits, truncated)


def batches(collator: Collator, positions: int) -> Iterator[tuple[npt.NDArray[np.int64], DocumentBatch]]:
    """Yield the rows of batches and the batches, in order of length."""
    rows_of = sampling.rows_by_passage(collator.passages)
    for members in sampling.bucketed(shapes(collator), Sampling(positions=positions), None):
        rows = np.concatenate([rows_of[at] for at in members])
        yield rows, collator.collate(rows, np.ones(len(rows), dtype=np.float32))


def shapes(collator: Collator) -> list[tuple[int, int]]:
    """Return windows and positions of each passage."""
    window: Window = collator.window
    special = len(collator.tokens.first) + len(collator.tokens.last)
    most = window.max_chunks or 2**31
    return [
        (min(most, count(number, window, special)), width(number, window, special))
        for number in collator.passages.lengths.tolist()
    ]


def read(reader: DocumentReader, batch: DocumentBatch, positions: int) -> Tensor:
    """Return the logits of a batch, f32 [P, T, C], encoded in blocks of windows where they are many."""
    passages, windows, length = batch.input_ids.shape
    block = max(1, positions // (passages * length))
    query, option = reader.questions_of(batch.asked)
    parts: list[Pooled] = []
    for begin in range(0, windows, block):
        here = slice(begin, begin + block)
        ids, mask = batch.input_ids[:, here].flatten(0, 1), batch.attention_mask[:, here].flatten(0, 1)
        state = reader.encode(reader.embed(ids), mask).reshape(passages, -1, length, reader.width)
        part = reader.pooled(state, batch.owned[:, here], query, len(batch.asked.task))
        # Attention within windows is not asked for here, and would be the largest of all.
        parts.append(part._replace(weight=part.weight[..., :1]))
        if reader.settings.pooling == "first_token":
            break
    pooled = Pooled(*(torch.cat(items, 2) for items in zip(*parts, strict=True)))
    return reader.answer(pooled, batch.asked, option).logits
