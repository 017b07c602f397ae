"""The Open Inference Protocol over HTTP, with JSON and with binary tensors.

Binary tensors follow the JSON in the order in which it declares them; `Inference-Header-Content-Length` says where the
JSON ends, `binary_data_size` how long each is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.serve import inference, intake, tensors
from pipelines.serve.engine import Answer
from pipelines.serve.inference import Array, Tensor
from pipelines.serve.refusals import Refusal
from pipelines.serve.service import Reply, Service, error, scoring

HEADER = "Inference-Header-Content-Length"
MODEL = "/v2/models/{name}"
REFUSED = ("shared_memory_region", "classification")
LONGEST_ID = 128


def routes(service: Service) -> list[Route]:
    """Return the protocol's routes."""

    async def metadata(_: Request) -> Response:
        return JSONResponse(inference.server())

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    async def model(request: Request) -> Response:
        def show() -> Response:
            return JSONResponse(
                {
                    "name": inference.NAME,
                    "versions": [inference.VERSION],
                    "platform": inference.PLATFORM,
                    "inputs": [tensor._asdict() for tensor in inference.inputs()],
                    "outputs": [tensor._asdict() for tensor in inference.outputs(service)],
                }
            )

        return named(request, show)

    async def model_ready(request: Request) -> Response:
        def show() -> Response:
            ready = {"name": inference.NAME, "ready": service.ready}
            return JSONResponse(ready, 200 if service.ready else 503)

        return named(request, show)

    answer = scoring(service, "oip-http", handle)
    made = [Route("/v2", metadata), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    for path in (MODEL, f"{MODEL}/versions/{{version}}"):
        made += [
            Route(path, model),
            Route(f"{path}/ready", model_ready),
            Route(f"{path}/infer", answer, methods=["POST"]),
        ]
    return made


def named(request: Request, show: Any) -> Response:  # noqa: ANN401  () -> Response
    """Return what `show` makes where the path names our model, else 404."""
    try:
        inference.known(request.path_params["name"], request.path_params.get("version"))
    except Refusal as refused:
        return error(refused)
    return show()


async def handle(request: Request, service: Service) -> Reply:
    """Answer one inference request."""
    inference.known(request.path_params["name"], request.path_params.get("version"))
    body = await intake.read(request, service.limits)
    head, tail = cut(body, request.headers.get(HEADER))
    content = intake.parse(head)
    if not isinstance(content, dict):
        raise Refusal(400, "the body is no JSON object")
    given = tensors_of(service, content, tail)
    wanted = outputs_of(content)
    found = await inference.infer(service, given)
    return Reply(response(content, wanted, found), probability=found.probability)


def cut(body: bytes, header: str | None) -> tuple[bytes, memoryview]:
    """Return the JSON and what follows it.

    Raises:
        Refusal: 400, the header is no length within the body.
    """
    if header is None:
        return body, memoryview(b"")
    if not (header.isascii() and header.isdigit()) or len(header) > 18 or int(header) > len(body):
        raise Refusal(400, f"{HEADER} is no length within the body of {len(body):,} bytes")
    return body[: int(header)], memoryview(body)[int(header) :]


def entries(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return a list of JSON objects.

    Raises:
        Refusal: 400, it is something else.
    """
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise Refusal(400, f"{key} is no list of objects")
    return found


def parameters_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an entry's parameters.

    Raises:
        Refusal: 400, they are no object, or ask for what is not offered.
    """
    found = entry.get("parameters") or {}
    if not isinstance(found, dict):
        raise Refusal(400, "parameters is no object")
    for name in REFUSED:
        if found.get(name):
            raise Refusal(400, f"parameter {name}: not offered here")
    return found


def tensors_of(service: Service, content: Mapping[str, Any], tail: memoryview) -> dict[str, Array]:
    """Return the tensors of a request by name.

    Raises:
        Refusal: 400, one is not what the model takes, stands twice, or the bytes after the JSON are others than stated.
    """
    given: dict[str, Array] = {}
    at = 0
    for entry in entries(content, "inputs"):
        name, kind, shape = inference.stated(service, entry.get("name"), entry.get("datatype"), entry.get("shape"))
        if name in given:
            raise Refusal(400, f"tensor {name}: stands twice")
        size = parameters_of(entry).get("binary_data_size")
        if size is None:
            given[name] = tensors.from_json(name, kind, shape, entry.get("data"))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - at:
            raise Refusal(400, f"tensor {name}: binary_data_size does not lie within the body")
        given[name] = tensors.from_bytes(name, kind, shape, tail[at : at + size])
        at += size
    if at != len(tail):
        raise Refusal(400, f"{len(tail) - at} bytes after the last tensor; expected none")
    return given


def outputs_of(content: Mapping[str, Any]) -> dict[str, bool]:
    """Return the outputs that a request asks for, and whether each is to be binary.

    Raises:
        Refusal: 400, the model does not have one, or a parameter is none of ours.
    """
    asked = entries(content, "outputs")
    usual = parameters_of(content).get("binary_data_output", False)
    names = inference.chosen([entry.get("name") for entry in asked])
    made = [parameters_of(entry).get("binary_data", usual) for entry in asked] or [usual] * len(names)
    if not all(isinstance(flag, bool) for flag in made):
        raise Refusal(400, "binary_data and binary_data_output are true or false")
    return dict(zip(names, made, strict=True))


def response(content: Mapping[str, Any], wanted: Mapping[str, bool], found: Answer) -> Response:
    """Return the answer: JSON, then the tensors asked for as bytes."""
    told: dict[str, Any] = {"model_name": inference.NAME, "model_version": inference.VERSION}
    if isinstance(content.get("id"), str):
        # The protocol gives it back; a long one is no id.
        told["id"] = content["id"][:LONGEST_ID]
    shown: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, binary in wanted.items():
        array: Array = getattr(found, name)
        tensor: dict[str, Any] = Tensor(name, "FP32", array.shape)._asdict()
        if binary:
            raw.append(tensors.to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = tensors.to_json(array)
        shown.append(tensor)
    told["outputs"] = shown
    head = json.dumps(told, separators=(",", ":")).encode()
    if not raw:
        return Response(head, media_type="application/json")
    return joined(head, raw)


def joined(head: bytes, raw: Sequence[bytes]) -> Response:
    """Return JSON and tensors as one body."""
    body = b"".join((head, *raw))
    return Response(body, media_type="application/octet-stream", headers={HEADER: str(len(head))})
