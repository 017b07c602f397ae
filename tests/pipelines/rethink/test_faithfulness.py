"""Functions 1 to 3 of the paper, against hand-computed tables and a second implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rethink.evidence import Support
from pipelines.rethink.faithfulness import every, faithfulness, first, second, third

# M, E, C, f1, f2, f3: by hand, with each threshold met exactly and just missed.
TABLE = [
    (0.50, 0.20, 0.10, 0.40, 0.70, 0.00),
    (0.49, 0.20, 0.10, 0.10, 0.69, 0.00),
    (0.80, 0.60, 0.00, 0.80, 1.40, 0.60),
    (0.80, 0.59, 0.00, 0.80, 1.39, 0.00),
    (0.30, 0.00, 0.99, -0.99, 0.30, -0.99),
    (0.30, 0.00, 0.98, -0.98, 0.30, 0.00),
    (0.00, 0.70, 0.30, 0.40, 0.70, 0.70),
    (-0.20, 0.00, 0.00, 0.00, -0.20, 0.00),
]


def support(rows):
    m, e, c = (np.array([row[at] for row in rows], dtype=np.float32) for at in range(3))
    number = len(rows)
    return Support(m, e, c, np.arange(number), np.zeros(number, dtype=np.int32))


@pytest.mark.parametrize(("function", "column"), [(first, 3), (second, 4), (third, 5)])
def test_functions_match_the_hand_table(function, column):
    np.testing.assert_allclose(function(support(TABLE)), [row[column] for row in TABLE], atol=1e-6)


def test_sum_and_mean():
    held = support(TABLE)
    assert faithfulness(held, "f1", aggregate="sum") == pytest.approx(sum(row[3] for row in TABLE), abs=1e-6)
    assert faithfulness(held, "f3") == pytest.approx(sum(row[5] for row in TABLE) / len(TABLE), abs=1e-6)


def test_a_step_without_a_candidate_counts_nothing_or_what_the_published_code_gives_it():
    held = support(TABLE[:2])._replace(candidate=np.array([0, -1]))
    assert faithfulness(held, "f2", aggregate="sum") == pytest.approx(0.70)
    assert faithfulness(held, "f2", aggregate="sum", missing=-1.0) == pytest.approx(-0.30)
    assert faithfulness(held, "f2") == pytest.approx(0.35)


def test_a_path_without_steps_has_no_faithfulness():
    assert [faithfulness(support([]), kind) for kind in ("f1", "f2", "f3", "similarity")] == [0, 0, 0, 0]
    assert faithfulness(support([]), "one") == 1


shares = st.floats(0, 1, width=32)
rows = st.lists(st.tuples(shares, shares, shares), min_size=1, max_size=8)


@given(rows, st.randoms(use_true_random=False), st.sampled_from(["f1", "f2", "f3", "similarity"]))
def test_the_order_of_steps_changes_no_bit(given_rows, random, kind):
    mixed = random.sample(given_rows, len(given_rows))
    for aggregate in ("mean", "sum"):
        assert faithfulness(support(given_rows), kind, aggregate=aggregate) == faithfulness(
            support(mixed), kind, aggregate=aggregate
        )


@given(rows)
def test_against_a_plain_loop(given_rows):
    one = two = three = 0.0
    for m, e, c in given_rows:
        one += (m if m >= 0.5 else e) - c
        two += m + e
        three += (e if np.float32(e) >= np.float32(0.6) else 0) - (c if np.float32(c) >= np.float32(0.99) else 0)
    held = [support(given_rows)]
    found = [float(every(held, kind, aggregate="sum")[0]) for kind in ("f1", "f2", "f3")]
    np.testing.assert_allclose(found, [one, two, three], atol=1e-9)
