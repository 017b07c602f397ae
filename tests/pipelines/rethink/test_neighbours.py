"""Exact neighbours, against a full sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rethink.neighbours import nearest, unit


def reference(query, pool, k, own=None):
    made = []
    for at, row in enumerate(query):
        value = (pool @ row).astype(np.float64)
        order = [place for place in np.argsort(-value, kind="stable") if own is None or place != own[at]][:k]
        made.append(order + [-1] * (k - len(order)))
    return np.array(made)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.booleans())
def test_against_a_full_sort(seed, number, k, block, leave_out):
    draw = np.random.default_rng(seed)
    # Whole numbers: products are exact, so that ties are ties in both.
    query, pool = (draw.integers(-3, 4, (rows, 4)).astype(np.float32) for rows in (7, number))
    own = draw.integers(-1, number, 7) if leave_out else None
    found = nearest(query, pool, k, own=own, block=block, queries=3)
    np.testing.assert_array_equal(found.place, reference(query, pool, k, own))
    inside = found.place >= 0
    value = np.einsum("qkw,qw->qk", pool[np.maximum(found.place, 0)], query)
    np.testing.assert_array_equal(found.similarity[inside], value[inside])
    assert np.isneginf(found.similarity[~inside]).all()


def test_cosine_and_wrong_widths():
    held = unit(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(held, [[0.6, 0.8], [0, 0]])
    with pytest.raises(ValueError, match="embed both alike"):
        nearest(held, np.ones((2, 3), dtype=np.float32), 1)
    with pytest.raises(ValueError, match="1 or more"):
        nearest(held, held, 0)
    assert nearest(held[:0], held, 2).place.shape == (0, 2)
