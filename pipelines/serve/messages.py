"""The messages of inference.proto, in a pool of their own.

A process that also loads another copy of the protocol, a client's for example, would find the same names twice in the
common pool; here they cannot meet.
"""

from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

COMPILED = Path(__file__).parent / "inference.binpb"
PACKAGE, SERVICE = "inference", "GRPCInferenceService"


class Method(NamedTuple):
    """One call of the service: its name, and the classes of request and response."""

    name: str
    request: Any
    response: Any


def methods(path: Path = COMPILED) -> dict[str, Method]:
    """Return the calls of the service by name.

    Args:
        path: a compiled descriptor set.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    service = pool.FindServiceByName(f"{PACKAGE}.{SERVICE}")
    made = message_factory.GetMessageClass
    return {
        method.name: Method(method.name, made(method.input_type), made(method.output_type))
        for method in service.methods
    }
