"""The end of the graph: logits to calibrated probabilities, with constants that keep their names.

The exporter folds constants and merges equal ones, so that they cannot be found again. This end is written node by
node; to fit a model to another site, its constants alone are exchanged.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

PARTS = ("slope", "intercept", "knots", "widths", "slopes")
PREFIX = "calibration."
LOGIT, PROBABILITY = "logit", "probability"


def calibrate(model: onnx.ModelProto, calibration: Mapping[str, npt.NDArray[np.float32]]) -> onnx.ModelProto:
    """Replace what leads from `logit` to `probability`.

    z' = slope z + intercept + sum_j slopes_j clip(z - knots_j, 0, widths_j); probability is the running maximum
    over horizons of sigmoid(z').

    Args:
        model: with the outputs `logit` and `probability`, f32 [batch, K, H]; it is changed in place.
        calibration: slope, intercept f32 [K]; knots, widths, slopes f32 [K, J].

    Raises:
        ValueError: parts are missing, or are of other outcomes than the model's.
    """
    outcomes, horizons = shape_of(model)
    if set(calibration) != set(PARTS):
        raise ValueError(f"calibration: holds {', '.join(sorted(calibration))}; expected {', '.join(PARTS)}")
    if any(len(calibration[part]) != outcomes for part in PARTS):
        raise ValueError(f"calibration: of {len(calibration['slope'])} outcomes; the model has {outcomes}")
    graph: Any = model.graph
    keep_for(graph, LOGIT)
    nodes, constants = tail(calibration, horizons)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    onnx.checker.check_model(model, full_check=True)
    return model


def shape_of(model: onnx.ModelProto) -> tuple[int, int]:
    """Return K and H of the output `logit`."""
    found: dict[str, Any] = {output.name: output for output in model.graph.output}
    if LOGIT not in found or PROBABILITY not in found:
        raise ValueError(f"model: outputs {', '.join(found)}; expected {LOGIT} and {PROBABILITY}")
    dims = found[LOGIT].type.tensor_type.shape.dim
    return int(dims[1].dim_value), int(dims[2].dim_value)


def keep_for(graph: Any, output: str) -> None:  # noqa: ANN401  a GraphProto
    """Take away the nodes and constants that an output does not need."""
    wanted = {output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    kept.reverse()
    constants = [item for item in graph.initializer if item.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)


def tail(calibration: Mapping[str, npt.NDArray[np.float32]], horizons: int) -> tuple[list[Any], list[Any]]:
    """Return the nodes and constants from `logit` to `probability`."""
    held: dict[str, npt.NDArray[Any]] = {}
    for part in PARTS:
        values = np.asarray(calibration[part], dtype=np.float32)
        # [K] becomes [K, 1]; [K, J] becomes [K, 1, J]: beside the horizons.
        held[part] = values[:, None] if values.ndim == 1 else values[:, None, :]
    held |= {"zero": np.zeros((), np.float32), "last": np.array([-1], np.int64)}

    def name(part: str) -> str:
        return PREFIX + part

    def node(kind: str, inputs: list[str], output: str, **settings: Any) -> Any:  # noqa: ANN401  a NodeProto
        title = f"{PREFIX}{kind}.{output.removeprefix(PREFIX)}"
        return helper.make_node(kind, inputs, [output], name=title, **settings)

    nodes = [
        node("Unsqueeze", [LOGIT, name("last")], name("wide")),
        node("Sub", [name("wide"), name("knots")], name("beyond")),
        node("Max", [name("beyond"), name("zero")], name("above")),
        node("Min", [name("above"), name("widths")], name("step")),
        node("Mul", [name("step"), name("slopes")], name("bend")),
        node("ReduceSum", [name("bend"), name("last")], name("bent"), keepdims=0),
        node("Mul", [LOGIT, name("slope")], name("tilted")),
        node("Add", [name("tilted"), name("intercept")], name("line")),
        node("Add", [name("line"), name("bent")], name("mapped")),
        node("Sigmoid", [name("mapped")], name("free") if horizons > 1 else PROBABILITY),
    ]
    if horizons > 1:
        # No operator is a running maximum; horizons are few, so each takes the maximum with the one before.
        held["each"] = np.ones(horizons, np.int64)
        pieces = [name(f"free{at}") for at in range(horizons)]
        split = helper.make_node("Split", [name("free"), name("each")], pieces, name=f"{PREFIX}Split.free", axis=2)
        nodes.append(split)
        for at in range(1, horizons):
            before = pieces[0] if at == 1 else name(f"most{at - 1}")
            nodes.append(node("Max", [before, pieces[at]], name(f"most{at}")))
        highest = [pieces[0], *(name(f"most{at}") for at in range(1, horizons))]
        nodes.append(node("Concat", highest, PROBABILITY, axis=2))
    constants = [numpy_helper.from_array(np.ascontiguousarray(values), name(part)) for part, values in held.items()]
    return nodes, constants
