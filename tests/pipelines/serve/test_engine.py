"""The queue before the model: who shares a call, who is refused, and that nobody gets another one's answer."""

import asyncio
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.release import POSITIONS
from pipelines.serve import shapes
from pipelines.serve.engine import Engine
from pipelines.serve.limits import Limits
from pipelines.serve.refusals import Refusal

CODES = 50


class Model:
    """A model whose answer is a sum over each row; it can be held back, fail, or hang on the rows of a call."""

    def __init__(self, *, odd_rows=0.0, gate=None, fail=False):
        self.odd_rows, self.gate, self.fail = odd_rows, gate, fail
        self.calls, self.entered = [], threading.Event()

    def run(self, token, visit, age_days, query_age_days):
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(20)
        if self.fail:
            raise OSError("a secret of the request")
        self.calls.append(token.shape)
        total = (token + visit).sum(axis=1) + age_days.sum(axis=1) + query_age_days
        total = total + self.odd_rows * (len(token) < 8)
        return tuple(np.broadcast_to(part[:, None, None], (len(token), 2, 1)).astype(np.float32)
                     for part in (total, total / 2))  # fmt: skip


def held_back(*, limits=None, operators=()):
    """Return an engine whose calls wait for a gate, the gate, and the model."""
    gate = threading.Event()
    gate.set()
    model = Model(gate=gate)
    engine = Engine(release(model, longest=64, operators=operators), limits or Limits())
    gate.clear()
    model.calls.clear()
    model.entered.clear()
    return engine, gate, model


async def flood(engine, gate, model, number, rows):
    """Send one request, and more once the model has it; open the gate; return what came."""
    draw = np.random.default_rng(2)
    requests = [request(draw, rows, 10) for _ in range(number)]
    tasks = [asyncio.create_task(engine.run(*requests[0]))]
    while not model.entered.is_set():
        await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(engine.run(*arrays)) for arrays in requests[1:]]
    await asyncio.sleep(0.05)
    gate.set()
    return requests, await asyncio.gather(*tasks, return_exceptions=True)


def release(model, *, longest=128, operators=()):
    return SimpleNamespace(
        session=model,
        max_tokens=longest,
        manifest={"operators": list(operators)},
        vocabulary=SimpleNamespace(codes=["x"] * CODES),
    )


def request(draw, rows, length):
    token = draw.integers(1, CODES, (rows, length))
    visit = draw.integers(0, 9, (rows, length)).astype(np.int32)
    age_days = draw.integers(0, 99, (rows, length)).astype(np.float32)
    return token, visit, age_days, draw.integers(0, 99, rows).astype(np.float32)


def expected(arrays):
    token, visit, age_days, query = arrays
    return ((token + visit).sum(axis=1) + age_days.sum(axis=1) + query).astype(np.float32)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 128)), min_size=1, max_size=30), st.integers(1, 3))
def test_everyone_gets_their_own_answer(sizes, workers):
    model = Model()
    engine = Engine(release(model), Limits(queue_rows=10_000), workers=workers)
    assert set(model.calls) > {(POSITIONS // length, length) for length in (64, 128)}
    model.calls.clear()
    draw = np.random.default_rng(1)
    requests = [request(draw, rows, length) for rows, length in sizes]

    async def all_of_them():
        return await asyncio.gather(*(engine.run(*arrays) for arrays in requests))

    try:
        for arrays, answer in zip(requests, asyncio.run(all_of_them()), strict=True):
            assert np.array_equal(answer.logit[:, 0, 0], expected(arrays))
            assert np.array_equal(answer.probability[:, 1, 0], expected(arrays) / 2)
    finally:
        engine.close()
    assert engine.waiting == 0
    assert all(rows * length <= shapes.CALL_POSITIONS and length in (64, 128) for rows, length in model.calls)


def test_requests_that_wait_share_a_call():
    engine, gate, model = held_back()
    requests, found = asyncio.run(flood(engine, gate, model, 9, 1))
    engine.close()
    assert [float(answer.logit[0, 0, 0]) for answer in found] == [float(expected(arrays)[0]) for arrays in requests]
    # The first went alone, the eight that waited meanwhile together.
    assert model.calls == [(1, 64), (8, 64)]


def test_a_large_request_is_divided_where_rows_stand_alone():
    draw = np.random.default_rng(3)
    for operators, calls in (((), [(16, 64), (16, 64), (8, 64)]), (("DynamicQuantizeLinear",), [(40, 64)])):
        model = Model()
        engine = Engine(release(model, longest=64, operators=operators), Limits())
        model.calls.clear()
        arrays = request(draw, 40, 10)
        assert np.array_equal(asyncio.run(engine.run(*arrays)).logit[:, 0, 0], expected(arrays))
        engine.close()
        assert model.calls == calls


def test_where_only_large_calls_give_the_same_bits_they_are_used():
    assert shapes.most((32, 64), 64, together=True) == 32
    assert shapes.most((1, 2, 4), 512, together=True) == 2
    assert shapes.most((1,), 4096, together=True) == 1


def test_where_rows_mix_no_two_requests_share_a_call():
    engine, gate, model = held_back(operators=["DynamicQuantizeLinear"])
    asyncio.run(flood(engine, gate, model, 4, 3))
    engine.close()
    assert model.calls == [(3, 64)] * 4


def test_shapes_that_give_other_bits_are_not_used():
    held = release(Model(odd_rows=1), longest=64)
    assert shapes.proven(held, 64) == {64: (8, 16, 32, 64)}
    assert shapes.proven(release(Model(), longest=100), 100) == {
        64: (1, 2, 4, 8, 16, 32, 64),
        128: (1, 2, 4, 8, 16, 32),
    }


def test_a_full_queue_refuses_and_says_when_to_come_back():
    engine, gate, model = held_back(limits=Limits(batch=4, queue_rows=8))
    _, found = asyncio.run(flood(engine, gate, model, 8, 4))
    engine.close()
    refused = [answer for answer in found if isinstance(answer, Refusal)]
    # One is with the model, two wait.
    assert len(refused) == 5
    assert {(one.status, int(one.headers["Retry-After"]) >= 1) for one in refused} == {(503, True)}


def test_who_waits_too_long_or_goes_away_costs_no_call():
    engine, gate, model = held_back(limits=Limits(wait_seconds=0.3))

    async def ask():
        draw = np.random.default_rng(2)
        tasks = [asyncio.create_task(engine.run(*request(draw, 1, 10)))]
        while not model.entered.is_set():
            await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(engine.run(*request(draw, 1, 10))) for _ in range(4)]
        await asyncio.sleep(0.05)
        tasks[-1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(ask())
    gate.set()
    engine.close()
    assert [getattr(one, "status", None) for one in found] == [503] * 4 + [None]
    assert isinstance(found[-1], asyncio.CancelledError)
    assert model.calls == [(1, 64)]
    assert engine.waiting == 0


def test_a_failing_call_fails_its_requests_and_no_others():
    model = Model()
    engine = Engine(release(model, longest=64), Limits())
    arrays = request(np.random.default_rng(1), 2, 10)
    model.fail = True
    with pytest.raises(RuntimeError, match="OSError") as failed:
        asyncio.run(engine.run(*arrays))
    assert "secret" not in str(failed.value)
    model.fail = False
    assert np.array_equal(asyncio.run(engine.run(*arrays)).logit[:, 0, 0], expected(arrays))
    engine.close()
    with pytest.raises(Refusal):
        asyncio.run(engine.run(*arrays))


def test_it_ends_when_nothing_waits():
    engine = Engine(release(Model(), longest=64), Limits(), workers=2)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 5
    assert not any(thread.is_alive() for thread in engine._threads)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"body_bytes": -1}, {"batch": 10, "queue_rows": 9}])
def test_limits_that_let_nothing_through(wrong):
    with pytest.raises(ValueError, match="expected"):
        Limits(**wrong)
