"""Tensors there and back, as JSON and as bytes, and what is refused on the way."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.serve import tensors
from pipelines.serve.refusals import Refusal

NUMBERS = [name for name in tensors.KINDS if name != "BYTES"]
SHAPES = hnp.array_shapes(max_dims=3, max_side=4)


@st.composite
def arrays(draw):
    kind = draw(st.sampled_from(NUMBERS))
    finite = {"allow_nan": False, "allow_infinity": False} if kind.startswith("FP") else {}
    elements = hnp.from_dtype(tensors.KINDS[kind], **finite)
    return kind, draw(hnp.arrays(tensors.KINDS[kind], draw(SHAPES), elements=elements))


@given(arrays())
def test_numbers_there_and_back(drawn):
    kind, array = drawn
    assert tensors.named(array.dtype) == kind
    raw = tensors.to_bytes(array)
    assert len(raw) == array.size * (1 if kind == "BOOL" else array.dtype.itemsize)
    np.testing.assert_array_equal(tensors.from_bytes("x", kind, array.shape, raw), array)
    text = json.loads(json.dumps(tensors.to_json(array)))
    found = tensors.from_json("x", kind, array.shape, text)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    nested = tensors.from_json("x", kind, array.shape, array.tolist())
    np.testing.assert_array_equal(nested, array)


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=6))
def test_bytes_there_and_back(words):
    array = tensors.objects(words, (len(words), 1))
    raw = tensors.to_bytes(array)
    assert raw == b"".join(len(word).to_bytes(4, "little") + word for word in words)
    assert tensors.from_bytes("x", "BYTES", array.shape, memoryview(raw)).tolist() == array.tolist()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=6))
def test_strings_there_and_back(words):
    array = tensors.from_json("x", "BYTES", (len(words),), words)
    assert [word.decode() for word in array.tolist()] == words
    assert tensors.to_json(array) == words


def test_floats_in_json_read_back_as_the_same_float32():
    draw = np.random.default_rng(3).normal(size=500).astype(np.float32)
    assert np.array_equal(np.array(json.loads(json.dumps(tensors.to_json(draw)))).astype(np.float32), draw)


@given(arrays(), st.integers(1, 5))
def test_truncated_and_longer_bytes_are_refused(drawn, number):
    kind, array = drawn
    raw = tensors.to_bytes(array)
    for wrong in (raw[:-number] if number <= len(raw) else None, raw + b"\0" * number):
        if wrong is not None and len(wrong) != len(raw):
            with pytest.raises(Refusal, match="bytes; expected") as refused:
                tensors.from_bytes("x", kind, array.shape, wrong)
            assert refused.value.status == 400


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4), st.data())
def test_truncated_elements_are_refused(words, data):
    raw = tensors.to_bytes(tensors.objects(words, (len(words),)))
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(Refusal):
        tensors.from_bytes("x", "BYTES", (len(words),), cut)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("INT64", [1, 2, 3], "3 elements; expected 2"),
        ("INT64", [[1], [2, 3]], "ragged"),
        ("INT64", [1.5, 2.0], "does not hold INT64"),
        ("INT64", [True, False], "does not hold INT64"),
        ("INT64", ["1", "2"], "does not hold INT64"),
        ("INT64", [2**63, 2**63], "beyond INT64"),
        ("INT64", [10**30, 1], "does not hold INT64"),
        ("INT32", [2**31, 1], "beyond INT32"),
        ("UINT8", [-1, 1], "beyond UINT8"),
        ("FP32", [None, 1], "does not hold FP32"),
        ("FP32", [{}, 1], "does not hold FP32"),
        ("BOOL", [0, 1], "does not hold BOOL"),
        ("BYTES", [1, 2], "expected strings"),
        ("FP32", "1, 2", "no list"),
        ("FP32", None, "no list"),
    ],
)
def test_wrong_json_is_refused_without_a_value_of_it(kind, data, words):
    with pytest.raises(Refusal, match=words) as refused:
        tensors.from_json("x", kind, (2,), data)
    assert refused.value.status == 400


def test_integers_on_both_sides_of_2_to_the_63rd_stay_integers():
    found = tensors.from_json("x", "UINT64", (3,), [0, 2**63, 2**64 - 1])
    assert found.tolist() == [0, 2**63, 2**64 - 1]
    for wrong in ([0.5, 2**63, 1], [-1, 2**63, 1], [0, 2**63, 2**64], [True, 2**63, 0]):
        with pytest.raises(Refusal):
            tensors.from_json("x", "UINT64", (3,), wrong)
