"""Packing: every sample once, no row too full, little padding, the same for everyone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import batches
from ehr.batches import Layout, bucket, collate, pack, pad, plan, row_width
from ehr.timelines import Sample


def sample(subject, length, *, first=0):
    """A sample whose tokens tell whose they are."""
    token = np.arange(first, first + length, dtype=np.int32) + 3
    visit = np.arange(length, dtype=np.int32) // 3
    return Sample(subject, subject * 10, token, visit, visit.astype(np.float32), float(length))


def skewed(count, seed=0):
    draw = np.random.default_rng(seed)
    return np.clip(np.round(np.exp(draw.normal(np.log(64), 1, count))), 1, 512).astype(np.int64)


def order(lengths, **how):
    return [at for layout in plan(lengths, **how) for at in layout.order]


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=200),
    st.integers(1, 3000),
    st.integers(1, 64),
    st.integers(0, 5),
)
def test_each_sample_is_packed_once_and_fits(lengths, tokens, buffer, seed):
    lengths = np.array(lengths, dtype=np.int64)
    layouts = list(plan(lengths, tokens=tokens, buffer=buffer, seed=seed))
    assert sorted(at for layout in layouts for at in layout.order) == list(range(len(lengths)))
    for layout in layouts:
        assert all(sum(lengths[at] for at in row) <= layout.width for row in layout.rows)
        assert len(layout.rows) == 1 or len(layout.rows) * layout.width <= tokens


@given(st.integers(1, 5000))
def test_rows_are_wide_enough_and_not_twice_as_wide(length):
    assert length <= row_width(length) < 2 * length + 16
    assert length <= bucket(length) < 2 * max(length, 33)


def test_buckets_are_the_widths_of_scoring():
    assert [bucket(n) for n in (1, 64, 65, 512, 513, 2048, 2049, 5000)] == [64, 64, 128, 512, 1024, 2048, 4096, 8192]


def test_padding_is_small_on_skewed_lengths():
    lengths = skewed(8192)
    positions = sum(layout.width * len(layout.rows) for layout in plan(lengths, tokens=4096, seed=1))
    assert 1 - lengths.sum() / positions <= 0.05


def test_a_row_takes_the_longest_samples_that_still_fit():
    lengths = np.array([60, 30, 20, 9, 5, 4])
    # Width 64 opens with 60 and has room for 4; width 32 follows with 30; then 20 with 4 left, of 24.
    assert list(batches.packed(np.arange(6), lengths)) == [(64, (0, 5)), (32, (1,)), (24, (2,)), (16, (3, 4))]


def test_order_hangs_on_seed_and_epoch_alone():
    lengths = skewed(500)
    how = {"tokens": 2048, "buffer": 128}
    assert order(lengths, seed=1, epoch=2, **how) == order(lengths, seed=1, epoch=2, **how)
    assert order(lengths, seed=1, epoch=2, **how) != order(lengths, seed=1, epoch=3, **how)
    assert order(lengths, seed=1, epoch=2, **how) != order(lengths, seed=2, epoch=2, **how)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_parts_of_all_processes_make_the_whole_batch(world):
    for layout in plan(skewed(300), tokens=2048, seed=3):
        parts = [layout.part(rank, world) for rank in range(world)]
        assert sorted(row for part in parts for row in part.rows) == sorted(layout.rows)


def test_noise_differs_in_every_word():
    def first(*words):
        return int(batches.generator(*words).integers(2**62))

    words = (3, 5, 7, 11)
    assert first(*words) == first(*words)
    changed = [tuple(w + (i == at) for i, w in enumerate(words)) for at in range(4)]
    assert len({first(*words), *(first(*c) for c in changed)}) == 5
    assert first(3, 5, -7, 11) != first(3, 5, 7, 11)


def test_collate_lays_samples_out_in_row_major_order():
    rows = [[sample(1, 3), sample(2, 2, first=10)], [sample(3, 4, first=20)]]
    batch = collate(rows, 6)
    assert batch.token.tolist() == [[3, 4, 5, 13, 14, 0], [23, 24, 25, 26, 0, 0]]
    assert batch.segment.tolist() == [[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]]
    assert batch.visit.tolist() == [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert batch.subject.tolist() == [1, 2, 3]
    assert batch.prediction_time.tolist() == [10, 20, 30]
    assert batch.query_age_days.tolist() == [3, 2, 4]
    kinds = [array.dtype.name for array in batch]
    assert kinds == ["int64", "int32", "int32", "float32", "int64", "int64", "float32"]


def test_a_part_without_rows_is_one_row_of_padding():
    batch = collate([], 8)
    assert batch.token.shape == (1, 8)
    assert not batch.segment.any()
    assert len(batch.subject) == 0


def test_pack_holds_every_token_once():
    samples = [sample(i, n, first=i) for i, n in enumerate(skewed(300, seed=5))]
    packed = list(pack(samples, tokens=1024, seed=2))
    seen = np.concatenate([batch.token[batch.token > 0] for batch in packed])
    assert np.array_equal(np.sort(seen), np.sort(np.concatenate([s.token for s in samples])))
    assert sorted(np.concatenate([batch.subject for batch in packed])) == list(range(300))


def test_pad_gives_a_fixed_shape():
    token, visit, age_days, query_age_days = pad([sample(1, 3), sample(2, 0)], length=4, rows=3)
    assert token.tolist() == [[3, 4, 5, 0], [0] * 4, [0] * 4]
    assert visit.shape == age_days.shape == (3, 4)
    assert query_age_days.tolist() == [3, 0, 0]


def test_a_layout_of_one_row_goes_to_the_first_process():
    layout = Layout(64, ((1, 2),))
    assert layout.part(0, 2).rows == ((1, 2),)
    assert layout.part(1, 2).rows == ()
