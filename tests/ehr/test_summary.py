"""The summary of a record: its weights against a loop, and what it may not see."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ehr.summary import Summary, weights
from tests.ehr import test_model as whole

TOKENS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 10.0, 365.25, 400.0])), min_size=1, max_size=12)
BARE = np.array([0, 1, 1, 1, 4, 4])
"""Tokens 2 and 3 are values of code 1, 5 one of code 4."""
LEVEL = np.array([np.nan, np.nan, 0.25, 0.75, np.nan, 0.5], np.float32)


def arrays(record):
    ordered = sorted(record, key=lambda pair: pair[1])
    return torch.tensor([[token for token, _ in ordered]]), torch.tensor([[age for _, age in ordered]])


@given(TOKENS, st.integers(0, 12), st.sampled_from([400.0, 1_000.0]))
def test_weights_are_those_of_a_loop(record, end, now):
    token, age = arrays(record)
    seen = (torch.arange(token.shape[1]) < end)[None, None]
    height = np.nan_to_num(LEVEL - 0.5)
    held = [torch.from_numpy(part)[token] for part in (BARE, height)]
    found = weights(token, *held, seen, age, torch.tensor([[now]]))[0, 0]
    own = list(zip(token[0].tolist(), age[0].tolist(), strict=True))[:end]
    for at in range(token.shape[1]):
        expected = np.zeros(8)
        if at < end:
            code, when = own[at]
            same = [(other, then) for other, then in own if BARE[other] == BARE[code]]
            number = sum(other == code for other, _ in own)
            last = float(when == max(then for _, then in same))
            expected[:3] = math.log1p(number) / number, last, last * 2 ** (-(now - when) / 365.25)
            expected[5] = last * height[code]
            if code != BARE[code]:
                heights = [height[other] for other, _ in same if other != BARE[other]]
                most, least = (float(height[code] == edge(heights)) for edge in (max, min))
                expected[3:5] = most, least
                expected[6:] = height[code] / len(heights), (most + least) * height[code]
        assert np.allclose(found[:, at], expected, atol=1e-6)


def test_what_is_not_seen_changes_nothing():
    torch.manual_seed(0)
    summary = Summary(8, 6, 2, 0.5).eval()
    torch.nn.init.normal_(summary.wide)
    summary.know(BARE, LEVEL)
    table, age = torch.randn(6, 8), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    seen = torch.tensor([[[True, True, False, False]]])
    before, after = (
        summary(token, table[token], seen, age, torch.tensor([[5.0]]))
        for token in (torch.tensor([[1, 4, 2, 5]]), torch.tensor([[1, 4, 3, 0]]))
    )
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


@pytest.mark.parametrize(
    "holds",
    [
        whole.test_attention_never_crosses_segments,
        whole.test_order_of_codes_in_a_visit_is_nothing,
        whole.test_the_record_may_be_read_once_for_many_moments,
        whole.test_queries_do_not_read_each_other,
        whole.test_scorer_with_its_folded_table_is_the_model,
        whole.test_rows_of_padding_stay_finite_and_do_not_hang_on_their_length,
    ],
)
def test_what_holds_of_the_network_holds_with_a_summary(holds):
    holds(whole.network(summary=True))


def test_the_summary_tells_the_outcomes_something():
    """Two equal networks but for the summary answer differently, so the checks above cannot pass for want of it."""
    told = whole.network(summary=True)
    silent = whole.network()
    silent.load_state_dict(told.state_dict(), strict=False)
    rows = [[whole.sample(20)]]
    assert (whole.answers(told, rows, 20) - whole.answers(silent, rows, 20)).abs().max() > 1e-3
