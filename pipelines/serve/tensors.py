"""Tensors of the Open Inference Protocol as JSON and as bytes: little-endian, row-major."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.serve.refusals import Refusal

KINDS: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
LENGTH = struct.Struct("<I")
MOST_AXES = 8
Array = npt.NDArray[Any]


def named(dtype: np.dtype[Any]) -> str:
    """Return the protocol's word for a type of NumPy."""
    return next(name for name, kind in KINDS.items() if kind == dtype)


def count(shape: Sequence[int]) -> int:
    """Return the elements of a shape."""
    return math.prod(shape)


def from_json(name: str, kind: str, shape: Sequence[int], data: object) -> Array:
    """Return a tensor whose data stand in JSON, flat or nested.

    Args:
        name: for messages.
        kind: the protocol's word for the type.
        shape: as stated.
        data: numbers, booleans, or strings for BYTES.

    Raises:
        Refusal: 400, a number that the type does not hold, another number of elements, or ragged lists.
    """
    if not isinstance(data, list):
        raise Refusal(400, f"tensor {name}: data is no list; expected one of {count(shape)} elements")
    if kind == "BYTES":
        return texts(name, shape, data)
    try:
        found = np.asarray(data)
    except (ValueError, OverflowError, RecursionError):
        raise Refusal(400, f"tensor {name}: data is ragged; expected shape {list(shape)}") from None
    fits(name, shape, found.size)
    if found.size == 0:
        return np.zeros(shape, KINDS[kind])
    if kind == "UINT64" and found.dtype.kind == "f":
        found = exact(data, found)
    allowed = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[KINDS[kind].kind]
    if found.dtype.kind not in allowed:
        raise Refusal(400, f"tensor {name}: data does not hold {kind} alone")
    if KINDS[kind].kind in "iu":
        bounds = np.iinfo(KINDS[kind])
        if int(found.min()) < bounds.min or int(found.max()) > bounds.max:
            raise Refusal(400, f"tensor {name}: a number beyond {kind}")
    with np.errstate(over="ignore"):
        return found.astype(KINDS[kind]).reshape(shape)


def exact(data: list[Any], found: Array) -> Array:
    """Return integers as u64 where NumPy made floats of them, as it does where some lie beyond 2^63 and some do not."""
    held = np.asarray(data, dtype=object)
    if not all(type(value) is int and 0 <= value < 2**64 for value in held.flat):
        return found
    return held.astype(np.uint64)


def texts(name: str, shape: Sequence[int], data: list[Any]) -> Array:
    """Return a BYTES tensor of strings, flat or nested."""
    flat: list[bytes] = []
    waiting: list[Any] = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, str):
            flat.append(item.encode("utf-8", "surrogatepass"))
        else:
            raise Refusal(400, f"tensor {name}: data does not hold BYTES alone; expected strings")
    fits(name, shape, len(flat))
    return objects(flat, shape)


def objects(flat: Sequence[bytes], shape: Sequence[int]) -> Array:
    """Return an array of bytes objects."""
    made = np.empty(len(flat), dtype=object)
    made[:] = flat
    return made.reshape(shape)


def from_bytes(name: str, kind: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Return a tensor whose data stand in bytes.

    Raises:
        Refusal: 400, the bytes are not those of this type and shape.
    """
    number = count(shape)
    if kind == "BYTES":
        return split(name, shape, raw)
    if len(raw) != number * KINDS[kind].itemsize:
        expected = number * KINDS[kind].itemsize
        raise Refusal(400, f"tensor {name}: {len(raw)} bytes; expected {expected} for {kind} {list(shape)}")
    return np.frombuffer(raw, KINDS[kind]).reshape(shape)


def split(name: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Return a BYTES tensor: each element after its length in four bytes."""
    flat: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + LENGTH.size
        if end > len(raw):
            raise Refusal(400, f"tensor {name}: the bytes end within an element")
        (size,) = LENGTH.unpack_from(raw, at)
        if end + size > len(raw):
            raise Refusal(400, f"tensor {name}: the bytes end within an element")
        flat.append(bytes(raw[end : end + size]))
        at = end + size
    fits(name, shape, len(flat))
    return objects(flat, shape)


def fits(name: str, shape: Sequence[int], found: int) -> None:
    """Refuse another number of elements than the shape's."""
    if found != count(shape):
        raise Refusal(400, f"tensor {name}: {found} elements; expected {count(shape)} for shape {list(shape)}")


def to_bytes(tensor: Array) -> bytes:
    """Return a tensor's bytes."""
    if tensor.dtype == object:
        return b"".join(LENGTH.pack(len(item)) + item for item in tensor.ravel().tolist())
    return tensor.astype(KINDS[named(tensor.dtype)], copy=False).tobytes()


def to_json(tensor: Array) -> list[Any]:
    """Return a tensor's elements, flat, as JSON holds them.

    A float32 becomes the shortest decimal number that reads back as the same float32.
    """
    if tensor.dtype == object:
        return [item.decode("utf-8", "surrogateescape") for item in tensor.ravel().tolist()]
    if tensor.dtype.itemsize < 8 and tensor.dtype.kind == "f":
        return [float(str(item)) for item in tensor.ravel()]
    return tensor.ravel().tolist()
