"""Weights of futures: nothing where evidence and model agree, more where it speaks for a step, whatever the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.grammar import CODE, IMPOSSIBLE, OPENS, Grammar
from ehr.timelines import DAY, STATIC, Record, Sample
from ehr.vocabulary import Vocabulary
from pipelines.rethink.patients.arms import Scales, near_rate, plain, tune, weighted
from pipelines.rethink.patients.asking import Slot
from pipelines.rethink.patients.cases import Case, Steps
from pipelines.rethink.patients.contradictions import contradicted, rules_of
from pipelines.rethink.patients.evidence import Evidence
from pipelines.rethink.patients.settings import Contradictions, Rethinking
from pipelines.rethink.patients.steps import own, steps_of
from pipelines.rethink.patients.weighing import held_of, interval, log_weights, support, weights

SIZE = 8
SETTINGS = Rethinking(samples=20, floor_least=1.0, floor_share=0.05)
SLOT = Slot("first", 365, 0.0, False, (0,))


def evidence(count, total):
    """Return evidence of neighbours alone."""
    near = np.asarray(count, dtype=float)
    label = np.array([near[0]])
    return Evidence(np.arange(total), near, np.zeros(SIZE), 0, label, np.array([float(total)]))


def futures(held):
    """Return futures by a table of which holds which step."""
    future, step = np.nonzero(held)
    return held_of(future, step, len(held), np.ones(len(held), dtype=bool))


def case(held, backing):
    """Return a patient whose first step is the outcome."""
    reached = held[:, :1]
    sample = Sample(1, 0, np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32), 1.0)
    none = Steps(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    ones = np.ones_like(reached)
    return Case(sample, none, futures(held), {}, ones, reached, reached * 1.0, reached * 1.0, backing)


tables = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).random((20, SIZE)) < 0.4)


@given(tables, st.floats(0, 1))
def test_agreement_weighs_nothing(held, temper):
    """Neighbours as the futures are: every ratio is 1, and the estimate the mean."""
    agreed = evidence(held.mean(axis=0) * 100, 100)
    one = case(held, agreed)
    log = log_weights(one.futures, agreed, SETTINGS)
    assert np.allclose(log, 0, atol=1e-12)
    found = weighted(one, Scales(log, {}, log), [SLOT], "indicator", temper, SETTINGS)
    assert np.isclose(found[0], held[:, 0].mean(), atol=1e-12)


@given(tables, st.integers(0, 100))
def test_temper_0_is_the_mean_bit_for_bit(held, seed):
    count = np.random.default_rng(seed).integers(0, 101, SIZE)
    one = case(held, evidence(count, 100))
    log = log_weights(one.futures, one.evidence, SETTINGS)
    found = weighted(one, Scales(log, {}, log), [SLOT], "indicator", 0.0, SETTINGS)
    assert found[0] == held[:, 0].astype(float).mean() == plain(one, "indicator")[0]


@given(tables, st.integers(0, 100), st.floats(0.1, 1))
def test_evidence_for_a_step_raises_it(held, seed, temper):
    """The more neighbours have the outcome, the higher its probability; what else they have is as it is."""
    count = np.random.default_rng(seed).integers(0, 101, SIZE)
    found = []
    for first in (0, 20, 60, 100):
        count[0] = first
        one = case(held, evidence(count, 100))
        log = log_weights(one.futures, one.evidence, SETTINGS)
        # No floor here: a temper that is lowered would compare two tempers.
        free = Rethinking(samples=20, floor_least=0.0, floor_share=0.0)
        found.append(weighted(one, Scales(log, {}, log), [SLOT], "indicator", temper, free)[0])
    assert (np.diff(found) >= -1e-12).all()


@given(tables, st.integers(0, 100), st.integers(0, 100))
def test_the_order_of_futures_changes_nothing(held, seed, turn):
    count = np.random.default_rng(seed).integers(0, 101, SIZE)
    backing = evidence(count, 100)
    order = np.random.default_rng(turn).permutation(len(held))
    log = log_weights(futures(held), backing, SETTINGS)
    assert np.array_equal(log[order], log_weights(futures(held[order]), backing, SETTINGS))
    assert np.allclose(
        support(futures(held), backing, SETTINGS)[order], support(futures(held[order]), backing, SETTINGS)
    )


def test_a_ratio_by_hand():
    """Two futures of four hold the step; 80 of 100 neighbours do."""
    held = np.zeros((4, SIZE), dtype=bool)
    held[:2, 0] = True
    log = log_weights(futures(held), evidence([80, *[0] * 7], 100), Rethinking(samples=4))
    backed = (80 + 10 * 0.5) / 110
    there, lacked = np.log(0.5 + 0.5 * backed / 0.5), np.log(0.5 + 0.5 * (1 - backed) / 0.5)
    assert np.allclose(log, [there, there, lacked, lacked])


@settings(max_examples=30)
@given(tables, st.integers(0, 100))
def test_the_floor_is_kept(held, seed):
    count = np.random.default_rng(seed).choice([0, 100], SIZE)
    strict = Rethinking(samples=20, floor_share=0.9, floor_least=5.0)
    log = log_weights(futures(held), evidence(count, 100), strict)
    found = weights(log, 1.0, np.ones(20, dtype=bool), strict)
    assert found.size >= 18 - 1e-6
    assert np.isclose(found.weight.sum(), 1)
    assert found.lowered == (found.temper < 1.0)


def test_what_is_ruled_out_has_no_weight():
    held = np.random.default_rng(0).random((20, SIZE)) < 0.4
    allowed = np.ones(20, dtype=bool)
    allowed[:5] = False
    found = weights(np.zeros(20), 1.0, allowed, SETTINGS)
    assert (found.weight[:5] == 0).all()
    one = case(held, evidence([50] * SIZE, 100))
    one = one._replace(futures=one.futures._replace(allowed=allowed))
    zero = np.zeros(20)
    assert weighted(one, Scales(zero, {}, zero), [SLOT], "indicator", 1.0, SETTINGS)[0] == held[5:, 0].mean()
    none = weights(zero, 1.0, np.zeros(20, dtype=bool), SETTINGS)
    assert none.refused
    assert np.allclose(none.weight, 1 / 20)


def test_the_temper_is_that_of_the_least_loss():
    """Where neighbours know the outcome and futures do not, the highest temper wins; where they mislead, none."""
    draw = np.random.default_rng(0)
    truth = draw.random(60) < 0.5
    held = [np.concatenate([draw.random((20, 1)) < 0.5, np.zeros((20, SIZE - 1), bool)], axis=1) for _ in truth]
    for told, expected in ((truth, 1.0), (~truth, 0.0)):
        cases = [case(h, evidence([90 if y else 10, *[0] * 7], 100)) for h, y in zip(held, told, strict=True)]
        tuned = tune(cases, truth[:, None].astype(float), [SLOT], Rethinking(samples=20))
        assert tuned.temper["indicator"] == expected
        assert tuned.share == expected
    assert near_rate(cases[0].evidence, np.array([0.5]))[0] == pytest.approx((cases[0].evidence.outcome[0] + 0.5) / 101)


def test_intervals_hold_the_mean_and_shrink():
    value = (np.arange(400) % 4 == 0).astype(float)
    wide, narrow = (interval(np.ones(n), value[:n], 500, 0) for n in (20, 400))
    assert wide[0] < 0.25 < wide[1]
    assert narrow[0] < 0.25 < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert all(np.isnan(interval(np.zeros(4), np.ones(4), 10, 0)))


def test_windows_of_the_own_past():
    """Three whole windows of 100 days before day 1000; the fourth is not filled, and the day itself is not past."""
    days = [650, 720, 850, 990, 995, 1000, 1010]
    token = np.array([1, 1, 2, 1, 1, 3, 4], dtype=np.int32)
    time = np.array([STATIC, *(day * DAY for day in days)])
    whole = np.concatenate([[5], token]).astype(np.int32)
    record = Record(1, whole, np.zeros(8, np.int32), np.zeros(8, np.float32), time, 0)
    count, windows = own(record, 1000 * DAY, np.arange(SIZE), 100.0, 5)
    assert windows == 3
    assert count.tolist() == [0, 2, 1, 0, 0, 0, 0, 0]
    assert own(record, 1000 * DAY, np.arange(SIZE), 100.0, 1)[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert own(record, 600 * DAY, np.arange(SIZE), 100.0, 5)[1] == 0


CODES = (
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "SEX//M",
    "ICD10CM//O80",
    "ICD10CM//N40.0",
    "ICD10PCS//0DTJ4ZZ",
    "VISIT//OP//START",
)


def test_steps_are_codes_and_rare_ones_their_kind():
    codes = (*CODES, "LOINC//1", "LOINC//1#q0", "ICD10CM//N40")
    vocabulary = Vocabulary(
        codes=codes,
        patients=(0, 0, 0, 50, 90, 5, 90, 90, 90, 90, 0),
        cuts={"LOINC//1": ()},
        ancestors=((), (), (), (), (), (10,), (), (), (), (8,), ()),
    )
    kind = np.array([IMPOSSIBLE] * 4 + [CODE] * 3 + [OPENS] + [CODE] * 2 + [IMPOSSIBLE])
    found = steps_of(vocabulary, Grammar(kind, np.full(len(codes), -1)), rare=20)
    assert found.tolist() == [-1, -1, -1, -1, 4, 10, 6, -1, 8, 8, -1]


def test_contradictions_by_hand():
    """A man of 40 whose appendix is out."""
    vocabulary = Vocabulary(codes=CODES, patients=(1,) * 8, cuts={}, ancestors=((),) * 8)
    rules = rules_of(vocabulary, Contradictions())
    record = np.array([3, 6], dtype=np.int32)
    man = Sample(1, 0, record, np.zeros(2, np.int32), np.zeros(2, np.float32), 40 * 365.25)
    future = np.array([0, 1, 2, 3, 3])
    token = np.array([4, 5, 6, 7, 5])
    days = np.full(5, 10.0)
    assert contradicted(rules, man, future, token, days, 5).tolist() == [True, False, True, False, False]
    woman = man._replace(token=np.array([7], dtype=np.int32), query_age_days=61 * 365.25)
    # Nothing says that this is a man; the age does not fit, and an appendix is out once.
    assert contradicted(rules, woman, future, token, days, 5).tolist() == [True, False, False, False, False]
    twice = contradicted(rules, woman, np.array([1, 1]), np.array([6, 6]), np.array([1.0, 2.0]), 2)
    assert twice.tolist() == [False, True]
