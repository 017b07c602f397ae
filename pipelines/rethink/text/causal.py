"""Completions of a causal language model in a local directory."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.rethink.text.files import Completion, Question
from pipelines.rethink.text.prompts import FEW_SHOT, prompt


class CausalLM:
    """Samples of one causal language model, as in the paper: several paths of the same model at a temperature."""

    def __init__(
        self,
        directory: str,
        *,
        samples: int = 9,
        temperature: float = 0.7,
        max_new_tokens: int = 256,
        task: str = "strategyqa",
        seed: int = 0,
    ) -> None:
        """Open a directory.

        Args:
            directory: of a Hugging Face model with its tokenizer.
            samples: paths a question.
            temperature: 0 is greedy, and gives one path however many are asked for.
            max_new_tokens: of a completion.
            task: whose few-shot prompt is used.
            seed: of the samples; each question has its own draw, so that order changes nothing.

        Raises:
            ValueError: it cannot be read, or a setting is out of range.
        """
        if samples < 1 or temperature < 0 or task not in FEW_SHOT:
            raise ValueError(
                f"samples {samples}, temperature {temperature}, task {task}: expected 1 or more, 0 or more, and one of "
                f"{', '.join(FEW_SHOT)}"
            )
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            self.model: Any = AutoModelForCausalLM.from_pretrained(
                directory, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{directory}: {line}; expected the directory of a causal language model") from None
        self.source, self.task, self.seed = Path(directory).name, task, seed
        self.samples = samples if temperature else 1
        self.temperature, self.max_new_tokens = temperature, max_new_tokens

    def complete(self, questions: Sequence[Question]) -> Iterator[Completion]:
        """Yield `samples` completions of each question."""
        sampled: dict[str, Any] = (
            {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
            if self.temperature
            else {"do_sample": False}
        )
        for question in questions:
            taken = self.tokenizer(prompt(self.task, question.text), return_tensors="pt", return_token_type_ids=False)
            length = taken["input_ids"].shape[1]
            torch.manual_seed(_seed(self.seed, question.id))
            with torch.inference_mode():
                made = self.model.generate(
                    **taken,
                    **sampled,
                    num_return_sequences=self.samples,
                    max_new_tokens=self.max_new_tokens,
                    pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id or 0,
                )
            texts = self.tokenizer.batch_decode(made[:, length:], skip_special_tokens=True)
            for sample, text in enumerate(texts):
                yield Completion(question.id, self.source, sample, first_answer(text))


def first_answer(text: str) -> str:
    """Return a completion up to where the model goes on to ask itself another question."""
    return text.split("\nQuestion:", 1)[0].strip()


def _seed(seed: int, question: str) -> int:
    """Return a seed of one question's own, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question}".encode()).digest()[:6], "big")
