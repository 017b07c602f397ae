"""Entailment: whether a premise entails a hypothesis, by any sequence classifier in a local directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipelines.rethink.text.similarity import SentenceEncoder

Floats = npt.NDArray[np.float32]
LABELS = ("entailment", "neutral", "contradiction")
BEGINNINGS = {"entail": 0, "neutral": 1, "contradict": 2}
BATCH = 32
LENGTH = 512


class Entailment(Protocol):
    """Who judges premises and hypotheses."""

    def judge(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Floats:
        """Return the probabilities of entailment, neutral and contradiction, f32 [N, 3]."""
        ...


def columns(labels: Mapping[int, str], where: str) -> list[int]:
    """Return the classifier's column of entailment, of neutral and of contradiction, by their names.

    Args:
        labels: `id2label` of the classifier's config; a classifier of two classes has entailment and another.
        where: the directory, for the message.

    Raises:
        ValueError: the names do not tell.
    """
    found: dict[int, int] = {}
    for column, name in labels.items():
        for beginning, place in BEGINNINGS.items():
            if name.lower().replace("not_", "").replace("non_", "").startswith(beginning) and "not" not in name.lower():
                found[place] = int(column)
    if sorted(found) != [0, 1, 2] or len(labels) != 3:
        shown = ", ".join(f"{column}: {name}" for column, name in sorted(labels.items()))
        raise ValueError(
            f"{where}: its labels are {shown}; expected {', '.join(LABELS)}: say which is which in its id2label"
        )
    return [found[place] for place in range(3)]


class SequenceClassifier:
    """A classifier of pairs; which of its columns means what is read from its config, never taken by position."""

    def __init__(self, directory: Path) -> None:
        """Open a directory of a model with its tokenizer.

        Raises:
            ValueError: it cannot be read, or its labels do not tell.
        """
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                str(directory), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{directory}: {line}; expected the directory of a sequence classifier") from None
        self.model: Any = model.eval().float()
        self.columns = columns({int(at): str(name) for at, name in model.config.id2label.items()}, str(directory))
        self.length = min(LENGTH, int(getattr(model.config, "max_position_embeddings", LENGTH)))

    def judge(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Floats:
        """Return probabilities; what is too long loses the end of its premise."""
        made = np.empty((len(premises), 3), dtype=np.float32)
        order = sorted(range(len(premises)), key=lambda at: len(premises[at]) + len(hypotheses[at]))
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            taken = self.tokenizer(
                [premises[at] for at in rows],
                [hypotheses[at] for at in rows],
                padding=True,
                truncation="only_first",
                max_length=self.length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                made[rows] = torch.softmax(self.model(**taken).logits, -1)[:, self.columns].numpy()
        return made


def open_entailment(directory: Path, encoder: SentenceEncoder) -> Entailment:
    """Open a sequence classifier, or a head that `anamnesis rethink entailment` trained.

    Raises:
        ValueError: it is neither.
    """
    from pipelines.rethink.text import head

    if (directory / head.SETTINGS).is_file():
        return head.load(directory, encoder)
    config = directory / "config.json"
    if not config.is_file():
        raise ValueError(f"{directory}: holds no config.json; expected a sequence classifier or a trained head")
    try:
        json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{config}: not JSON; expected the configuration of a sequence classifier") from None
    return SequenceClassifier(directory)
