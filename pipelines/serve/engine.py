"""The model behind a queue: requests of one length share a call, threads run the calls, a full queue refuses."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.batches import bucket
from pipelines.release import Release
from pipelines.serve import shapes
from pipelines.serve.limits import Limits
from pipelines.serve.refusals import busy

Floats = npt.NDArray[np.float32]
Arrays = tuple[npt.NDArray[Any], ...]
SMOOTHING = 0.2


class Answer(NamedTuple):
    """What the model says: raw logits and calibrated probabilities, f32 [rows, K, H]."""

    logit: Floats
    probability: Floats


class Piece(NamedTuple):
    """Rows of one request that go into one call.

    Attributes:
        arrays: token, visit, age_days [rows, length], query_age_days [rows].
        rows: how many.
        number: pieces are taken in this order.
        loop: of the request that waits.
        future: of what the model says.
    """

    arrays: Arrays
    rows: int
    number: int
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Answer]"


class Engine:
    """Runs a release for many requests at once.

    A worker that is free takes the piece that has waited longest, and with it as many of the same length as one call
    holds. So an idle server answers at once, and a busy one fills its calls. A request of more rows than one call holds
    is divided, and its pieces go to as many workers as are free.
    """

    def __init__(self, release: Release, limits: Limits, *, workers: int = 1) -> None:
        """Prove the shapes and start the threads.

        Args:
            release: opened with the threads of one call.
            limits: of queue and wait.
            workers: calls at a time.
        """
        self.release, self.limits = release, limits
        self.allowed = shapes.proven(release, release.max_tokens)
        self.together = not shapes.mixes(release)
        self.most = {length: shapes.most(rows, length, together=self.together) for length, rows in self.allowed.items()}
        self.waiting = 0
        self.watch: Callable[[int, int], None] = lambda _rows, _length: None
        """Told the rows and length of every call."""
        self.seconds_a_row = 0.0
        self._pieces: dict[int, deque[Piece]] = {length: deque() for length in self.allowed}
        self._number = 0
        self._closing = False
        self._change = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"model-{at}", daemon=True) for at in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def full(self) -> bool:
        """Tell whether no request at all would be taken."""
        return self.waiting >= self.limits.queue_rows

    def retry_seconds(self) -> float:
        """Return when what waits now will have been answered, about."""
        return self.waiting * self.seconds_a_row / len(self._threads)

    async def score(
        self, token: npt.NDArray[Any], visit: npt.NDArray[Any], age_days: npt.NDArray[Any], query_age_days: float
    ) -> Answer:
        """Answer one sample; the same bits as `anamnesis score`.

        Args:
            token: integers [T], T from 0 to the longest that the model reads.
            visit: integers [T].
            age_days: [T].
            query_age_days: age at the prediction time.

        Returns:
            logit and probability, f32 [K, H].

        Raises:
            Refusal: 503, the queue is full or the wait too long.
        """
        moment = np.array([query_age_days], dtype=np.float32)
        found = await self.run(token[None], visit[None], age_days[None], moment)
        return Answer(found.logit[0], found.probability[0])

    async def run(
        self,
        token: npt.NDArray[Any],
        visit: npt.NDArray[Any],
        age_days: npt.NDArray[Any],
        query_age_days: npt.NDArray[Any],
    ) -> Answer:
        """Answer the samples of one request.

        Args:
            token: integers [rows, T], 0 = padding.
            visit: integers [rows, T].
            age_days: [rows, T].
            query_age_days: [rows].

        Raises:
            Refusal: 503, the queue is full or the wait too long.
        """
        length = bucket(token.shape[1])
        arrays = padded(token, visit, age_days, query_age_days, length)
        loop = asyncio.get_running_loop()
        pieces = self._queue(arrays, length, loop)
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                found = [await piece.future for piece in pieces]
        except TimeoutError:
            raise busy(self.retry_seconds(), "the answer took too long; try again later") from None
        finally:
            for piece in pieces:
                piece.future.cancel()
        if len(found) == 1:
            return found[0]
        return Answer(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def close(self) -> None:
        """End the threads when nothing waits any more."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _queue(self, arrays: Arrays, length: int, loop: asyncio.AbstractEventLoop) -> list[Piece]:
        """Put a request's rows into the queue, cut to what one call holds."""
        rows, most = len(arrays[0]), self.most[length]
        with self._change:
            if self._closing or self.waiting + rows > self.limits.queue_rows:
                raise busy(self.retry_seconds())
            pieces: list[Piece] = []
            for begin in range(0, rows, most):
                part = tuple(array[begin : begin + most] for array in arrays)
                pieces.append(Piece(part, len(part[0]), self._number, loop, loop.create_future()))
                self._number += 1
            self._pieces[length].extend(pieces)
            self.waiting += rows
            self._change.notify(len(pieces))
        return pieces

    def _work(self) -> None:
        """Take calls until the engine closes."""
        while True:
            with self._change:
                while not any(self._pieces.values()):
                    if self._closing:
                        return
                    self._change.wait()
                length, pieces = self._take()
            if pieces:
                self._answer(length, pieces)

    def _take(self) -> tuple[int, list[Piece]]:
        """Return the pieces of the next call, without those that nobody waits for any more."""
        length = min((held[0].number, length) for length, held in self._pieces.items() if held)[1]
        held, most = self._pieces[length], self.most[length]
        pieces: list[Piece] = []
        rows = 0
        while held and rows + held[0].rows <= most and (self.together or not pieces):
            piece = held.popleft()
            self.waiting -= piece.rows
            if not piece.future.done():
                pieces.append(piece)
                rows += piece.rows
        return length, pieces

    def _answer(self, length: int, pieces: list[Piece]) -> None:
        """Run one call and hand its rows back."""
        rows = sum(piece.rows for piece in pieces)
        # Rows that nobody asked for would change the answer where rows mix.
        shape = shapes.rows_for(self.allowed, length, rows) if self.together else rows
        started = time.perf_counter()
        try:
            logit, probability = self.release.session.run(*filled([piece.arrays for piece in pieces], shape))
        except Exception as error:  # onnxruntime's own errors share no public base; whoever waits is told
            for piece in pieces:
                hand(piece, fail, type(error).__name__)
            return
        taken = (time.perf_counter() - started) / rows
        self.seconds_a_row += (taken - self.seconds_a_row) * (SMOOTHING if self.seconds_a_row else 1.0)
        self.watch(rows, length)
        begin = 0
        for piece in pieces:
            place = slice(begin, begin := begin + piece.rows)
            hand(piece, settle, Answer(logit[place], probability[place]))


def hand(piece: Piece, give: Callable[["asyncio.Future[Answer]", Any], None], what: Any) -> None:  # noqa: ANN401
    """Give a request something in its own loop, unless that has ended."""
    with contextlib.suppress(RuntimeError):
        piece.loop.call_soon_threadsafe(give, piece.future, what)


def settle(future: "asyncio.Future[Answer]", answer: Answer) -> None:
    """Give a request its answer, unless it went away."""
    if not future.done():
        future.set_result(answer)


def fail(future: "asyncio.Future[Answer]", name: str) -> None:
    """Tell a request that the model failed, unless it went away."""
    if not future.done():
        future.set_exception(RuntimeError(f"the model failed: {name}"))


def padded(
    token: npt.NDArray[Any],
    visit: npt.NDArray[Any],
    age_days: npt.NDArray[Any],
    query_age_days: npt.NDArray[Any],
    length: int,
) -> Arrays:
    """Return the model's inputs in its types, their rows padded to a length."""
    lacking = ((0, 0), (0, length - token.shape[1]))
    wide = ((token, np.int64), (visit, np.int32), (age_days, np.float32))
    made = [np.pad(part.astype(kind, copy=False), lacking) if lacking[1][1] else part.astype(kind, copy=False)
            for part, kind in wide]  # fmt: skip
    return (*made, query_age_days.astype(np.float32, copy=False))


def filled(parts: list[Arrays], rows: int) -> Arrays:
    """Return one call of the rows of all parts, empty rows at its end."""
    if len(parts) == 1 and len(parts[0][0]) == rows:
        return parts[0]
    made: list[npt.NDArray[Any]] = []
    for held in zip(*parts, strict=True):
        whole = np.zeros((rows, *held[0].shape[1:]), held[0].dtype)
        np.concatenate(held, out=whole[: sum(len(part) for part in held)])
        made.append(whole)
    return tuple(made)
