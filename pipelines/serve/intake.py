"""Bodies of requests: read within bounds of size and time, and JSON out of them."""

import asyncio
import json
from typing import Any

from starlette.requests import Request

from pipelines.serve.limits import Limits
from pipelines.serve.refusals import Refusal


async def read(request: Request, limits: Limits) -> bytes:
    """Return a request's body.

    Raises:
        Refusal: 413 it is too large, 408 it comes too slowly, 415 it is compressed, 400 its length is no number.
    """
    if request.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
        raise Refusal(415, "a compressed body; expected Content-Encoding: identity")
    stated = request.headers.get("content-length", "0")
    if not (stated.isascii() and stated.isdigit()):
        raise Refusal(400, "Content-Length is no number")
    if len(stated) > 18 or int(stated) > limits.body_bytes:
        raise too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.body_bytes:
                    raise too_large(limits)
    except TimeoutError:
        raise Refusal(408, f"the body took over {limits.body_seconds:g} s") from None
    return bytes(body)


def too_large(limits: Limits) -> Refusal:
    """Return the refusal of a body over the limit; what still comes of it is thrown away."""
    return Refusal(413, f"a body over {limits.body_bytes:,} bytes; send less at a time")


def parse(body: bytes) -> Any:  # noqa: ANN401  JSON
    """Return the JSON of a body.

    Raises:
        Refusal: 400, it is no JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=no_constant)
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8; expected JSON in UTF-8") from None
    except RecursionError:
        raise Refusal(400, "the JSON is nested too deeply") from None
    except ValueError:
        raise Refusal(400, "the body is not JSON") from None


def no_constant(_name: str) -> None:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError


async def json_of(request: Request, limits: Limits) -> Any:  # noqa: ANN401  JSON
    """Return the JSON of a request's body.

    Raises:
        Refusal: as `read` and `parse` do.
    """
    return parse(await read(request, limits))
