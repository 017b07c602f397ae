"""The tokenizer of a reader: text to token ids with character offsets, from one `tokenizer.json`.  No torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

FILE = "tokenizer.json"
PAD, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
PADDINGS = (PAD, "<pad>", "<|padding|>", "<|endoftext|>")


class Text(NamedTuple):
    """A text as tokens, without special ones.

    Attributes:
        token: i32 [n].
        start: first character of each token in the text as given, i32 [n].
        end: the character behind it, i32 [n].
    """

    token: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]


class Tokens:
    """A tokenizer, opened.

    Attributes:
        tokenizer: of the tokenizers package, without its own cutting and padding.
        pad: id of padding.
        first: ids that stand before a window.
        last: ids that stand behind it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take a tokenizer; how it would cut and pad is switched off, since windows are cut here."""
        padding = tokenizer.padding
        tokenizer.no_truncation()
        tokenizer.no_padding()
        known = [tokenizer.token_to_id(name) for name in PADDINGS]
        found = [number for number in known if number is not None]
        self.tokenizer = tokenizer
        self.pad: int = padding["pad_id"] if padding else (found[0] if found else 0)
        around = tokenizer.encode("").ids
        self.first, self.last = tuple(around[:1]), tuple(around[1:])

    @classmethod
    def load(cls, path: Path) -> "Tokens":
        """Open `tokenizer.json`, or the folder that holds one.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        file = path / FILE if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"{file}: no such file; expected the tokenizer of a fast Hugging Face tokenizer")
        try:
            return cls(Tokenizer.from_file(str(file)))
        except Exception as error:  # the tokenizers package raises bare exceptions
            raise ValueError(f"{file}: not a tokenizer ({' '.join(str(error).split())[:120]})") from None

    @property
    def size(self) -> int:
        """Number of ids."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> list[Text]:
        """Return each text as tokens; nothing is cut off."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        made: list[Text] = []
        for encoding in found:
            place = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
            made.append(Text(np.array(encoding.ids, dtype=np.int32), place[:, 0], place[:, 1]))
        return made

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into a folder."""
        (folder / FILE).write_text(self.tokenizer.to_str(pretty=False), encoding="utf-8")


def of_words(texts: Iterable[str], size: int) -> Tokens:
    """Return a tokenizer of the commonest words and marks of a text, lower-cased.

    Args:
        texts: of the training split.
        size: ids at most, the four special ones among them.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    special = [PAD, UNKNOWN, FIRST, LAST]
    trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    around = [(name, tokenizer.token_to_id(name)) for name in (FIRST, LAST)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}", pair=f"{FIRST} $A {LAST} $B {LAST}", special_tokens=around
    )
    return Tokens(tokenizer)
