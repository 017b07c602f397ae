"""Packed codes come back, whatever their number; sizes are what would stand on disk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import packing, sizes

PACKED = {
    "trits": (packing.trits, packing.from_trits, 5, 1),
    "two_bit": (packing.two_bit, packing.from_two_bit, 4, 1),
    "nibbles": (packing.nibbles, packing.from_nibbles, 2, 7),
}


def drawn(seed, shape, bound=1, zeros=0.4):
    draw = np.random.default_rng(seed)
    codes = draw.integers(-bound, bound + 1, shape).astype(np.int8)
    codes[draw.random(shape) < zeros] = 0
    return codes


@given(st.sampled_from(sorted(PACKED)), st.integers(0, 99), st.integers(0, 3), st.integers(0, 23))
def test_codes_come_back_for_every_rest(name, seed, rows, count):
    pack, unpack, group, bound = PACKED[name]
    codes = drawn(seed, (rows, count), bound)
    packed = pack(codes)
    assert packed.dtype == np.uint8
    assert packed.shape == (rows, -(-count // group))
    assert np.array_equal(unpack(packed, count), codes)


@given(st.integers(0, 99), st.integers(0, 40), st.sampled_from([0.0, 0.5, 1.0]))
def test_bitmaps_come_back(seed, count, zeros):
    codes = drawn(seed, count, zeros=zeros)
    packed = packing.bitmap(codes)
    assert np.array_equal(packing.from_bitmap(packed, count), codes)
    assert len(packed.kept) + len(packed.signs) == -(-count // 8) + -(-int(np.count_nonzero(codes)) // 8)


def test_digits_by_hand():
    assert packing.trits(np.array([1, 0, -1, 1, -1, 1], np.int8)).tolist() == [
        2 * 81 + 27 + 0 + 2 * 3 + 0,
        2 * 81 + 27 + 9 + 3 + 1,
    ]
    assert packing.two_bit(np.array([-1, 0, 1, 1, -1], np.int8)).tolist() == [1 + 8 + 48 + 192, 1 + 8 + 32 + 128]
    assert packing.nibbles(np.array([-7, 7, 0], np.int8)).tolist() == [16 + 15, 8 * 16 + 8]
    assert packing.bitmap(np.array([1, 0, -1], np.int8)) == (np.array([160]), np.array([64]))


def test_what_is_no_packed_code_is_refused():
    with pytest.raises(ValueError, match="beyond -1 to 1"):
        packing.trits(np.array([2], np.int8))
    with pytest.raises(ValueError, match="a byte of 243"):
        packing.from_trits(np.array([243], np.uint8), 5)
    with pytest.raises(ValueError, match="a pair is 0"):
        packing.from_two_bit(np.array([0], np.uint8), 1)
    with pytest.raises(ValueError, match="1 bytes for 6 codes; expected 2"):
        packing.from_trits(np.array([1], np.uint8), 6)
    assert packing.trit_table()[243:].tolist() == [[0] * 5] * 13


def test_only_three_values_a_row_to_the_last_bit_are_ternary():
    weight = np.float32([[0.3, 0, -0.3], [0, 0, 0], [2, 2, -2]])
    found = sizes.recovered(weight)
    assert found is not None
    assert np.array_equal(found.codes * found.scale[:, None], weight)
    for value in (np.nextafter(np.float32(0.3), np.float32(1)), np.nan, np.inf):
        other = weight.copy()
        other[0, 0] = value
        assert sizes.recovered(other) is None


def test_entropy_is_what_the_page_of_sizes_says():
    # Bits a weight at 50, 60, 80 and 90 % zeros.
    assert [round(sizes.ternary_entropy(z), 3) for z in (0.5, 0.6, 0.8, 0.9)] == [1.5, 1.371, 0.922, 0.569]
    assert (sizes.ternary_entropy(1), sizes.ternary_entropy(0)) == (0, 1)


@pytest.mark.parametrize("zeros", [0.5, 0.8])
def test_forms_of_a_ternary_matrix(zeros):
    draw = np.random.default_rng(1)
    signs = draw.choice(np.array([-1, 1], np.int8), (300, 500))
    codes = np.where(draw.random((300, 500)) < zeros, 0, signs).astype(np.int8)
    weight = codes * np.linspace(0.1, 1, 300, dtype=np.float32)[:, None]
    found = sizes.measure({"w": weight})
    assert found.raw == 4 * weight.size
    stored = min(packing.trits(codes.ravel()).nbytes, sum(part.nbytes for part in packing.bitmap(codes)))
    assert found.packed == stored + 4 * 300
    assert found.entropy < found.packed
    # No coder of ours comes near the bound; zstd over trits does.
    trits = packing.zstd(packing.trits(codes.ravel()).tobytes())
    assert found.entropy - 4 * 300 < len(trits) < 1.05 * (found.entropy - 4 * 300)


def test_a_pruned_matrix_and_a_file(tmp_path):
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    weight[np.random.default_rng(1).random(weight.shape) < 0.5] = 0
    found = sizes.measure({"w": weight})
    assert found.packed == 64 * 64 // 8 + 4 * int(np.count_nonzero(weight))
    assert found.entropy <= found.packed
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1000)
    assert sizes.measure(path)[:2] == (1000, 1000)
    assert sizes.measure(path).zstd < 50
