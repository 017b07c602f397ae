"""Examples inside rows: numbers, sums, places."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robust.draws import Draws
from robust.examples import apart, packed
from tests.robust.cases import SEGMENT, WIDTH, rows, six


def test_numbers_follow_rows_and_segments():
    assert six().place.tolist() == [[0, 0, 0, 1, 1, -1], [2, 3, 3, 3, 3, 4], [5] * 6]
    assert six().number == 6
    assert six().sizes().tolist() == [3, 2, 1, 4, 1, 6]


def test_masked_positions_belong_to_nobody():
    mask = SEGMENT != 2
    found = packed(SEGMENT, mask)
    assert found.place.tolist() == [[0, 0, 0, -1, -1, -1], [2, -1, -1, -1, -1, 4], [5] * 6]
    assert found.sizes().tolist() == [3, 0, 1, 0, 1, 6]
    assert found.number == 6


def test_answers_are_numbered_as_logits_are():
    asked = torch.tensor([[1, 1, 2], [3, 0, 0], [1, 1, 0]])
    found = packed(SEGMENT, asked=asked)
    assert found.answers is not None
    assert found.answers.tolist() == [0, 0, 1, 4, 5, 5]
    value = torch.arange(6.0)
    assert found.of_answers(value).tolist() == [1, 2, 0, 0, 3, 9]
    assert found.worst_of_answers(value, -7.0).tolist() == [1, 2, -7, -7, 3, 5]


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(0, 1000))
def test_sums_and_largest_are_those_of_a_loop(width, seed):
    value = torch.rand(3, 6, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    examples = six()
    for example in range(examples.number):
        own = value[examples.place == example]
        assert torch.isclose(examples.total(value)[example], own.sum())
        assert examples.largest(value)[example] == (own.max() if own.numel() else 0)


def test_spread_reaches_every_part_and_no_other():
    x = rows()
    value = torch.arange(1.0, 7.0, dtype=torch.float64)
    wide = six().spread(value, x).expand_as(x)
    assert (wide[SEGMENT == 0] == 0).all()
    for example in range(6):
        assert (wide[six().place == example] == value[example]).all()


def test_elements_count_inside_their_example():
    number = six().element(rows())
    for example in range(6):
        own = number[six().place == example].flatten()
        assert own.tolist() == list(range(len(own)))
    assert apart(torch.zeros(2, 3, 4)).element(torch.zeros(2, 3, 4))[1].flatten().tolist() == list(range(12))


def test_noise_does_not_hang_on_packing():
    x, ids = rows(), torch.tensor([5, 3, 9, 1, 0, 7])
    together = Draws(3).elements(x, six(ids))
    for example in range(6):
        own = x[six().place == example][None]
        alone = Draws(3).elements(
            own, packed(torch.ones(own.shape[:2], dtype=torch.int64), ids=ids[example : example + 1])
        )
        assert torch.equal(alone[0], together[six().place == example])


def test_noise_does_not_hang_on_the_batch():
    ids = torch.tensor([4, 8, 15, 16])
    x = torch.zeros(4, 3)
    together = Draws(1).normal(x, apart(x, ids))
    assert torch.equal(Draws(1).normal(x[1:3], apart(x[1:3], ids[1:3])), together[1:3])


@settings(max_examples=20)
@given(st.integers(-(2**70), 2**70), st.integers(0, 10))
def test_streams_are_uniform_and_differ(seed, number):
    ids = torch.arange(200)
    drawn = Draws(seed).fork(number).uniform(ids, 50, torch.float64)
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 1
    assert abs(float(drawn.mean()) - 0.5) < 0.02
    assert abs(float(drawn.var()) - 1 / 12) < 0.01
    assert not torch.equal(drawn, Draws(seed).fork(number + 1).uniform(ids, 50, torch.float64))


def test_streams_are_uniform_by_chi_square():
    from scipy.stats import chisquare

    drawn = Draws(0).uniform(torch.arange(1000), 100, torch.float64)
    assert chisquare(torch.histc(drawn, 100, 0, 1).numpy()).pvalue > 1e-4
    # Neighbours along ids and along places are not alike.
    for a, b in ((drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1])):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.02


def test_normal_numbers_are_normal():
    from scipy.stats import kstest

    x = torch.zeros(100, 100, dtype=torch.float64)
    assert kstest(Draws(2).normal(x, apart(x)).flatten().numpy(), "norm").pvalue > 1e-4


def test_whole_numbers_stay_below_their_bound():
    below = torch.arange(1, 101)
    drawn = torch.stack([Draws(0).fork(n).whole(below, below) for n in range(200)])
    assert (drawn >= 0).all()
    assert (drawn < below).all()
    assert drawn[:, 1].float().mean() > 0.3


def test_width_of_features_is_kept():
    assert six().element(rows()).max() == 6 * WIDTH - 1
