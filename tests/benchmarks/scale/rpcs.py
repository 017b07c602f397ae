"""Malformed gRPC: messages with wrong tensors, bytes that are no message, and frames that are no call."""

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import grpc

from pipelines.release import Release
from pipelines.serve.messages import PACKAGE, SERVICE, methods
from tests.benchmarks.scale.malformed import PLANTED
from tests.pipelines.serve import questions

METHODS = methods()
INFER = METHODS["ModelInfer"]
SHARE_OF_FRAMES, CLIENTS, SECONDS, SILENCE = 4, 24, 20.0, 0.5
"""One in so many is sent as bare frames; callers at a time; a call's time; how long bare frames are listened to."""
BUGS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
"""What a server says of its own errors; DEADLINE_EXCEEDED of the client, that it said nothing, is one too."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
HUGE = (-1, 0, -(2**63), 2**31, 2**40, 2**63 - 1)
WORDS = ("", PLANTED, "INT64", "FP64", "BYTES", "token", "visit", "anamnesis", "7")


class Call(NamedTuple):
    """One call: its kind, the path of its method, and its message as bytes."""

    kind: str
    path: str
    data: bytes


class Outcome(NamedTuple):
    """What a run of calls did: answers by kind and code, calls that a bug answered or nobody, and answers that leak."""

    codes: Counter[tuple[str, str]]
    errors: list[Call]
    leaks: list[Call]


def valid(release: Release) -> Any:
    """Return a right request with raw contents."""
    made = INFER.request(model_name="anamnesis")
    for name, array in questions.arrays(release, 2, 16).items():
        made.inputs.add(name=name, datatype=questions.KINDS[name], shape=array.shape)
        made.raw_input_contents.append(array.tobytes())
    return made


def path(name: str) -> str:
    """Return the path of a method."""
    return f"/{PACKAGE}.{SERVICE}/{name}"


def copied(right: Any) -> Any:
    """Return a copy of a message."""
    made = INFER.request()
    made.CopyFrom(right)
    return made


def typed(right: Any, draw: random.Random) -> Any:
    """Return a request whose contents are typed, of other kinds and numbers than stated."""
    made = copied(right)
    del made.raw_input_contents[:]
    for entry in made.inputs:
        held = entry.contents
        for _ in range(draw.randint(0, 2)):
            number = draw.choice([1, 2, 31, 32, 33, 5000])
            how = draw.randrange(5)
            if how == 0:
                held.int64_contents.extend([draw.choice([1, -1, 2**63 - 1])] * number)
            elif how == 1:
                held.int_contents.extend([draw.choice([1, -(2**31)])] * number)
            elif how == 2:
                held.fp32_contents.extend([draw.choice([1.0, float("nan"), float("inf")])] * number)
            elif how == 3:
                held.bytes_contents.extend([PLANTED.encode()] * min(number, 40))
            else:
                held.bool_contents.extend([True] * number)
    if draw.random() < 0.2:
        made.raw_input_contents.extend(right.raw_input_contents[: draw.randrange(5)])
    return made


def shapes(right: Any, draw: random.Random) -> Any:
    """Return a request with huge, negative and wrong shapes, types and names."""
    made = copied(right)
    for entry in draw.sample(list(made.inputs), draw.randint(1, 3)):
        how = draw.randrange(5)
        if how == 0:
            del entry.shape[:]
            entry.shape.extend(draw.choice(HUGE) for _ in range(draw.choice([0, 1, 2, 3, 64, 5000])))
        elif how == 1:
            entry.datatype = draw.choice(WORDS)
        elif how == 2:
            entry.name = draw.choice(WORDS)
        elif how == 3:
            entry.parameters[PLANTED].string_param = PLANTED
            made.outputs.add(name=draw.choice([*WORDS, "logit"]))
        else:
            made.inputs.add().CopyFrom(entry)
            made.raw_input_contents.append(made.raw_input_contents[0])
    return made


def raw(right: Any, draw: random.Random) -> Any:
    """Return a request whose raw contents are cut off, too long, too many, too few, or hold other values."""
    made = copied(right)
    at = draw.randrange(len(made.raw_input_contents))
    held = made.raw_input_contents[at]
    how = draw.randrange(6)
    if how == 0:
        made.raw_input_contents[at] = held[: draw.randrange(len(held))]
    elif how == 1:
        made.raw_input_contents[at] = held + draw.randbytes(draw.choice([1, 4, 8, 100_000, 2**20]))
    elif how == 2:
        del made.raw_input_contents[at]
    elif how == 3:
        made.raw_input_contents.extend([PLANTED.encode()] * draw.choice([1, 100]))
    elif how == 4:
        made.raw_input_contents[at] = draw.randbytes(len(held))
    else:
        made.model_name, made.model_version = draw.choice(WORDS), draw.choice(WORDS)
    return made


def torn(right: Any, draw: random.Random) -> bytes:
    """Return bytes that are cut off, changed, repeated or no message at all."""
    body = right.SerializeToString()
    how = draw.randrange(5)
    if how == 0:
        return body[: draw.randrange(len(body))]
    if how == 1:
        return draw.randbytes(draw.choice([1, 10, 1000]))
    if how == 2:
        at = draw.randrange(len(body))
        return body[:at] + draw.randbytes(draw.choice([1, 4])) + body[at + draw.choice([0, 1, 64]) :]
    if how == 3:
        # Groups inside groups, and a length that says more than follows.
        return draw.choice([b"\x0b" * 5000, b"\x0a\xff\xff\xff\xff\x07" + PLANTED.encode(), b"\xff" * 20])
    return body * draw.choice([2, 3]) + PLANTED.encode()


MESSAGES: Mapping[str, Callable[[Any, random.Random], Any]] = {"typed": typed, "shapes": shapes, "raw": raw}


def calls(right: Any, number: int, seed: int) -> Iterator[Call]:
    """Yield malformed calls, kind after kind."""
    draw = random.Random(seed)
    kinds = [*MESSAGES, "bytes", "methods"]
    for at in range(number):
        kind = kinds[at % len(kinds)]
        if kind in MESSAGES:
            yield Call(kind, path("ModelInfer"), MESSAGES[kind](right, draw).SerializeToString())
        elif kind == "bytes":
            yield Call(kind, path(draw.choice(sorted(METHODS))), torn(right, draw))
        else:
            name = draw.choice(
                [path(PLANTED), f"/{PLANTED}/ModelInfer", "/", f"/{PACKAGE}.{SERVICE}/", path("x" * 4000)]
            )
            yield Call(kind, name, right.SerializeToString())


def frame(kind: int, flags: int, stream: int, content: bytes, length: int | None = None) -> bytes:
    """Return an HTTP/2 frame; `length` in place of its content's own."""
    size = len(content) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + content


def fields(**others: str) -> bytes:
    """Return the headers of a call, each as a literal (RFC 7541, 6.2.2)."""
    usual = {":method": "POST", ":scheme": "http", ":path": path("ModelInfer"), ":authority": "server"}
    held = {**usual, "content-type": "application/grpc", "te": "trailers", **others}
    pairs = ((name.encode(), value.encode()) for name, value in held.items())
    return b"".join(b"\0" + bytes((len(n),)) + n + bytes((min(len(v), 126),)) + v[:126] for n, v in pairs)


def frames(right: Any, draw: random.Random) -> bytes:
    """Return bytes on the wire: a call whose frames, lengths or headers are wrong, or cut off anywhere."""
    body = right.SerializeToString()
    opening = PREFACE + frame(SETTINGS, 0, 0, b"")
    head = frame(HEADERS, 4, 1, fields())
    message = b"\0" + struct.pack(">I", len(body)) + body
    made: tuple[Callable[[], bytes], ...] = (
        lambda: head + frame(DATA, 1, 1, b"\0" + struct.pack(">I", draw.choice([0, 1, 2**32 - 1])) + body),
        lambda: head + frame(DATA, 1, 1, bytes((draw.choice([1, 2, 255]),)) + message[1:]),
        lambda: head + frame(DATA, 0, 1, message[: draw.randrange(1, len(message))]),
        lambda: head + frame(DATA, 1, 1, message, length=draw.choice([0, 1, 2**24 - 1])),
        lambda: frame(DATA, 1, 1, message),
        lambda: frame(HEADERS, 4, draw.choice([0, 2, 2**31 - 1]), fields()) + frame(DATA, 1, 1, message),
        lambda: frame(HEADERS, 4, 1, draw.randbytes(40)),
        lambda: frame(HEADERS, 4, 1, fields(**{PLANTED: PLANTED, "content-type": draw.choice(["text", PLANTED])})),
        lambda: frame(HEADERS, 0, 1, fields()) + frame(CONTINUATION, 0, 1, b"\0" * 9) * 50,
        lambda: frame(SETTINGS, 0, 0, draw.randbytes(draw.choice([5, 6, 36]))) + head + frame(DATA, 1, 1, message),
        lambda: head + frame(RESET, 0, 1, struct.pack(">I", 8)) * draw.choice([1, 100]) + frame(DATA, 1, 1, message),
        lambda: frame(WINDOW, 0, 0, struct.pack(">I", draw.choice([0, 2**31 - 1]))) * 9 + frame(PING, 0, 0, b"1234567"),
        lambda: frame(GOAWAY, 0, 0, draw.randbytes(8)) + head + frame(DATA, 1, 1, message),
        lambda: draw.randbytes(draw.choice([1, 100, 5000])),
    )  # fmt: skip
    data = opening + draw.choice(made)()
    return data[: draw.randrange(1, len(data))] if draw.random() < 0.2 else data


async def poke(port: int, data: bytes) -> bytes:
    """Send bytes on a connection of their own, and return what comes back before it closes or falls silent."""
    found = b""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(data)
                await writer.drain()
                while part := await asyncio.wait_for(reader.read(1 << 16), SILENCE):
                    found += part
            finally:
                writer.close()
    except (OSError, TimeoutError):
        pass
    return found


async def ask(channel: grpc.aio.Channel, call: Call) -> tuple[grpc.StatusCode, str]:
    """Return the code of a call's answer, and all that it says where it is a refusal."""
    try:
        await channel.unary_unary(call.path)(call.data, timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code(), f"{error.details()} {error.trailing_metadata()}"
    return grpc.StatusCode.OK, ""


async def run(port: int, right: Any, number: int, seed: int) -> Outcome:
    """Send malformed calls and frames, a few at a time, and look at every answer."""
    found, draw = Outcome(Counter(), [], []), random.Random(seed)
    bare = number // SHARE_OF_FRAMES
    sending, wires = calls(right, number - bare, seed), iter([frames(right, draw) for _ in range(bare)])

    async def caller() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            for call in sending:
                code, said = await ask(channel, call)
                found.codes[call.kind, code.name] += 1
                if code in BUGS or code == grpc.StatusCode.DEADLINE_EXCEEDED:
                    found.errors.append(call)
                if PLANTED in said:
                    found.leaks.append(call)

    async def poker() -> None:
        for data in wires:
            answer = await poke(port, data)
            found.codes["frames", "answered" if answer else "closed"] += 1
            if PLANTED.encode() in answer:
                found.leaks.append(Call("frames", "", data))

    await asyncio.gather(*(caller() for _ in range(CLIENTS)), *(poker() for _ in range(CLIENTS)))
    return found
