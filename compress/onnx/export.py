"""Torch to one ONNX file that stock onnxruntime opens: opset 20, IR 10, default domain, no external data."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET, IR = 20, 10
"""From opset 23 on attention becomes one operator, whose masks some runtimes refuse; onnx writes IR 14 by itself,
which most runtimes in use do not take."""
LARGEST = 2**31 - 1
"""Bytes of a file without external data, at most (protobuf)."""


def export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Sequence[str]],
    outputs: Sequence[str],
    *,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Export a module.

    Args:
        module: in eval mode; takes the inputs in order and returns the outputs in order.
        inputs: example tensors by name; sizes of named axes should differ from each other and from 1.
        axes: names of the axes of each input that may vary, for all of its axes in order.
        outputs: names.
        opset: version of the operator set.

    Returns:
        The checked model, without traces of the machine it was made on.

    Raises:
        ValueError: the graph cannot be exported, or is too large for one file.
    """
    size = {axis: torch.export.Dim(axis) for names in axes.values() for axis in names}
    shapes = tuple({at: size[axis] for at, axis in enumerate(axes[name])} for name in inputs)
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ValueError(f"export: torch cannot export this network ({str(error).splitlines()[0]})") from None
    assert program is not None
    model = program.model_proto
    if model.ByteSize() > LARGEST:
        raise ValueError(f"export: {model.ByteSize():,} bytes; a file holds {LARGEST:,}; use a smaller network")
    return clean(model)


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Set the IR version, take away what tells of the exporting machine, and check the model."""
    model.ir_version = IR
    graph: Any = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


@contextmanager
def quiet() -> Any:  # noqa: ANN401  a generator
    """Leave out what the exporter says of packages that are not there and of names it keeps anyway."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
