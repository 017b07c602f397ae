"""Futures: the cache is recomputing, the law is kept, nothing impossible is drawn, and noise is a future's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.batches import collate
from ehr.corruption import Asked, denoising
from ehr.generation import DEATH, HORIZON, LIMIT, Drawing, State, draw, prompts_of, sample
from ehr.grammar import CLOSES, ENDS, IMPOSSIBLE, LOWER_DAYS, OPENS, UPPER_DAYS, time_bin
from ehr.model import Anamnesis
from tests.ehr import futures
from tests.ehr.futures import AMBULANT, DEAD, IN, OUT, SEX, SIZE, batch_of, tensors

YEAR = 365.25


@pytest.fixture(scope="module")
def model():
    return futures.network()


def drawn(model, rows, **how):
    settings = {"horizon_days": 5 * YEAR, "samples": 3, "seed": 4, "max_tokens": 30, **how}
    return sample(model, batch_of(rows), **settings)


def of(found, number):
    return np.flatnonzero(found.future == number)


def recomputed(model, given, found, number):
    """Return the law before each step of a future, read in one pass of the training forward, [steps, V + G]."""
    prompt = prompts_of(batch_of([[given]]))[0]
    steps = of(found, number)
    codes = steps[found.token[steps] < SIZE]
    token = np.concatenate([prompt.token, found.token[codes]]).astype(np.int32)
    age = np.concatenate([prompt.age_days, found.age_days[codes]]).astype(np.float32)
    order = np.where(np.concatenate([prompt.visit, np.ones(len(codes))]) > 0, np.arange(1, len(token) + 1), 0)
    read = given._replace(token=token, visit=order.astype(np.int32), age_days=age)
    there = len(prompt.token) + np.concatenate([[0], np.cumsum(found.token[steps] < SIZE)[:-1]])
    asked_at = np.concatenate([[prompt.age_days[-1]], found.age_days[steps][:-1]]).astype(np.float32)
    nothing = np.zeros(len(steps), dtype=np.int64)
    asked = Asked(
        *((there + 1).astype(np.int32), asked_at, nothing, np.arange(len(steps)), nothing, nothing.astype(np.float32))
    )
    with torch.no_grad():
        answer, _, table, _ = model.pretrain(tensors(denoising([[(read, asked)]], len(token))))
        output, bias = model.law(table)
        return answer @ output.T + bias


def constrained(logit, given, found, number):
    """Return laws under the grammar, in loops."""
    rules = futures.rules()
    prompt = prompts_of(batch_of([[given]]))[0]
    counts = {0: 0, 1: 0}
    held: set[int] = set()
    laws = []
    for token in prompt.token:
        step(rules, counts, held, int(token))
    silent, started = given.query_age_days - float(prompt.age_days[-1]), False
    for row, at in zip(logit, of(found, number), strict=True):
        allowed = np.zeros(len(row), dtype=bool)
        for token in range(SIZE if started else 0):
            kind, partner = rules.kind[token], int(rules.partner[token])
            fits = kind != IMPOSSIBLE and token not in held
            fits = fits and not (kind == OPENS and held) and not (kind == CLOSES and counts[partner] == 0)
            allowed[token] = fits
        for number_, upper in enumerate(UPPER_DAYS):
            allowed[SIZE + number_] = bool(held) if started else upper > silent
        laws.append(torch.log_softmax(torch.where(torch.from_numpy(allowed), row, -torch.inf), dim=-1))
        token = int(found.token[at])
        if token >= SIZE:
            held, started = set(), True
        else:
            held = held | {token}
            step(rules, counts, held, token)
    return torch.stack(laws)


def step(rules, counts, held, token):
    partner = int(rules.partner[token])
    if rules.kind[token] == OPENS:
        counts[partner] += 1
    if rules.kind[token] == CLOSES:
        counts[partner] = max(0, counts[partner] - 1)


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 40), st.integers(0, 999))
def test_the_cache_gives_what_recomputing_gives(model, length, seed):
    given = futures.sample(length, seed)
    found = drawn(model, [[given]], samples=2, seed=seed, followed=[[9, 10], [DEAD]])
    for number in range(2):
        at = of(found, number)
        if not len(at):
            continue
        law = constrained(recomputed(model, given, found, number), given, found, number)
        expected = law[torch.arange(len(at)), torch.from_numpy(found.token[at])]
        assert np.allclose(found.log_probability[at], expected.numpy(), atol=2e-4)
        both = torch.stack([law.exp()[:, [9, 10]].sum(1), law.exp()[:, DEAD]], dim=1)
        assert np.allclose(found.followed[at], both.numpy(), atol=1e-4)


@settings(deadline=None, max_examples=4)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 999))
def test_no_impossible_token_is_drawn(model, lengths, seed):
    given = [futures.sample(n, seed + i, subject=i) for i, n in enumerate(lengths)]
    found = drawn(model, [given], seed=seed, samples=4)
    rules = futures.rules()
    for number in range(4 * len(given)):
        prompt = given[number // 4]
        counts = {0: 0, 1: 0}
        for token in prompt.token:
            step(rules, counts, set(), int(token))
        held, age, visit = set(), -np.inf, prompt.visit.max()
        at = of(found, number)
        assert not len(at) or found.token[at[0]] >= SIZE
        for token, now, where in zip(found.token[at], found.age_days[at], found.visit[at], strict=True):
            assert prompt.query_age_days - 1e-2 <= now <= prompt.query_age_days + 5 * YEAR + 1e-2
            assert now >= age
            if token >= SIZE:
                held, visit = set(), visit + 1
            else:
                assert token not in held
                assert rules.kind[token] != IMPOSSIBLE
                assert token != SEX
                assert rules.kind[token] != OPENS or not held
                assert rules.kind[token] != CLOSES or counts[int(rules.partner[token])] > 0
                held.add(int(token))
                step(rules, counts, held, int(token))
            assert where == visit
            age = now
        dead = found.token[at] == DEAD
        assert not dead[:-1].any()
        assert (found.ended[number] == DEATH) == dead.any()


def same(one, two):
    assert np.array_equal(one.future, two.future)
    assert np.array_equal(one.token, two.token)
    assert np.array_equal(one.ended, two.ended)
    assert np.allclose(one.age_days, two.age_days)
    assert np.allclose(one.log_probability, two.log_probability, atol=1e-4)


def test_a_seed_gives_the_same_futures_in_any_batch(model, monkeypatch):
    given = [futures.sample(n, n, subject=n) for n in (3, 25, 14, 8)]
    whole = drawn(model, [given[:2], given[2:]])
    same(whole, drawn(model, [[one] for one in given]))
    monkeypatch.setattr("ehr.generation.FUTURES", 3)
    same(whole, drawn(model, [given[:2], given[2:]]))
    parts = [drawn(model, [[one]]) for one in given]
    assert np.array_equal(whole.token, np.concatenate([part.token for part in parts]))
    assert not np.array_equal(whole.token[:30], drawn(model, [given], seed=5).token[:30])
    # Draws are numbered: more of them leave the first as they are.
    more = drawn(model, [[given[0]]], samples=5)
    assert np.array_equal(more.token[more.future < 3], parts[0].token)


def test_nothing_after_the_prediction_time_is_told(model):
    given = futures.sample(20, 3)
    found = drawn(model, [[given]])
    days = found.age_days.astype(np.float64) - given.query_age_days
    assert (found.time >= given.prediction_time - 1).all()
    assert np.allclose((found.time - given.prediction_time) / 86_400e6, days, atol=1e-6)


def test_draws_follow_the_law():
    law = torch.log_softmax(torch.tensor([0.0, 1.0, -torch.inf, 2.0, -3.0]), dim=-1).expand(20_000, -1)
    noise = torch.from_numpy(np.random.default_rng(0).random(20_000))
    found, chance = draw(law, noise)
    share = np.bincount(found, minlength=5) / 20_000
    assert share[2] == 0
    assert np.allclose(share, law[0].exp(), atol=4 * np.sqrt(0.25 / 20_000))
    assert torch.equal(chance, law[0][found])
    edges, _ = draw(law[:2], torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64))
    assert edges.tolist() == [0, 4]


def test_silence_so_far_is_part_of_the_law(model):
    """A first gap is longer than the silence between the last visit and the prediction time."""
    given = futures.sample(12, 1)
    given = given._replace(query_age_days=float(given.age_days[-1]) + 3 * YEAR)
    found = drawn(model, [[given]], horizon_days=60 * YEAR, samples=40)
    first = [found.token[of(found, n)[0]] - SIZE for n in range(40) if len(of(found, n))]
    silent = given.query_age_days - prompts_of(batch_of([[given]]))[0].age_days[-1]
    assert min(first) >= time_bin(np.array([silent]))[0]


def test_futures_end_for_a_reason(model):
    given = futures.sample(12, 1)
    assert set(drawn(model, [[given]], max_tokens=2, horizon_days=1e6).ended) <= {LIMIT, DEATH}
    short = drawn(model, [[given]], horizon_days=1e-4)
    assert (short.ended == HORIZON).all()
    assert len(short.token) == 0
    assert short.followed.shape == (0, 0)


def test_a_record_without_a_visit_has_futures(model):
    given = futures.sample(3)
    static = given._replace(token=given.token[:1], visit=given.visit[:1], age_days=given.age_days[:1])
    empty = given._replace(token=given.token[:0], visit=given.visit[:0], age_days=given.age_days[:0])
    # A sample without a token has no segment in a packed row; as a prompt it is read all the same.
    found = drawn(model, [[static]])
    assert np.isfinite(found.log_probability).all()
    assert len(found.token)
    prompt = prompts_of(batch_of([[static]]))[0]._replace(
        **{name: getattr(empty, name).astype(np.int64) for name in ("token", "visit")}, age_days=empty.age_days
    )
    with torch.inference_mode():
        made = Drawing(model, model.table(), [prompt], 2, 0, 10, ())
        steps = list(made.steps(YEAR * 5, np.arange(2), np.full(2, LIMIT), np.zeros((2, 0), np.float32)))
    assert all(np.isfinite(step.log_probability).all() for step in steps)


def test_open_encounters_of_the_record_may_be_closed():
    given = futures.sample(12, 1)
    prompt = prompts_of(batch_of([[given]]))[0]._replace(token=np.array([SEX, IN, 9]), visit=np.array([0, 1, 1]))
    state = State(futures.rules(), [prompt], 1)
    moved = torch.tensor([[SIZE + 63]])
    state.move(moved, torch.ones(1, 1, dtype=torch.bool))
    allowed = state.allowed()[0, 0]
    assert allowed[OUT]
    assert not allowed[AMBULANT + 1]
    state.move(torch.tensor([[OUT]]), torch.ones(1, 1, dtype=torch.bool))
    assert not state.allowed()[0, 0, OUT]
    assert not state.allowed()[0, 0, [IN, AMBULANT]].any()


def test_bins_of_gaps():
    assert time_bin(np.array([0.0, 1 / 24, 1 / 24 + 1e-6, 1e9])).tolist() == [0, 0, 1, 63]
    assert (time_bin((LOWER_DAYS * UPPER_DAYS) ** 0.5) == np.arange(64)).all()
    assert futures.rules().kind[DEAD] == ENDS


def test_a_network_that_was_not_trained_to_generate_is_refused(model):
    plain = Anamnesis(type(model.config)(vocabulary_size=SIZE, network=model.config.network))
    with pytest.raises(ValueError, match="permuted_ce"):
        drawn(plain, [[futures.sample(5)]])
    for name in ("horizon_days", "samples", "max_tokens"):
        with pytest.raises(ValueError, match=name):
            drawn(model, [[futures.sample(5)]], **{name: 0})


def test_what_is_suppressed_is_never_drawn_and_still_told(model):
    given = futures.sample(20, 3)
    how = {"samples": 60, "followed": [[9, 10], [DEAD]], "horizon_days": YEAR}
    plain = drawn(model, [[given]], **how)
    found = drawn(model, [[given]], suppressed=[9, 10], **how)
    assert np.isin(plain.token, [9, 10]).any()
    assert not np.isin(found.token, [9, 10]).any()
    assert (found.followed[:, 0] > 0).any()
    # The law that is drawn from is divided by what is left of it.
    for number in [number for number in range(60) if len(of(found, number))][:3]:
        at = of(found, number)
        law = constrained(recomputed(model, given, found, number), given, found, number)
        left = torch.where(torch.isin(torch.arange(law.shape[-1]), torch.tensor([9, 10])), -torch.inf, law)
        expected = torch.log_softmax(left, dim=-1)[torch.arange(len(at)), torch.from_numpy(found.token[at])]
        assert np.allclose(found.log_probability[at], expected.numpy(), atol=2e-4)


def test_the_step_that_leaves_the_horizon_is_told(model):
    """Without it, what is followed would be missed where the last visit of a future might have held it."""
    found = drawn(model, [[futures.sample(20, 3)]], samples=40, followed=[[9, 10], [DEAD]], horizon_days=YEAR)
    assert found.beyond.shape == (40, 2)
    assert (found.beyond[found.ended != HORIZON] == 0).all()
    begun = np.isin(np.arange(40), found.future) & (found.ended == HORIZON)
    assert (found.beyond[begun, 0] > 0).any()
    assert (found.beyond[~begun] == 0).all()


def test_padding_changes_nothing(model):
    given = futures.sample(12, 1)
    wide = sample(model, tensors(collate([[given]], 64)), horizon_days=YEAR, samples=3, seed=4, max_tokens=30)
    same(wide, drawn(model, [[given]], horizon_days=YEAR))
