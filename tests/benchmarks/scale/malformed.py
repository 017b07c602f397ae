"""Malformed requests of every kind, drawn from valid ones: what broken clients and networks and attackers send."""

import copy
import gzip
import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

PLANTED = "zqplantedqz"
"""Stands in codes, dates, names, keys, paths and headers of requests, and may stand in nothing that is left of them."""
INFER = "/v2/models/anamnesis/infer"
LENGTH = "Inference-Header-Content-Length"
METHODS = {"get", "post", "put", "delete"}
HUGE = (2**31, 2**40, 2**63, 10**30, -1, -(2**63), 0, 1.5, 1e308, True, None, PLANTED, [PLANTED], {PLANTED: PLANTED})
Json = Any


class Sent(NamedTuple):
    """One request as bytes, and whether its framing is whole, so that it must be answered."""

    kind: str
    data: bytes
    framed: bool = True


class Seeds(NamedTuple):
    """Valid requests: bodies by path, and the OpenAPI description."""

    bodies: Mapping[str, Json]
    binary: tuple[bytes, int]
    description: Mapping[str, Any]


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, length: object = None
) -> bytes:
    """Return an HTTP/1.1 request; `length` in place of the body's own."""
    lines = [f"{method} {path} HTTP/1.1", "Host: server", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def scalar(draw: random.Random) -> Json:
    """Return a value that stands nowhere in a valid request."""
    text = (
        "",
        "\0",
        "\ud800",
        PLANTED * 50,
        f"{PLANTED}//1",
        f"Patient/{PLANTED}",
        "2020-13-45",
        "9999-12-31T23:59:60Z",
    )
    return copy.deepcopy(
        draw.choice([*HUGE, *text, 10**400 if draw.random() < 0.1 else 7, float(draw.randrange(-9, 9)), [], {}])
    )


def paths(value: Json, above: tuple[Json, ...] = ()) -> Iterator[tuple[Json, ...]]:
    """Yield the path of every value inside another."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def changed(value: Json, draw: random.Random) -> Json:
    """Return JSON with one to three places changed: taken out, replaced, doubled or renamed."""
    made = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        places = list(paths(made))
        if not places:
            return scalar(draw)
        *above, last = draw.choice(places)
        held = made
        for key in above:
            held = held[key]
        how = draw.randrange(5)
        if how == 0:
            del held[last]
        elif how == 1 and isinstance(held, list):
            held.extend([copy.deepcopy(held[last])] * draw.choice([1, 9, 200]))
        elif how == 2 and isinstance(held, dict):
            held[PLANTED] = held.pop(last)
        elif how == 3 and isinstance(held[last], str):
            held[last] += PLANTED
        else:
            held[last] = scalar(draw)
    return made


def by_schema(schema: Mapping[str, Any], description: Mapping[str, Any], draw: random.Random, depth: int = 0) -> Json:
    """Return JSON that a schema of the description lets through, now and then something else."""
    if draw.random() < 0.05 or depth > 6:
        return scalar(draw)
    while "$ref" in schema or "oneOf" in schema:
        named = schema.get("$ref", "").rsplit("/", 1)[-1]
        schema = description["components"]["schemas"][named] if named else draw.choice(schema["oneOf"])
    if "const" in schema or "enum" in schema:
        return draw.choice(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "object")
    kind = draw.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        held = schema.get("properties", {})
        names = [name for name in held if name in schema.get("required", ()) or draw.random() < 0.6]
        return {name: by_schema(held[name], description, draw, depth + 1) for name in names}
    if kind == "array":
        return [by_schema(schema.get("items", {}), description, draw, depth + 1) for _ in range(draw.randrange(4))]
    return atom(kind, schema, draw)


def atom(kind: str, schema: Mapping[str, Any], draw: random.Random) -> Json:
    """Return a value of a simple type."""
    simple = {"integer": 1, "number": 0.5, "boolean": True, "null": None}
    return simple.get(kind, str(uuid.UUID(int=draw.getrandbits(128))) if "format" in schema else f"{PLANTED}-text")


def encoded(value: Json) -> bytes:
    """Return JSON as bytes, NaN and halves of characters as they come."""
    return json.dumps(value).encode()


def described(seeds: Seeds, draw: random.Random) -> Sent:
    """Return a request by the description, its method and parameters perhaps others."""
    path = draw.choice(sorted(seeds.description["paths"]))
    method = draw.choice(sorted(METHODS & set(seeds.description["paths"][path])))
    held = seeds.description["paths"][path][method]
    content = held.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    body = b"" if content is None else encoded(by_schema(content, seeds.description, draw))
    filled = path
    for name in ("{id}", "{name}", "{model}", "{version}", "{model_name}", "{model_version}"):
        value = draw.choice(["patient-view", "anamnesis", "1", PLANTED, "%00", "..%2f..", "%F0%9F"])
        filled = filled.replace(name, value)
    method = draw.choice(["get", "put", "delete", "patch", "options", "head", method, method, method])
    query = draw.choice(["", "", f"?at={PLANTED}", "?at=9999-12-31", "?at=%ff", f"?{PLANTED}", "?at=" + "9" * 5000])
    accept = {"Accept": draw.choice(["application/json", "application/fhir+json", PLANTED])}
    return Sent("by the description", request(method.upper(), filled + query, body, accept))


def mutated(seeds: Seeds, draw: random.Random) -> Sent:
    """Return a valid request of any protocol with places changed."""
    path = draw.choice(sorted(seeds.bodies))
    accept = {"Accept": draw.choice(["*/*", "application/fhir+json"])}
    return Sent("changed values", request("POST", path, encoded(changed(seeds.bodies[path], draw)), accept))


def shapes(seeds: Seeds, draw: random.Random) -> Sent:
    """Return tensors of huge, negative and wrong shapes, types and numbers of values."""
    content = copy.deepcopy(seeds.bodies[INFER])
    for tensor in draw.sample(content["inputs"], draw.randint(1, 3)):
        how = draw.randrange(6)
        if how == 0:
            tensor["shape"] = [draw.choice(HUGE) for _ in range(draw.randrange(5))]
        elif how == 1:
            tensor["shape"] = [2**20, 2**20] if draw.random() < 0.5 else [1] * draw.choice([3, 64, 5000])
        elif how == 2:
            tensor["datatype"] = draw.choice(["BYTES", "BOOL", "FP64", "FP16", "INT128", PLANTED, 7, None])
        elif how == 3:
            tensor["data"] = draw.choice([[], [PLANTED], [[1, [2]], 3], [1e300] * 9, [None], [2**70], PLANTED, {}])
        elif how == 4:
            tensor["parameters"] = {"binary_data_size": draw.choice(HUGE)}
        else:
            tensor["data"] = [draw.choice([0, -1, 2**31, 10**7, 0.5]) for _ in tensor["data"]]
    return Sent("shapes and types", request("POST", INFER, encoded(content)))


def binary(seeds: Seeds, draw: random.Random) -> Sent:
    """Return binary tensors that are cut off, or whose lengths are wrong."""
    body, head = seeds.binary
    length: object = head
    how = draw.randrange(5)
    if how == 0:
        body = body[: draw.randrange(len(body))]
    elif how == 1:
        length = draw.choice([0, 1, head - 1, head + 1, len(body) + 1, -1, 2**64, "1e3", "", PLANTED, "٣"])
    elif how == 2:
        size = draw.choice([b"0", b"-1", b"1", b"99999999", b"1.5", b"null", b'"a"', b"1" * 400])
        body = body.replace(b'"binary_data_size": ', b'"binary_data_size": ' + size + b', "x": ', draw.randint(1, 4))
        length = body.rindex(b"}") + 1 if draw.random() < 0.5 else head
    elif how == 3:
        at = draw.randrange(len(body))
        body = body[:at] + draw.randbytes(draw.choice([1, 4, 64])) + body[at + draw.choice([0, 1, 64]) :]
    else:
        body += draw.randbytes(draw.choice([1, 8, 100_000]))
    return Sent("binary tensors", request("POST", INFER, body, {LENGTH: str(length)}))


def deep(seeds: Seeds, draw: random.Random) -> Sent:
    """Return JSON that is nested deeply, alone or inside a valid request."""
    depth = draw.choice([50, 400, 900, 990, 1000, 5000, 100_000])
    opened, closed = draw.choice([(b"[", b"]"), (b'{"entry":', b"}"), (b'[{"a":', b"}]"), (b'{"resource":', b"}")])
    nest = opened * depth + b"1" + closed * (depth if draw.random() < 0.8 else depth // 2)
    path = draw.choice(sorted(seeds.bodies))
    if draw.random() < 0.5:
        key = draw.choice(["entry", "events", "prefetch", "context", "inputs", "extension", PLANTED])
        start = encoded(seeds.bodies[path])[:-1]
        nest = start + b', "' + key.encode() + b'": ' + nest + b"}"
    return Sent("deep JSON", request("POST", path, nest))


def bytes_of(seeds: Seeds, draw: random.Random) -> Sent:
    """Return bodies in wrong encodings, cut off, or with bytes changed."""
    path = draw.choice(sorted(seeds.bodies))
    body, headers = encoded(seeds.bodies[path]), {}
    how = draw.randrange(7)
    if how == 0:
        body = body.decode().encode(draw.choice(["utf-16", "utf-32", "utf-7", "cp500"]))
    elif how == 1:
        body = b"\xef\xbb\xbf" + body
    elif how == 2:
        body, headers = (
            gzip.compress(body),
            draw.choice([{}, {"Content-Encoding": "gzip"}, {"Content-Encoding": PLANTED}]),
        )
    elif how == 3:
        body = body[: draw.randrange(len(body))]
    elif how == 4:
        body = bytes(b if draw.random() > 0.02 else draw.randrange(256) for b in body)
    elif how == 5:
        body = body.replace(b'": "', b'": "\\ud83d' + PLANTED.encode(), draw.choice([1, 5])) + draw.choice([b"", b"\0"])
    else:
        headers = {"Content-Type": draw.choice(["text/plain", "multipart/form-data; boundary=x", PLANTED, "a" * 4000])}
    return Sent("encodings", request("POST", path, body, headers))


def wire(seeds: Seeds, draw: random.Random) -> Sent:
    """Return requests whose framing itself is broken; the server may answer or hang up."""
    path = draw.choice(sorted(seeds.bodies))
    body = encoded(seeds.bodies[path])
    made = (
        lambda: request("POST", path, body, length=len(body) + draw.randint(1, 500)),
        lambda: request("POST", path, body, length=draw.choice(["-1", "abc", "1e3", PLANTED, "9" * 30, "0x10"])),
        lambda: request("POST", path, body, {"Transfer-Encoding": draw.choice(["chunked", "gzip, chunked", PLANTED])}),
        lambda: request("POST", path, b"5\r\nabc", {"Transfer-Encoding": "chunked"}).replace(
            b"Content-Length: 6\r\n", b""
        ),
        lambda: request(draw.choice(["", "GE T", PLANTED, "A" * 9000]), path),
        lambda: request("GET", draw.choice(["/" + PLANTED * 9000, "//[", "/\0", "*", "http://[::1", "/%"])),
        lambda: request("GET", "/", headers={f"X-{PLANTED}-{at}": "a" * 900 for at in range(draw.choice([1, 200]))}),
        lambda: draw.randbytes(draw.choice([1, 100, 5000])),
        lambda: request("POST", path, body)[: draw.randrange(1, 200)],
        lambda: request("POST", path, body).replace(b"HTTP/1.1", draw.choice([b"HTTP/9.9", b"HTTP/1.0", b"ICY"])),
        lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + draw.randbytes(40),
        lambda: request(
            "POST", path, body, {"Expect": "100-continue", "Upgrade": "websocket", "Connection": "Upgrade"}
        ),
    )
    return Sent("framing", draw.choice(made)(), framed=False)


KINDS: tuple[Callable[[Seeds, random.Random], Sent], ...] = (
    described, mutated, mutated, shapes, binary, deep, bytes_of, wire,
)  # fmt: skip


def requests(seeds: Seeds, number: int, seed: int) -> Iterator[Sent]:
    """Yield malformed requests, kind after kind."""
    draw = random.Random(seed)
    for at in range(number):
        yield KINDS[at % len(KINDS)](seeds, draw)
