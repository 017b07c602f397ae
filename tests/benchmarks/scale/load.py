"""Load on loopback: requests ready as bytes, sent over connections that stay open, every answer compared."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tests.pipelines.serve import questions

TOLERANCE, TICK = 1e-6, 0.002


class Exchange(NamedTuple):
    """One request as it goes over the wire, and how its answer is judged: right or not."""

    request: bytes
    judge: Callable[[int, bytes, bytes], bool]


def http(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return a whole HTTP request."""
    said = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def exchanges(release, number: int, rows: int, length: int) -> list[Exchange]:
    """Return requests with binary tensors; an answer is right when it holds the numbers of onnxruntime."""
    made: list[Exchange] = []
    for seed in range(number):
        given = questions.arrays(release, rows, length, seed=seed)
        reference = np.concatenate([part.ravel() for part in questions.expected(release, given).values()])
        made.append(Exchange(http(questions.INFER, *questions.as_bytes(given)), judge_of(reference)))
    return made


def judge_of(reference: np.ndarray) -> Callable[[int, bytes, bytes], bool]:
    """Return a judge of answers with binary tensors."""

    def judge(status: int, _head: bytes, body: bytes) -> bool:
        found = np.frombuffer(body[-reference.nbytes :], "<f4") if len(body) >= reference.nbytes else np.zeros(0, "<f4")
        return status == 200 and len(found) == len(reference) and float(np.abs(found - reference).max()) <= TOLERANCE

    return judge


async def read(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Return status, headers and body of an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return status, head, await reader.readexactly(length)


class Line:
    """One connection, opened anew when the server closed it."""

    def __init__(self, port: int) -> None:
        self.port, self.writer, self.reader = port, None, None

    async def ask(self, request: bytes, sent: Callable[[], None] = lambda: None) -> tuple[int, bytes, bytes]:
        """Send a request and return its answer, status 0 where none came; `sent` is called once it has gone out."""
        try:
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(request)
            await self.writer.drain()
            sent()
            answer = await read(self.reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            return 0, type(error).__name__.encode(), b""
        if b"connection: close" in answer[1].lower():
            self.close()
        return answer

    def close(self) -> None:
        """Close it."""
        if self.writer is not None:
            self.writer.close()
        self.writer = self.reader = None


def judged(exchange: Exchange, answer: tuple[int, bytes, bytes]) -> str:
    """Return right, busy or wrong."""
    if answer[0] == 503:
        return "busy"
    return "right" if exchange.judge(*answer) else "wrong"


async def closed(port: int, work: Sequence[Exchange], *, lines: int, seconds: float) -> float:
    """Return right answers a second when each of some connections asks as soon as it was answered.

    Raises:
        RuntimeError: an answer was wrong.
    """
    found: Counter[str] = Counter()
    started = time.perf_counter()
    end = started + seconds

    async def one(at: int) -> None:
        line = Line(port)
        while time.perf_counter() < end:
            exchange = work[at % len(work)]
            found[judged(exchange, await line.ask(exchange.request))] += 1
            at += 1
        line.close()

    await asyncio.gather(*(one(at) for at in range(lines)))
    took = time.perf_counter() - started
    if found["wrong"]:
        raise RuntimeError(f"{found['wrong']} wrong answers")
    return found["right"] / took


class Flood(NamedTuple):
    """What an overload left.

    Attributes:
        answers: by kind.
        offered: requests a second that went out, over the time in which they did.
        longest: seconds that one waited for its answer.
        late: requests that no connection was free for when they were due.
    """

    answers: Counter[str]
    offered: float
    longest: float
    late: int


async def flood(port: int, work: Sequence[Exchange], *, rate: float, lines: int, seconds: float) -> Flood:
    """Send requests at a rate whatever comes back: each when it is due, over a connection that waits for no answer.

    Args:
        port: of the server.
        work: requests, in turn.
        rate: requests a second.
        lines: connections, at most.
        seconds: of sending.
    """
    found: Counter[str] = Counter()
    # The one used last is taken first: no more are opened than are needed.
    free = [Line(port) for _ in range(lines)]
    times: list[float] = []
    waits = [0.0]
    late = 0

    async def one(line: Line, exchange: Exchange) -> None:
        begun = time.perf_counter()
        found[judged(exchange, await line.ask(exchange.request, lambda: times.append(time.perf_counter())))] += 1
        waits.append(time.perf_counter() - begun)
        free.append(line)

    started, number = time.perf_counter(), 0
    async with asyncio.TaskGroup() as group:
        while (now := time.perf_counter()) < started + seconds:
            while number < int((now - started) * rate):
                if free:
                    group.create_task(one(free.pop(), work[number % len(work)]))
                else:
                    late += 1
                number += 1
            await asyncio.sleep(TICK)
    for line in free:
        line.close()
    return Flood(found, len(times) / (max(times) - started), max(waits), late)
