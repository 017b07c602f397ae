"""What a model file says of itself, for the manifest of a release."""

from typing import Any

import onnx


def describe(model: onnx.ModelProto) -> dict[str, Any]:
    """Return opset, IR version, inputs, outputs, parameters and operators of a model."""
    graph = model.graph
    return {
        "opset": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "ir_version": model.ir_version,
        "inputs": {item.name: axes(item) for item in graph.input},
        "outputs": {item.name: axes(item) for item in graph.output},
        "parameters": sum(size(item.dims) for item in graph.initializer),
        "operators": sorted({node.op_type for node in graph.node}),
    }


def axes(value: Any) -> dict[str, Any]:  # noqa: ANN401  a ValueInfoProto
    """Return type and axes of an input or output; an axis that varies has a name."""
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return {"type": kind, "shape": [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]}


def size(dims: Any) -> int:  # noqa: ANN401  repeated integers
    """Return the number of elements of a shape."""
    count = 1
    for dim in dims:
        count *= int(dim)
    return count
