"""Threads that read records: bounded, and whole after whatever happens in them."""

import asyncio
import threading

import pytest

from pipelines.serve.readers import Readers
from pipelines.serve.refusals import Refusal


class Panic(BaseException):
    """What a library that is not Python raises."""


def test_beyond_what_may_wait_requests_are_refused_until_there_is_room():
    readers, go = Readers(threads=1, waiting=2), threading.Event()

    async def talk():
        held = [asyncio.create_task(readers.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await readers.run(go.wait)
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        go.set()
        assert await asyncio.gather(*held) == [True, True]
        assert await readers.run(sum, [1, 2]) == 3

    asyncio.run(talk())
    assert readers.held == 0


def test_who_goes_away_still_holds_a_thread_until_it_is_done():
    readers, go = Readers(threads=1, waiting=1), threading.Event()

    async def talk():
        held = asyncio.create_task(readers.run(go.wait))
        await asyncio.sleep(0.05)
        held.cancel()
        await asyncio.sleep(0)
        assert readers.held == 1
        go.set()
        while readers.held:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_a_panic_becomes_an_error_that_says_nothing():
    def work():
        raise Panic("zzplanted")

    with pytest.raises(RuntimeError, match=r"^Panic in a library$"):
        asyncio.run(Readers().run(work))
