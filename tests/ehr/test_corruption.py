"""Noise: what is asked is hidden, what is repeated weighs less, and nothing hangs on who draws it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.corruption import Corruption, Facts, await_events, choose, corrupt, denoising, facts, tightened
from ehr.timelines import Sample
from ehr.vocabulary import MASK, Vocabulary

NONE = Facts(np.arange(100), np.zeros(100, dtype=bool))


def sample(visits, subject=5, time=9):
    """A sample from lists of tokens; the first list is statics."""
    token = np.array([t for visit in visits for t in visit], dtype=np.int32)
    visit = np.array([i for i, v in enumerate(visits) for _ in v], dtype=np.int32)
    return Sample(subject, time, token, visit, visit.astype(np.float32) * 10, visit[-1] * 10.0)


def made(visits, *, one_way=True, known=NONE, seed=0, epoch=0, **settings):
    return corrupt(sample(visits), Corruption(**settings), known, seed=seed, epoch=epoch, one_way=one_way)


VISITS = [[3, 4], [10, 11], [12, 10], [13], [14, 15, 16], [10, 17]]


def test_all_visits_are_asked_for_as_sets_with_weights_for_what_is_new():
    _, asked = made(VISITS, targets=9, code_rate=0.0, repeat_weight=0.2)
    assert asked.visit.tolist() == [1, 2, 3, 4, 5]
    assert asked.age_days.tolist() == [10, 20, 30, 40, 50]
    triples = list(zip(asked.query, asked.target, asked.weight.round(3), strict=True))
    assert triples == [
        (0, 10, 1), (0, 11, 1), (1, 10, 0.2), (1, 12, 1), (2, 13, 1), (3, 14, 1), (3, 15, 1), (3, 16, 1), (4, 10, 0.2),
        (4, 17, 1),
    ]  # fmt: skip


def test_a_code_counts_as_repeated_by_its_family():
    family = np.arange(100)
    family[[20, 21]] = 19
    _, asked = made([[3], [20], [21, 22]], targets=9, known=Facts(family, np.zeros(100, dtype=bool)))
    assert asked.target.tolist() == [20, 21, 22]
    assert asked.weight.tolist() == pytest.approx([1, 0.2, 1])


def test_the_same_visit_is_no_history():
    family = np.arange(100)
    family[[20, 21]] = 19
    _, asked = made([[3], [20, 21]], targets=9, known=Facts(family, np.zeros(100, dtype=bool)))
    assert asked.weight.tolist() == [1, 1]


def test_the_type_of_a_visit_is_given_and_not_asked_for():
    opens = np.zeros(100, dtype=bool)
    opens[[30, 31]] = True
    _, asked = made([[3], [30, 10], [31], [11]], targets=9, known=Facts(np.arange(100), opens))
    assert asked.visit.tolist() == [1, 3]  # a visit without codes is not asked for
    assert asked.type.tolist() == [30, 0]
    assert asked.target.tolist() == [10, 11]


def test_specials_are_never_asked_for():
    _, asked = made([[3], [1, 2, 10]], targets=9)
    assert asked.target.tolist() == [10]


def test_one_way_keeps_visits_and_both_ways_leaves_one_mask_each():
    read, _ = made(VISITS, targets=9, code_rate=0.0)
    assert read.token.tolist() == [token for visit in VISITS[:-1] for token in visit]
    masked, asked = made(VISITS, targets=9, code_rate=0.0, one_way=False)
    assert masked.token.tolist() == [3, 4, *[MASK] * 5]
    assert masked.visit.tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert len(asked.visit) == 5


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 50))
def test_masks_do_not_tell_the_size_of_a_set(sizes, seed):
    small = [[3], *([10 + i] for i in range(len(sizes)))]
    large = [[3], *([10 + i * 6 + j for j in range(n)] for i, n in enumerate(sizes))]
    how = {"one_way": False, "targets": len(sizes), "code_rate": 0.0, "seed": seed}
    assert made(small, **how)[0].token.tolist() == made(large, **how)[0].token.tolist()


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 5))
def test_what_no_query_reads_is_left_out(visits, seed, targets):
    given = sample([[3], *([10 + i, 20 + i] for i in range(visits))])
    read, asked = corrupt(given, Corruption(targets=targets), NONE, seed=seed, epoch=0, one_way=True)
    assert len(read.token) == (given.visit < asked.visit.max()).sum()
    assert read.visit.tolist() == given.visit[: len(read.token)].tolist()
    assert read.query_age_days == given.query_age_days


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(0, 3))
def test_samples_that_were_cut_share_fewer_rows(sizes, seed):
    parts = [(sample([[3] * size], subject=at), made(VISITS, seed=seed)[1]) for at, size in enumerate(sizes)]
    rows, width = tightened([parts[::2], parts[1::2]])
    held = [sum(len(one.token) for one, _ in row) for row in rows]
    assert sorted(one.subject for row in rows for one, _ in row) == list(range(len(sizes)))
    assert max(sizes) <= width
    assert max(held) <= width
    # First fit leaves no two rows that could be one.
    assert all(a + b > width for at, a in enumerate(held) for b in held[:at])
    assert tightened([]) == ([], 16)
    # Nothing is read before a first visit without statics, and one token holds the sample's place.
    assert len(corrupt(sample([[], [10, 11]]), Corruption(), NONE, seed=0, epoch=0, one_way=True)[0].token) == 1


def test_statics_are_never_hidden_and_codes_are_at_their_rate():
    visits = [[3, 4, 5], *([10 + i % 50] for i in range(4000))]
    hidden, _ = made(visits, code_rate=0.15, targets=1, last=1.0)
    assert hidden.token[:3].tolist() == [3, 4, 5]
    assert 0.13 < (hidden.token == MASK).mean() < 0.17
    everything, _ = made(visits, code_rate=1.0, targets=1, last=1.0)
    assert (everything.token[3:] == MASK).all()


def test_noise_hangs_on_seed_epoch_subject_and_cut():
    def noise(seed=0, epoch=0, subject=5, time=9):
        given = sample([[3], *([10 + i] for i in range(60))], subject, time)
        hidden, asked = corrupt(given, Corruption(), NONE, seed=seed, epoch=epoch, one_way=True)
        return hidden.token.tolist(), asked.visit.tolist()

    assert noise() == noise()
    others = [noise(seed=1), noise(epoch=1), noise(subject=6), noise(time=8)]
    assert all(noise() != other for other in others)


def test_visits_are_chosen_last_scattered_or_as_a_span():
    settings = Corruption(targets=3, last=0.5)
    chosen = [choose(20, settings, np.random.default_rng(seed)) for seed in range(600)]
    assert all(len(set(c.tolist())) == 3 and (np.diff(c) > 0).all() for c in chosen)
    last = np.mean([19 in c for c in chosen])
    spans = np.mean([c[2] - c[0] == 2 for c in chosen])
    # Last by intent in half, and by chance: in the scattered 3/20 and in spans 1/18 of a quarter each.
    assert last == pytest.approx(0.5 + 0.25 * (3 / 20 + 1 / 18), abs=0.06)
    assert spans == pytest.approx(0.25, abs=0.06)
    assert choose(0, settings, np.random.default_rng(0)).tolist() == []
    assert choose(1, settings, np.random.default_rng(0)).tolist() == [0]


def test_queries_point_into_the_flattened_rows():
    one, two, three = made(VISITS, targets=9), made(VISITS[:3], targets=9), made(VISITS[:2], targets=9)
    batch = denoising([[one, two], [three]], 32)
    assert batch.query_segment.tolist() == [[1] * 5 + [2] * 2, [1] + [0] * 6]
    assert batch.query_visit.tolist() == [[1, 2, 3, 4, 5, 1, 2], [1, 0, 0, 0, 0, 0, 0]]
    assert batch.target_query.tolist() == [0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert (np.diff(batch.target_query) >= 0).all()
    assert batch.target[-2:].tolist() == [10, 11]


def test_families_are_categories_and_bare_codes_but_not_chapters():
    codes = ("[PAD]", "[UNK]", "[MASK]", "ICD10CM//I50.9", "ICD10CM//I50", "ICD10CM//I00-I99", "LAB//A", "LAB//A#q1",
             "VISIT//IP//START", "VISIT//IP//END")  # fmt: skip
    ancestors = ((), (), (), (4, 5), (5,), (), (), (6,), (), ())
    vocabulary = Vocabulary(codes=codes, patients=(0,) * 10, cuts={}, ancestors=ancestors)
    known = facts(vocabulary)
    assert known.family.tolist() == [0, 1, 2, 4, 4, 5, 6, 6, 8, 9]
    assert np.flatnonzero(known.visit_type).tolist() == [8]


@pytest.mark.parametrize("wrong", [{"targets": 0}, {"last": 1.5}, {"code_rate": -0.1}, {"repeat_weight": 2}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"corruption.{next(iter(wrong))} is .*expected"):
        Corruption(**wrong)


def awaiting(visits, **settings):
    how = {"seed": 0, "epoch": 0, "one_way": True, "ahead": True}
    return corrupt(sample(visits), Corruption(**settings), NONE, **how)


def test_what_comes_next_is_awaited_from_a_moment_since_the_visit_before():
    _, asked = awaiting(VISITS, targets=9, code_rate=0.0)
    held = asked.awaited
    # No moment before the first visit, whose past has no date.
    assert held.before.tolist() == [2, 3, 4, 5]
    passed = held.age_days - np.array([10, 20, 30, 40])
    assert ((passed >= 0) & (passed <= 10)).all()
    assert len(set(passed.round(3).tolist())) == 4
    assert np.allclose(held.age_days + held.censor_days, 50)
    for at, expected in enumerate(({12: 20, 10: 20, 13: 30}, {13: 30, 14: 40, 16: 40, 10: 50, 17: 50})):
        own = held.query == at
        comes = dict(zip(held.event[own].tolist(), (held.age_days[at] + held.days[own]).round(3).tolist(), strict=True))
        assert {code: comes[code] for code in expected} == expected


def test_moments_lie_anywhere_between_two_visits():
    part = np.array([0.0, 0.25, 1.0])
    held = await_events(sample([[3], [10], [11], [12]]), np.array([2, 3, 3]), part)
    assert held.age_days.tolist() == [10, 22.5, 30]
    assert held.censor_days.tolist() == [20, 7.5, 0]
    assert held.days.tolist() == [10, 20, 7.5, 0]


def test_moments_of_packed_rows_keep_to_their_sample():
    parts = [awaiting(VISITS, targets=9), awaiting([[3], [10], [11]], targets=9), awaiting([[3], [10]], targets=9)]
    batch = denoising([[parts[0], parts[1]], [parts[2]]], 40)
    later = batch.later
    assert later.segment.tolist() == [[1, 1, 1, 1, 2], [0, 0, 0, 0, 0]]
    assert later.before.tolist() == [[2, 3, 4, 5, 2], [0] * 5]
    assert later.query.max() == 4
    assert (np.diff(later.query) >= 0).all()
    assert denoising([[made(VISITS)]], 40).later is None
