"""uvicorn with our patience: slow headers are cut off, and a stop lets what was accepted be answered first."""

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.serve.limits import Limits
from pipelines.serve.options import Address
from pipelines.serve.service import Service

BACKLOG = 1024


class Patience(H11Protocol):
    """HTTP/1.1 that closes a connection whose headers do not come in time."""

    header_seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the clock."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a request is whole to the end of its headers; start it when another one begins."""
        super().data_received(data)
        if not self._idle:
            self._stop()
        elif self._deadline is None:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        """Tell whether no request is being read or answered."""
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _start(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(self.header_seconds, self._late)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._idle and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn that lingers: after a stop it takes requests a little longer, and each answer closes its connection."""

    def __init__(
        self,
        app: Starlette,
        service: Service,
        address: Address,
        *,
        beside: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """Set up.

        Args:
            app: the application.
            service: told when the stop begins.
            address: where to listen.
            beside: stops what else listens, given the seconds that answers may take.
        """
        self.service, self.beside = service, beside
        super().__init__(config(app, address, service.limits))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that the server is not ready and linger; then stop listening, and let who is connected still ask.

        A connection that was made before the last one was taken is one that was accepted: its request is answered. Only
        then are idle connections closed, and what is being answered is waited for.
        """
        limits = self.service.limits
        self.service.draining = True
        await asyncio.sleep(limits.linger_seconds)
        for listening in sockets or []:
            await self._take_last(listening)
        await asyncio.sleep(limits.linger_seconds)
        stopping = [super().shutdown(sockets)]
        if self.beside is not None:
            stopping.append(self.beside(limits.drain_seconds))  # pyright: ignore[reportArgumentType]
        await asyncio.gather(*stopping)

    async def _take_last(self, listening: socket.socket) -> None:
        """Stop listening, after taking every connection that the system made meanwhile."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())
        last: list[socket.socket] = []
        with contextlib.suppress(OSError):
            while True:
                last.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        for held in last:
            held.setblocking(False)  # noqa: FBT003  the standard library's own
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, held, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, as uvicorn makes it."""
        made: Any = self.config.http_protocol_class
        return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take SIGTERM and SIGINT as a wish to stop; unlike uvicorn's, the process then ends with exit code 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def bind(address: Address) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ValueError: the host or the port cannot be had.
    """
    if not 0 <= address.port < 2**16:
        raise ValueError(f"port {address.port}: no port number; expected 0 (a free one) to {2**16 - 1}")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ValueError(
            f"port {address.port} of {address.host}: {error.strerror}; name another --port or --host"
        ) from None


def files(number: int) -> None:
    """Let this process hold so many files, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def config(app: Starlette, address: Address, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's settings: nothing is logged of requests, and limits hold."""
    protocol = type("Bounded", (Patience,), {"header_seconds": limits.header_seconds})
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(limits.idle_seconds)),
        timeout_graceful_shutdown=max(1, round(limits.drain_seconds)),
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
