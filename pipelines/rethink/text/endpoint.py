"""Completions from an OpenAI-compatible endpoint: time limits, retries, a cache by prompt, and runs that go on."""

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.rethink.text.files import Completion, Question
from pipelines.rethink.text.prompts import FEW_SHOT, prompt

TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
MOST_BYTES = 4 * 2**20


class UnfinishedError(Exception):
    """The endpoint did not answer; what it had answered is kept, and a run of the same command goes on from there."""


class Refused(ValueError):  # noqa: N818  one line for a user, as all of them
    """The endpoint answered, and asking again would change nothing."""


class Endpoint:
    """A server that takes POST {base_url}/chat/completions."""

    def __init__(  # noqa: PLR0913  an address and the rules of asking
        self,
        base_url: str,
        model: str,
        cache: str,
        *,
        samples: int = 9,
        temperature: float = 0.7,
        max_tokens: int = 256,
        timeout_seconds: float = 60.0,
        retries: int = 4,
        wait_seconds: float = 1.0,
        key_variable: str | None = None,
        task: str = "strategyqa",
    ) -> None:
        """Take an address and the rules of asking.

        Args:
            base_url: http or https, such as http://127.0.0.1:8000/v1.
            model: as the server knows it.
            cache: file of JSON lines, added to; one prompt, setting and sample is asked for once.
            samples: paths a question.
            temperature: of sampling.
            max_tokens: of a completion.
            timeout_seconds: of one call.
            retries: further calls after one that failed for a passing reason.
            wait_seconds: before the first of them; doubled each time, and longer where the server asks for it.
            key_variable: environment variable that holds the server's key; the key itself is never written.
            task: whose few-shot prompt is used.

        Raises:
            ValueError: a setting is out of range, or the variable is not set.
        """
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {base_url}: expected http:// or https://")
        if samples < 1 or retries < 0 or timeout_seconds <= 0 or task not in FEW_SHOT:
            raise ValueError(
                f"expected samples of 1 or more, retries of 0 or more, and a task of {', '.join(FEW_SHOT)}"
            )
        if key_variable and not os.environ.get(key_variable):
            raise ValueError(
                f"key_variable {key_variable}: not set; export it, or leave it out where no key is asked for"
            )
        self.url, self.model, self.task = base_url.rstrip("/") + "/chat/completions", model, task
        self.settings: Mapping[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        self.samples, self.timeout, self.retries, self.wait = samples, timeout_seconds, retries, wait_seconds
        self.key_variable = key_variable
        self.cache = Cache(Path(cache))

    def complete(self, questions: Sequence[Question]) -> Iterator[Completion]:
        """Yield `samples` completions of each question, from the cache or from the server.

        Raises:
            UnfinishedError: the server does not answer; the cache keeps what it said so far.
            Refused: it refuses the model, the key or the prompt.
        """
        for question in questions:
            asked = prompt(self.task, question.text)
            for sample in range(self.samples):
                key = key_of(self.model, asked, self.settings, sample)
                text = self.cache.held.get(key)
                if text is None:
                    text = self._ask(asked)
                    self.cache.keep(key, text)
                yield Completion(question.id, self.model, sample, text)

    def _ask(self, asked: str) -> str:
        """Call until an answer comes or the retries are used up."""
        body = {"model": self.model, "messages": [{"role": "user", "content": asked}], "n": 1, **self.settings}
        headers = {"Content-Type": "application/json"}
        if self.key_variable:
            headers["Authorization"] = f"Bearer {os.environ[self.key_variable]}"
        reason = ""
        for attempt in range(self.retries + 1):
            request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
            asks = 0.0
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    return said(answer.read(MOST_BYTES + 1))
            except urllib.error.HTTPError as error:
                error.close()
                if error.code not in TRANSIENT:
                    raise Refused(
                        f"{self.url}: answered {error.code} for model {self.model}; look at address, model and key"
                    ) from None
                reason, asks = f"answered {error.code}", seconds(error.headers.get("Retry-After"))
            except (OSError, Unreadable) as error:
                reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            if attempt < self.retries:
                time.sleep(max(self.wait * 2**attempt, asks))
        raise UnfinishedError(f"{self.url}: {reason}, {self.retries + 1} times; run the same command again to go on")


class Unreadable(Exception):  # noqa: N818  caught where calls are repeated
    """An answer that is no completion, such as one cut off."""


def said(content: bytes) -> str:
    """Return the text of a completion.

    Raises:
        Unreadable: it is none.
    """
    if len(content) > MOST_BYTES:
        raise Unreadable("an answer of more than 4 MiB")
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise Unreadable("an answer that is no completion") from None
    return str(text or "").strip()


def seconds(text: str | None) -> float:
    """Return what a server asks to wait, at most a minute; 0 where it asks for nothing that can be read."""
    return min(float(text), 60.0) if text and text.isdecimal() else 0.0


def key_of(model: str, asked: str, settings: Mapping[str, Any], sample: int) -> str:
    """Return the SHA-256 by which a completion is kept: of model, prompt, settings and sample."""
    content = json.dumps([model, asked, dict(sorted(settings.items())), sample], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


class Cache:
    """Completions by key, a line each, added as they come; a line that a killed run left in half is taken away."""

    def __init__(self, file: Path) -> None:
        """Read what there is.

        Raises:
            ValueError: the file is something else.
        """
        self.file, self.held = file, dict[str, str]()
        file.parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes() if file.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self.held[row["key"]] = row["completion"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{file}, line {number}: not of a cache; name another file") from None
        if len(whole) < len(content):
            with file.open("r+b") as held:
                held.truncate(len(whole))

    def keep(self, key: str, completion: str) -> None:
        """Add one, on disk before it is used."""
        self.held[key] = completion
        line = json.dumps({"key": key, "completion": completion}, ensure_ascii=False, sort_keys=True) + "\n"
        with self.file.open("ab") as held:
            held.write(line.encode("utf-8", "surrogatepass"))
            held.flush()
            os.fsync(held.fileno())
