"""The Open Inference Protocol over gRPC, with typed and with raw contents."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import numpy as np

from pipelines.serve import inference, tensors
from pipelines.serve.access import Tokens
from pipelines.serve.audit import Entry
from pipelines.serve.engine import Answer
from pipelines.serve.inference import Array, Tensor
from pipelines.serve.messages import PACKAGE, SERVICE, Method, methods
from pipelines.serve.options import Address
from pipelines.serve.refusals import Refusal, busy
from pipelines.serve.service import Service, tell

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where each type stands among typed contents; FP16 comes raw alone."""
Context = grpc.aio.ServicerContext
PING_MILLISECONDS = 30_000


class Rpc:
    """The gRPC side of a server, in the event loop of the HTTP side."""

    def __init__(self, service: Service, address: Address, port: int, tokens: Tokens | None) -> None:
        """Bind the port.

        Args:
            service: the server's parts.
            address: host, and certificate where it speaks TLS.
            port: 0 takes a free one.
            tokens: who may ask; None: everyone who reaches it.

        Raises:
            ValueError: the port cannot be had.
        """
        self.service, self.tokens, self.methods = service, tokens, methods()
        self.closing = False
        limits = service.limits
        options = [
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", PING_MILLISECONDS),
            ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 1000)),
        ]
        self.server = grpc.aio.server(options=options, maximum_concurrent_rpcs=limits.connections)
        answers: dict[str, Callable[[Any, Method], Any]] = {
            "ServerLive": lambda _, method: method.response(live=True),
            "ServerReady": lambda _, method: method.response(ready=service.ready),
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _, method: method.response(**inference.server()),
            "ModelMetadata": self._metadata,
        }
        handlers = {name: handler(self._plain(self.methods[name], answer)) for name, answer in answers.items()}
        handlers["ModelInfer"] = handler(self._infer)
        generic = grpc.method_handlers_generic_handler(f"{PACKAGE}.{SERVICE}", handlers)
        self.server.add_generic_rpc_handlers((generic,))
        self.port = bind(self.server, address, port)

    async def start(self) -> None:
        """Take requests."""
        await self.server.start()

    async def stop(self, seconds: float) -> None:
        """Take no more, and wait so long for what was taken to be answered.

        gRPC cancels what comes while it stops, as if it had been taken. So whoever still asks is first told to ask
        elsewhere.
        """
        self.closing = True
        await asyncio.sleep(self.service.limits.linger_seconds)
        await self.server.stop(seconds)

    def _holder(self, name: str, context: Context) -> str:
        """Return who asks.

        Raises:
            Refusal: 401, no token that is known; 503, the server ends.
        """
        if self.closing:
            raise busy(1, "the server ends; ask another one")
        if self.tokens is None or name in {"ServerLive", "ServerReady"}:
            return address_of(context.peer())
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        holder = self.tokens.holder(given.encode() if isinstance(given, str) else given)
        if holder is None:
            raise Refusal(401, "no token that is known here")
        return holder

    def _plain(
        self, method: Method, answer: Callable[[Any, Method], Any]
    ) -> Callable[[bytes, Context], Awaitable[Any]]:
        """Return the handler of a call that asks for no scores."""

        async def call(raw: bytes, context: Context) -> bytes:
            try:
                self._holder(method.name, context)
                return answer(read(method, raw), method).SerializeToString()
            except Refusal as refused:
                return await end(context, refused)

        return call

    def _model_ready(self, request: Any, method: Method) -> Any:  # noqa: ANN401  messages
        inference.known(request.name, request.version)
        return method.response(ready=self.service.ready)

    def _metadata(self, request: Any, method: Method) -> Any:  # noqa: ANN401  messages
        inference.known(request.name, request.version)
        return method.response(
            name=inference.NAME,
            versions=[inference.VERSION],
            platform=inference.PLATFORM,
            inputs=[tensor._asdict() for tensor in inference.inputs()],
            outputs=[tensor._asdict() for tensor in inference.outputs(self.service)],
        )

    async def _infer(self, raw: bytes, context: Context) -> bytes:
        """Answer a request for scores: admitted, answered, audited, counted as over HTTP."""
        started, number = time.perf_counter(), uuid.uuid4().hex
        holder, refused, found, made = address_of(context.peer()), None, None, b""
        try:
            holder = self._holder("ModelInfer", context)
            self.service.admit()
            found, made = await self._answer(raw)
        except Refusal as why:
            refused = why
        except Exception as bug:  # whatever it is, the server goes on and says nothing of the request
            tell(bug, number)
            refused = Refusal(500, f"an error of the server; its log says more under {number}")
        status = refused.status if refused else 200
        seconds = time.perf_counter() - started
        probability = found.probability if found and not refused else None
        try:
            self.service.keep(Entry(number, holder, "oip-grpc", status, seconds, probability=probability))
        except Refusal as why:
            refused = why
        return await end(context, refused) if refused else made

    async def _answer(self, raw: bytes) -> tuple[Answer, bytes]:
        method = self.methods["ModelInfer"]
        request = read(method, raw)
        inference.known(request.model_name, request.model_version)
        given = tensors_of(self.service, request)
        wanted = inference.chosen([output.name for output in request.outputs])
        found = await inference.infer(self.service, given)
        typed = not request.raw_input_contents
        return found, response(method, request.id, wanted, found, typed=typed).SerializeToString()


def handler(call: Callable[[bytes, Context], Awaitable[bytes]]) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Return a handler that takes and gives bytes, so that what cannot be read is answered by us."""
    return grpc.unary_unary_rpc_method_handler(call)  # pyright: ignore[reportArgumentType]


def bind(server: grpc.aio.Server, address: Address, port: int) -> int:
    """Bind a port, under TLS where there is a certificate.

    Raises:
        ValueError: it cannot be had.
    """
    host = f"[{address.host}]" if ":" in address.host else address.host
    try:
        if address.certificate is None or address.key is None:
            found = server.add_insecure_port(f"{host}:{port}")
        else:
            pair = (address.key.read_bytes(), address.certificate.read_bytes())
            found = server.add_secure_port(f"{host}:{port}", grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        found = 0
    if not found:
        raise ValueError(f"gRPC port {port} of {address.host} cannot be had; name another --grpc-port")
    return int(found)


def address_of(peer: str) -> str:
    """Return the address in what gRPC calls a peer, ipv4:ADDRESS:PORT."""
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]") or "unknown"


async def end(context: Context, refused: Refusal) -> bytes:
    """Answer with a refusal."""
    later = refused.headers.get("Retry-After")
    if later is not None:
        context.set_trailing_metadata((("retry-after", later),))
    await context.abort(CODES.get(refused.status, grpc.StatusCode.INTERNAL), refused.message)
    return b""


def read(method: Method, raw: bytes) -> Any:  # noqa: ANN401  a message
    """Return a message from its bytes.

    Raises:
        Refusal: 400, they are none.
    """
    try:
        return method.request.FromString(raw)
    except Exception:  # protobuf's implementations raise errors of their own
        raise Refusal(400, f"the bytes are no message of {method.name}") from None


def tensors_of(service: Service, request: Any) -> dict[str, Array]:  # noqa: ANN401  a message
    """Return the tensors of a request by name.

    Raises:
        Refusal: 400, one is not what the model takes, or stands twice.
    """
    raw: Sequence[bytes] = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refusal(400, f"{len(raw)} raw contents; expected one for each of {len(request.inputs)} inputs")
    given: dict[str, Array] = {}
    for at, entry in enumerate(request.inputs):
        shape = tuple(int(axis) for axis in entry.shape)
        name, kind, shape = inference.stated(service, entry.name, entry.datatype, shape)
        if name in given:
            raise Refusal(400, f"tensor {name}: stands twice")
        if raw:
            given[name] = tensors.from_bytes(name, kind, shape, raw[at])
        else:
            given[name] = typed_tensor(name, kind, shape, entry.contents)
    return given


def typed_tensor(name: str, kind: str, shape: Sequence[int], contents: Any) -> Array:  # noqa: ANN401  a message
    """Return a tensor from typed contents.

    Raises:
        Refusal: 400, another number of elements than the shape's.
    """
    held = getattr(contents, CONTENTS[kind])
    tensors.fits(name, shape, len(held))
    return np.array(held, dtype=tensors.KINDS[kind]).reshape(shape)


def response(method: Method, number: str, wanted: Sequence[str], found: Answer, *, typed: bool) -> Any:  # noqa: ANN401  a message
    """Return the answer, in contents of the kind that the request had."""
    made = method.response(model_name=inference.NAME, model_version=inference.VERSION, id=number)
    for name in wanted:
        array: Array = getattr(found, name)
        output = made.outputs.add(**Tensor(name, "FP32", array.shape)._asdict())
        if typed:
            output.contents.fp32_contents.extend(array.ravel().tolist())
        else:
            made.raw_output_contents.append(tensors.to_bytes(array))
    return made
