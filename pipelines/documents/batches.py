"""What a reader is given: passages in windows, the questions asked of them, labels and weights (torch)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.documents.chunks import MULTIPLE, Chunks, Window, cut
from pipelines.documents.model import Asked, Described
from pipelines.documents.passages import Ints, Passages
from pipelines.documents.sampling import Floats
from pipelines.documents.tokens import Text, Tokens


class DocumentBatch(NamedTuple):
    """P passages of up to N windows of L positions, and T questions.

    Attributes:
        input_ids: i64 [P, N, L].
        attention_mask: bool [P, N, L].
        owned: bool [P, N, L]; every token of a passage is owned once.
        asked: the questions, a column each.
        label: -1 where a question is not asked or its answer not known, i64 [P, T].
        weight: 0 where there is no label, f32 [P, T].
        truncated: whether a passage was cut off, bool [P].
    """

    input_ids: Tensor
    attention_mask: Tensor
    owned: Tensor
    asked: Asked
    label: Tensor
    weight: Tensor
    truncated: Tensor

    @property
    def ask(self) -> Tensor:
        """Which questions are asked of which passage, bool [P, T]."""
        return self.weight > 0


class Words:
    """Questions and options of a catalogue as token ids, for the description head."""

    def __init__(
        self, questions: Sequence[str], options: Sequence[Sequence[str]], tokens: Tokens, length: int = 128
    ) -> None:
        """Tokenise every question and every distinct option once.

        Args:
            questions: T of them, in words.
            options: of each question, in words.
            tokens: tokenizer.
            length: positions of a question or an option at most; the rest is left out.
        """
        self.tokens, self.length = tokens, length
        distinct = sorted({option for own in options for option in own})
        number = {option: at for at, option in enumerate(distinct)}
        self.question, self.option = tokens.encode(questions), tokens.encode(distinct)
        self.of = [[number[option] for option in own] for own in options]

    def of_tasks(self, task: Ints, most: int) -> Described:
        """Return the words of some questions.

        Args:
            task: i64 [T].
            most: C.
        """
        option = np.zeros((len(task), most), dtype=np.int64)
        for row, number in enumerate(task.tolist()):
            option[row, : len(self.of[number])] = self.of[number]
        used, place = np.unique(option, return_inverse=True)
        question_ids, question_mask = self.padded([self.question[number] for number in task.tolist()])
        option_ids, option_mask = self.padded([self.option[number] for number in used.tolist()])
        return Described(
            question_ids, question_mask, option_ids, option_mask, torch.from_numpy(place.reshape(option.shape))
        )

    def padded(self, texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
        """Return texts with special tokens as ids and mask, [texts, l]."""
        first, last = self.tokens.first, self.tokens.last
        kept = self.length - len(first) - len(last)
        rows = [[*first, *text.token[:kept].tolist(), *last] for text in texts]
        long = -(-max(map(len, rows), default=1) // 8) * 8
        ids = torch.full((len(rows), long), self.tokens.pad, dtype=torch.int64)
        mask = torch.zeros((len(rows), long), dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
            mask[at, : len(row)] = True
        return ids, mask


class Collator:
    """Makes batches of rows of passages."""

    def __init__(
        self,
        passages: Passages,
        tokens: Tokens,
        window: Window,
        num_options: Sequence[int],
        words: Words | None = None,
    ) -> None:
        """Set up.

        Args:
            passages: of a split.
            tokens: tokenizer.
            window: how texts are cut.
            num_options: options of every question of the catalogue.
            words: the catalogue in words, for the description head.
        """
        self.passages, self.tokens, self.window, self.words = passages, tokens, window, words
        self.num_options = np.array(num_options, dtype=np.int64)
        self.most = int(self.num_options.max())

    def asked(self, task: Ints) -> Asked:
        """Return questions as columns."""
        described = self.words.of_tasks(task, self.most) if self.words else None
        return Asked(torch.from_numpy(task), torch.from_numpy(self.num_options[task]), described)

    def collate(self, rows: Ints, weight: Floats, tasks: Sequence[int] | None = None) -> DocumentBatch:
        """Return a batch; each passage is in it once, whatever is asked of it.

        Args:
            rows: numbers of rows, i64 [n].
            weight: of each, f32 [n].
            tasks: the columns; the questions of the rows, in order, where None.
        """
        own = self.passages
        members, row_at = np.unique(own.passage[rows], return_inverse=True)
        columns = np.unique(own.task[rows]) if tasks is None else np.array(tasks, dtype=np.int64)
        place = {task: at for at, task in enumerate(columns.tolist())}
        at = np.array([place[task] for task in own.task[rows].tolist()], dtype=np.int64)
        label = np.full((len(members), len(columns)), -1, dtype=np.int64)
        weights = np.zeros(label.shape, dtype=np.float32)
        label[row_at, at] = own.label[rows]
        weights[row_at, at] = np.where(own.label[rows] >= 0, weight, 0)
        windows = stack(
            [cut(own.texts[member], self.tokens, self.window) for member in members.tolist()], self.tokens.pad
        )
        return DocumentBatch(
            *(torch.from_numpy(part) for part in windows[:3]),
            asked=self.asked(columns),
            label=torch.from_numpy(label),
            weight=torch.from_numpy(weights),
            truncated=torch.from_numpy(windows[3]),
        )


def stack(
    chunks: Sequence[Chunks], pad: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return windows of passages side by side: ids, mask and owned [P, N, L], and truncated [P]."""
    windows = max(len(part.token) for part in chunks)
    length = max(part.token.shape[1] for part in chunks)
    shape = (len(chunks), windows, -(-length // MULTIPLE) * MULTIPLE if length % MULTIPLE else length)
    ids = np.full(shape, pad, dtype=np.int64)
    mask, owned = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    for at, part in enumerate(chunks):
        rows, columns = part.token.shape
        ids[at, :rows, :columns] = part.token
        mask[at, :rows, :columns] = part.mask
        owned[at, :rows, :columns] = part.owned
    return ids, mask, owned, np.array([part.truncated for part in chunks])
