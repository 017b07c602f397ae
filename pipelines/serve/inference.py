"""What the model takes and gives in the words of the Open Inference Protocol, whichever way a request comes."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from compress.onnx.session import OUTPUTS
from ehr.vocabulary import MASK, UNK
from pipelines.serve.engine import Answer
from pipelines.serve.refusals import Refusal
from pipelines.serve.service import Service
from pipelines.serve.tensors import KINDS, MOST_AXES

NAME, VERSION = "anamnesis", "1"
PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data",)
INPUTS: Mapping[str, tuple[str, int]] = {
    "token": ("INT64", 2),
    "visit": ("INT32", 2),
    "age_days": ("FP32", 2),
    "query_age_days": ("FP32", 1),
}
"""Type and axes by name."""
Array = npt.NDArray[Any]


class Tensor(NamedTuple):
    """Name, type and shape of an input or output, as metadata show it; -1 where an axis varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs() -> list[Tensor]:
    """Return what the model takes."""
    return [Tensor(name, kind, (-1,) * axes) for name, (kind, axes) in INPUTS.items()]


def outputs(service: Service) -> list[Tensor]:
    """Return what the model gives."""
    session = service.release.session
    return [Tensor(name, "FP32", (-1, session.outcomes, session.horizons)) for name in OUTPUTS]


def server() -> dict[str, Any]:
    """Return what the server says of itself."""
    return {"name": "anamnesis", "version": version("anamnesis"), "extensions": list(EXTENSIONS)}


def known(name: str, number: str | None) -> None:
    """Refuse another model or version than the one that is served.

    Raises:
        Refusal: 404.
    """
    if name != NAME or number not in {None, "", VERSION}:
        raise Refusal(404, f"no such model or version here; expected {NAME}, version {VERSION}")


def stated(service: Service, name: object, kind: object, shape: object) -> tuple[str, str, tuple[int, ...]]:
    """Return name, type and shape of an input when they are the model's.

    Raises:
        Refusal: 400, what is not.
    """
    if not isinstance(name, str) or name not in INPUTS:
        raise Refusal(400, f"an input that the model does not have; expected {', '.join(INPUTS)}")
    expected, axes = INPUTS[name]
    if kind != expected:
        got = kind if isinstance(kind, str) and kind in KINDS else "another type"
        raise Refusal(400, f"tensor {name}: {got}; expected {expected}")
    if not is_shape(shape):
        raise Refusal(400, f"tensor {name}: shape is no list of whole numbers")
    assert isinstance(shape, Sequence)
    found = tuple(int(axis) for axis in shape)
    limits, longest = service.limits, service.release.max_tokens
    bounds = (limits.batch, longest)[:axes]
    if len(found) != axes or any(not 1 <= axis <= most for axis, most in zip(found, bounds, strict=True)):
        words = f"[1..{limits.batch}, 1..{longest}]" if axes == 2 else f"[1..{limits.batch}]"
        raise Refusal(400, f"tensor {name}: shape {shown(found)}; expected {words}")
    return name, expected, found


def is_shape(shape: object) -> bool:
    """Tell whether something is a list of whole numbers that an axis can have."""
    return isinstance(shape, Sequence) and not isinstance(shape, str | bytes) and all(
        isinstance(axis, int) and not isinstance(axis, bool) and abs(axis) < 2**63 for axis in shape
    )  # fmt: skip


def shown(shape: Sequence[int]) -> str:
    """Return a shape for a message, a long one by its number of axes."""
    return str(list(shape)) if len(shape) <= MOST_AXES else f"of {len(shape)} axes"


def chosen(names: Sequence[object]) -> tuple[str, ...]:
    """Return the outputs that a request asks for; all where it names none.

    Raises:
        Refusal: 400, the model does not have one, or it stands twice.
    """
    for name in names:
        if name not in OUTPUTS:
            raise Refusal(400, f"an output that the model does not have; expected {', '.join(OUTPUTS)}")
    if len(set(names)) != len(names):
        raise Refusal(400, "an output is asked for twice")
    return tuple(str(name) for name in names) or OUTPUTS


async def infer(service: Service, given: Mapping[str, Array]) -> Answer:
    """Answer a request's tensors.

    Args:
        service: the server's parts.
        given: by name, in the model's types.

    Raises:
        Refusal: 400 they do not fit together, 422 their values are none of a record, 503 no room.
    """
    check(service, given)
    token = given["token"]
    unknown = int((token == UNK).sum())
    service.metrics.add_codes(int((token > MASK).sum()), unknown)
    return await service.engine.run(token, given["visit"], given["age_days"], given["query_age_days"])


def check(service: Service, given: Mapping[str, Array]) -> None:
    """Refuse tensors that are none of records.

    Raises:
        Refusal: 400 or 422.
    """
    missing = [name for name in INPUTS if name not in given]
    if missing:
        raise Refusal(400, f"tensor {missing[0]}: missing; expected {', '.join(INPUTS)}")
    shape = given["token"].shape
    for name, (_, axes) in INPUTS.items():
        if given[name].shape != shape[:axes]:
            found = shown(given[name].shape)
            raise Refusal(400, f"tensor {name}: shape {found}; expected {shown(shape[:axes])}, as that of token")
    token, codes = given["token"], len(service.release.vocabulary.codes)
    if int(token.min()) < 0 or int(token.max()) >= codes:
        raise Refusal(422, f"tensor token: an id outside the vocabulary; expected 0 (padding) to {codes - 1}")
    if int(given["visit"].min()) < 0:
        raise Refusal(422, "tensor visit: a negative number; expected 0 for statics and padding, then 1, 2, ...")
    for name in ("age_days", "query_age_days"):
        if not np.isfinite(given[name]).all():
            raise Refusal(422, f"tensor {name}: not a finite number")
