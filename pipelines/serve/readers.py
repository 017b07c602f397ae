"""Threads that read records: a few at a time, a bounded number waiting, so that bodies do not fill the memory."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, final

from pipelines.serve.refusals import busy

Given = ParamSpec("Given")
Result = TypeVar("Result")


@final
class Readers:
    """A few threads beside the loop that takes requests."""

    def __init__(self, *, threads: int = 2, waiting: int = 64) -> None:
        """Make the threads.

        Args:
            threads: that read at a time.
            waiting: requests that are read or wait for it, at most.
        """
        self.most, self.held = waiting, 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="records")

    async def run(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        """Do work in one of the threads.

        Raises:
            Refusal: 503, too much is waiting.
        """
        with self._lock:
            if self.held >= self.most:
                raise busy()
            self.held += 1
        # Counted down when the work is over: who went away meanwhile still holds a thread.
        future = self._pool.submit(caught, work, *given, **named)
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _: "Future[Any]") -> None:
        with self._lock:
            self.held -= 1


def caught(work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
    """Do work; a panic of a library written in Rust, which is no Exception, becomes one, so that the server goes on."""
    try:
        return work(*given, **named)
    except Exception:
        raise
    except BaseException as panic:
        raise RuntimeError(f"{type(panic).__name__} in a library") from None
