"""Who may ask: bearer tokens by name, compared in constant time."""

import hmac
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.serve.service import Service, tell

OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no token: nothing of a patient is there."""
SHORTEST = 16


class Tokens:
    """Tokens by the name of their holder."""

    def __init__(self, held: Mapping[str, str]) -> None:
        """Keep them."""
        self.held = {name: token.encode() for name, token in held.items()}

    def holder(self, header: bytes | None) -> str | None:
        """Return whose token an Authorization header carries, None where it is nobody's."""
        word, _, given = (header or b"").partition(b" ")
        found: str | None = None
        for name, token in self.held.items():
            # All are compared, so that the time says nothing of which one came near.
            if hmac.compare_digest(token, given.strip()) and word.lower() == b"bearer":
                found = name
        return found


def load(path: Path) -> Tokens:
    """Read tokens from a file: NAME TOKEN a line.

    Raises:
        ValueError: a line is something else, a token is short, or a name stands twice.
    """
    held: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] in held:
            raise ValueError(f"{path}: line {number}: expected NAME TOKEN, each name once")
        if len(words[1]) < SHORTEST:
            raise ValueError(f"{path}: line {number}: a token of {len(words[1])} letters; expected at least {SHORTEST}")
        held[words[0]] = words[1]
    if not held:
        raise ValueError(f"{path}: no token; expected NAME TOKEN a line")
    return Tokens(held)


class Access:
    """ASGI middleware: lets through who may ask, closes connections while the server drains, keeps errors silent."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens | None, service: Service) -> None:
        """Wrap an application."""
        self.app, self.tokens, self.service = app, tokens, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def closing(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start" and self.service.draining:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        if self.tokens is not None and scope["path"] not in OPEN:
            holder = self.tokens.holder(dict(scope["headers"]).get(b"authorization"))
            if holder is None:
                said = {"WWW-Authenticate": "Bearer"}
                refused = JSONResponse({"error": "no token that is known here"}, 401, said)
                await refused(scope, receive, closing)
                return
            scope["caller"] = holder
        try:
            await self.app(scope, receive, closing)
        except Exception as bug:  # what the server would log of it could repeat the request
            tell(bug, "-")
            if not begun:
                await JSONResponse({"error": "an error of the server"}, 500)(scope, receive, send)
