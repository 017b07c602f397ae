"""Windows: every token owned once, whatever the lengths; offsets point into the text as given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from pipelines.documents import chunks
from pipelines.documents.chunks import Window, cut
from pipelines.documents.tokens import Text, Tokens, of_words

TOKENS = of_words(["a b c"], 16)


def numbers(count):
    span = np.arange(count, dtype=np.int32)
    return Text(span % 3 + 4, span * 2, span * 2 + 1)


@given(st.integers(1, 700), st.integers(8, 64), st.data())
def test_every_token_is_owned_once_in_order(count, length, data):
    overlap = data.draw(st.integers(0, length - 3))
    window = Window(length=length, overlap=overlap, max_chunks=None)
    found = cut(numbers(count), TOKENS, window)
    assert found.place[found.owned].tolist() == list(range(count))
    assert not found.truncated
    assert len(found.token) == chunks.count(count, window)
    assert found.mask.any(1).all()
    assert not found.owned[~found.mask].any()
    assert not found.owned[found.place < 0].any()


@given(st.integers(1, 500), st.integers(1, 9))
def test_blocks_are_the_whole(count, size):
    window = Window(length=24, overlap=7, max_chunks=None)
    text = numbers(count)
    whole = cut(text, TOKENS, window)
    parts = [cut(text, TOKENS, window, chosen) for chosen in chunks.blocks(text, TOKENS, window, size)]
    assert np.array_equal(np.concatenate([part.token for part in parts]), whole.token)
    assert np.array_equal(np.concatenate([part.owned for part in parts]), whole.owned)


def test_a_limit_cuts_the_tail_and_says_so():
    window = Window(length=12, overlap=2, max_chunks=2)
    found = cut(numbers(40), TOKENS, window)
    assert found.truncated
    # 10 tokens of the first window, 8 new ones of the second.
    assert found.place[found.owned].tolist() == list(range(18))


def test_windows_hold_special_tokens_and_the_overlap_is_split_in_half():
    found = cut(numbers(18), TOKENS, Window(length=12, overlap=4, max_chunks=None))
    first, last = TOKENS.first[0], TOKENS.last[0]
    assert found.token[0, 0] == first
    assert found.token[0, 11] == last
    assert found.place[1, 1] == 6
    assert (
        found.place[found.owned[:1].repeat(len(found.owned), 0) & (np.arange(len(found.owned)) == 0)[:, None]].max()
        == 7
    )


@pytest.mark.parametrize("text", ["Ärger\r\nim Büro – ja", "日本 語\r\n\tok", "naïve 🙂 end"])
def test_offsets_are_characters_of_the_text_as_given(text):
    held = TOKENS.encode([text])[0]
    assert [text[a:b] for a, b in zip(held.start, held.end, strict=True)] == [
        text[a:b] for (a, b) in TOKENS.tokenizer.encode(text, add_special_tokens=False).offsets
    ]
    joined = "".join(text[a:b] for a, b in zip(held.start, held.end, strict=True))
    assert joined == "".join(text.split())


@pytest.mark.parametrize(
    "wrong", [{"length": 4}, {"overlap": 510}, {"overlap": -1}, {"max_chunks": 0}, {"length": 32, "overlap": 31}]
)
def test_windows_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Window(**wrong)


def test_what_the_tokenizer_would_cut_and_pad_is_switched_off():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "[PAD]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8, pad_id=2, pad_token="[PAD]")
    held = Tokens(tokenizer)
    assert held.pad == 2
    assert held.first == held.last == ()
    assert len(held.encode(["a " * 10])[0].token) == 10


def test_a_missing_or_damaged_tokenizer_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        Tokens.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokens.load(tmp_path)
