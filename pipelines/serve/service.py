"""One server's parts, and the way of every request that asks for scores: admitted, answered, audited, counted."""

import sys
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pipelines.progress import say
from pipelines.release import Release
from pipelines.serve.alerts import NONE, Alerts
from pipelines.serve.audit import Audit, Entry
from pipelines.serve.engine import Engine
from pipelines.serve.limits import Limits
from pipelines.serve.metrics import Metrics
from pipelines.serve.refusals import Refusal, busy

GONE = 499
"""The client went away before its answer; kept in audit and metrics, never sent."""


class Service:
    """What handlers share.

    Attributes:
        release: opened and checked.
        engine: the model behind its queue.
        limits: of requests.
        audit: None where none was asked for.
        alerts: above which probability cards are shown.
        metrics: counters.
        draining: SIGTERM came; what comes is still answered, readiness says no.
    """

    def __init__(
        self, release: Release, engine: Engine, limits: Limits, audit: Audit | None = None, alerts: Alerts = NONE
    ) -> None:
        """Put the parts together."""
        self.release, self.engine, self.limits, self.audit, self.alerts = release, engine, limits, audit, alerts
        self.draining = False
        self.metrics = Metrics(release, lambda: engine.waiting, lambda: self.ready)
        engine.watch = lambda rows, _length: self.metrics.rows.observe(rows)

    @property
    def ready(self) -> bool:
        """Tell whether requests are taken: not draining, and the audit can be written."""
        return not self.draining and (self.audit is None or self.audit.check())

    def admit(self) -> None:
        """Refuse before a body is read where the answer could only be a refusal.

        Raises:
            Refusal: 503.
        """
        if self.audit is not None and not self.audit.check():
            raise busy(5, "the audit cannot be written")
        if self.engine.full:
            raise busy(self.engine.retry_seconds())

    def keep(self, entry: Entry) -> None:
        """Write the audit and count.

        Raises:
            Refusal: 503, the audit cannot be written.
        """
        status = entry.status
        try:
            if self.audit is not None:
                self.audit.write(entry)
        except OSError as error:
            status = 503
            say(f"the audit cannot be written: {error.strerror}")
            raise busy(5, "the audit cannot be written") from None
        finally:
            self.metrics.requests.labels(entry.protocol, str(status)).inc()
            self.metrics.seconds.labels(entry.protocol).observe(entry.seconds)
        if entry.probability is not None:
            self.metrics.scores.add(entry.probability)


class Reply(NamedTuple):
    """What a handler of scores returns.

    Attributes:
        response: sent when the audit is written.
        patient: the source's own id, for the audit's keyed hash; None where the request names none.
        probability: f32 [rows, K, H]; None where nothing was scored.
    """

    response: Response
    patient: str | None = None
    probability: npt.NDArray[np.float32] | None = None


Handler = Callable[[Request, Service], Awaitable[Reply]]
Endpoint = Callable[[Request], Awaitable[Response]]


def error(refused: Refusal) -> Response:
    """Return a refusal as the Open Inference Protocol shows it."""
    return JSONResponse({"error": refused.message}, refused.status, refused.headers)


def scoring(
    service: Service, protocol: str, handle: Handler, *, show: Callable[[Refusal], Response] = error
) -> Endpoint:
    """Return an endpoint that answers a request for scores.

    Args:
        service: the server's parts.
        protocol: its name in audit and metrics.
        handle: reads the request, asks the engine, makes the response; raises Refusal where it cannot.
        show: how a refusal looks in this protocol.
    """

    async def endpoint(request: Request) -> Response:
        started, number = time.perf_counter(), uuid.uuid4().hex
        try:
            service.admit()
            reply = await handle(request, service)
        except Refusal as refused:
            reply = Reply(show(refused))
        except ClientDisconnect:
            reply = Reply(Response(status_code=GONE))
        except Exception as bug:  # whatever it is, the server goes on and says nothing of the request
            tell(bug, number)
            reply = Reply(show(Refusal(500, f"an error of the server; its log says more under {number}")))
        response = reply.response
        seconds = time.perf_counter() - started
        entry = Entry(
            number, caller(request), protocol, response.status_code, seconds, reply.patient, reply.probability
        )
        try:
            service.keep(entry)
        except Refusal as refused:
            response = show(refused)
        response.headers["X-Request-ID"] = number
        return response

    return endpoint


def caller(request: Request) -> str:
    """Return the name of the token that a request carries, else its address."""
    name = request.scope.get("caller")
    return str(name or (request.client.host if request.client else "unknown"))


def tell(bug: BaseException, number: str) -> None:
    """Log an error by its type and place; its message could repeat the request."""
    frames = traceback.extract_tb(bug.__traceback__) if bug.__traceback__ else traceback.StackSummary()
    where = " < ".join(
        f"{frame.name} ({frame.filename.rsplit('/', 2)[-1]}:{frame.lineno})" for frame in frames[::-1][:8]
    )
    say(f"error in request {number}: {type(bug).__name__} in {where or 'no frame'}")
    sys.stderr.flush()
