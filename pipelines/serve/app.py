"""The application: routes of all protocols behind one access check."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pipelines.serve import clinical, description, oip
from pipelines.serve.access import Access, Tokens
from pipelines.serve.service import Service

Routes = Callable[[Service], Sequence[BaseRoute]]
PROTOCOLS: tuple[Routes, ...] = (oip.routes, clinical.routes)
"""What makes the routes of each protocol."""


def build(service: Service, *, tokens: Tokens | None = None) -> Starlette:
    """Return the application of a server.

    Args:
        service: its parts.
        tokens: who may ask; None: everyone who reaches it.
    """

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4")

    async def openapi(_: Request) -> Response:
        return JSONResponse(description.openapi(service.release))

    routes: list[BaseRoute] = [Route("/metrics", metrics), Route("/openapi.json", openapi)]
    for protocol in PROTOCOLS:
        routes.extend(protocol(service))
    return Starlette(
        routes=routes,
        middleware=[Middleware(Access, tokens=tokens, service=service)],
        exception_handlers={HTTPException: known},
    )


def known(_: Request, error: Exception) -> Response:
    """Answer 404 and 405 in JSON, without the path."""
    assert isinstance(error, HTTPException)
    words = {404: "no such path; see /openapi.json", 405: "no such method here; see /openapi.json"}
    message = words.get(error.status_code, "the request cannot be answered")
    return JSONResponse({"error": message}, error.status_code, dict(error.headers or {}))
