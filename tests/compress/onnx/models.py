"""A small model file with a table and two products, made node by node, and what it gives."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def weights(seed=0, *, depth=33, width=23, ternary=True, zeros=0.4, rows=40):
    """Return layers by name, f32 [outputs, inputs]: a table and two products, ternary or dense."""
    draw = np.random.default_rng(seed)

    def matrix(outputs, inputs):
        if not ternary:
            dense = draw.normal(size=(outputs, inputs)).astype(np.float32)
            dense[draw.random(dense.shape) < zeros] = 0
            return dense
        signs = draw.choice(np.float32([-1, 1]), (outputs, inputs))
        signs[draw.random(signs.shape) < zeros] = 0
        return signs * draw.uniform(0.1, 1, (outputs, 1)).astype(np.float32)

    table = draw.normal(size=(rows, depth)).astype(np.float32)
    return {"table": table, "first": matrix(width, depth), "second": matrix(depth, width)}


def build(layers, *, twice=False):
    """Return the model: token [batch, seq] to [batch, seq, depth]; `twice` uses the second matrix two times."""
    depth = layers["table"].shape[1]
    nodes = [
        helper.make_node("Gather", ["rows", "token"], ["x"], name="gather"),
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Sigmoid", ["h"], ["s"], name="act"),
        helper.make_node("MatMul", ["s", "w2"], ["a" if twice else "y"], name="second"),
    ]
    if twice:
        nodes += [
            helper.make_node("Neg", ["s"], ["n"], name="negative"),
            helper.make_node("MatMul", ["n", "w2"], ["b"], name="again"),
            helper.make_node("Sub", ["a", "b"], ["y"], name="both"),
        ]
    constants = [
        numpy_helper.from_array(layers["table"], "rows"),
        numpy_helper.from_array(np.ascontiguousarray(layers["first"].T), "w1"),
        numpy_helper.from_array(np.ascontiguousarray(layers["second"].T), "w2"),
    ]
    token = helper.make_tensor_value_info("token", TensorProto.INT64, ["batch", "seq"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "seq", depth])
    graph = helper.make_graph(nodes, "small", [token], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def options(**settings):
    """Return one thread and no messages."""
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads, made.inter_op_num_threads, made.log_severity_level = 1, 1, 3
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def run(model, token, **settings):
    """Return y."""
    content = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options(**settings), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"token": token})[0]


def folded(model, path):
    """Return the model as the runtime makes it at load."""
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    made = options(optimized_model_filepath=str(path), graph_optimization_level=level)
    onnxruntime.InferenceSession(model.SerializeToString(), made, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def operators(model):
    """Return the kinds of nodes."""
    return {node.op_type for node in model.graph.node}


def as_release(model):
    """Return a model with the inputs and outputs of a release around y [batch, seq, depth]: depth must be 33."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    more = [("visit", TensorProto.INT32, ["batch", "seq"]), ("age_days", TensorProto.FLOAT, ["batch", "seq"])]
    more.append(("query_age_days", TensorProto.FLOAT, ["batch"]))
    graph.input.extend(helper.make_tensor_value_info(*part) for part in more)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], np.int64), "axis.1"),
            numpy_helper.from_array(np.array([0], np.int64), "slice.0"),
            numpy_helper.from_array(np.array([21], np.int64), "slice.21"),
            numpy_helper.from_array(np.array([-1, 7, 3], np.int64), "shape.end"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["y", "axis.1"], ["pooled"], name="pool", keepdims=0),
            helper.make_node("Slice", ["pooled", "slice.0", "slice.21", "axis.1"], ["some"], name="some"),
            helper.make_node("Reshape", ["some", "shape.end"], ["logit"], name="logits"),
            helper.make_node("Sigmoid", ["logit"], ["probability"], name="probabilities"),
        ]
    )
    del graph.output[:]
    shape = ["batch", 7, 3]
    graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("logit", "probability"))
    onnx.checker.check_model(made, full_check=True)
    return made
