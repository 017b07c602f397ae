"""Where completions come from: a recording, or whatever else answers questions.  No torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pipelines.rethink.text.files import Completion, Question, read_completions


class Generator(Protocol):
    """Who answers questions with chains of thought."""

    def complete(self, questions: Sequence[Question]) -> Iterator[Completion]:
        """Yield completions; every question gets as many as every other."""
        ...


class Recorded:
    """Completions as they were recorded."""

    def __init__(self, file: str) -> None:
        """Take a file of JSON lines: question_id, source (or model and prompt), sample, completion."""
        self.file = Path(file)

    def complete(self, questions: Sequence[Question]) -> Iterator[Completion]:
        """Yield all of them.

        Raises:
            ValueError: they do not fit the questions.
        """
        yield from read_completions(self.file, questions)
