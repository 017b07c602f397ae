"""A model file with smaller weights: matrix products and tables rewritten, everything else left as it is.

Weights that hold three values a row are stored as such, to the last bit; others are rounded to whole numbers of 8 bits
only where the plan says so, and the report says which.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from compress.hyperspherical.ternary import Ternary
from compress.onnx import formats
from compress.onnx.formats import Pieces
from compress.onnx.rounding import halved, packed_rows, rounded
from compress.report import CompressionReport, Layer
from compress.sizes import Recovered, recovered

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
BITMAP_ABOVE = 0.6
"""Share of zeros above which a bitmap of ternary codes is smaller than trits by an eighth or more."""
PRUNED_ABOVE = 0.25
"""Share of zeros above which a matrix counts as pruned and is stored as a bitmap of its entries."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of weights."""

    linear: Literal["auto", "trits", "bitmap", "nbits2", "int8", "fp32"] = "auto"
    """auto: trits, or a bitmap above 60 % zeros, of ternary matrices; others in int8, or as they are where activations
    stay in fp32. trits, bitmap: refuse matrices that are not ternary. nbits2: MatMulNBits; others int8."""
    activations: Literal["int8", "fp32", "fp16"] = "int8"
    """What the inputs of products become."""
    embeddings: Literal["int8", "int4", "trits", "fp16", "fp32"] = "int8"
    """Rows of tables; trits rounds a table that is not ternary."""
    keep: tuple[str, ...] = ()
    """Shell patterns over names of layers that stay as they are."""
    least: int = 16
    """Matrices with fewer rows or columns stay as they are: they save nothing."""

    @property
    def least_onnxruntime(self) -> str:
        """The oldest runtime that opens such a file and is fast on it."""
        return "1.31" if self.linear == "nbits2" else "1.20"


class Rewritten(NamedTuple):
    """A model after rewriting.

    Attributes:
        model: checked.
        report: layer by layer; errors are those of the weights themselves, ||W - W'||^2 / ||W||^2.
        weights: what each rewritten layer decodes to, f32 [rows, columns].
    """

    model: onnx.ModelProto
    report: CompressionReport
    weights: dict[str, Array]


class Stored(NamedTuple):
    """A weight of the graph.

    Attributes:
        name: of the layer, or of the graph's constant where the layer is not known.
        value: f32, as the graph holds it.
    """

    name: str
    value: Floats

    @property
    def constant(self) -> str:
        """What its constants are called: unlike the outputs of nodes, which may bear the layer's own name."""
        return f"weight.{self.name}"


def rewrite(
    model: onnx.ModelProto,
    plan: Plan,
    *,
    weights: Mapping[str, Array] | None = None,
    ternary: Mapping[str, Ternary | Recovered] | None = None,
) -> Rewritten:
    """Rewrite products with a constant matrix and tables that rows are taken out of.

    Args:
        model: of `export`; not changed.
        plan: settings.
        weights: matrices by layer, f32 [outputs, inputs]; they give the graph's constants their names.
        ternary: layers that are known to be ternary, with what they have to hold.

    Raises:
        ValueError: a layer is not what `ternary` or the plan says of it.
    """
    known = {fingerprint(value): name for name, value in (weights or {}).items()}
    for name, claimed in (ternary or {}).items():
        hold(name, (weights or {}).get(name), claimed)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph: Any = made.graph
    constants = {item.name: item for item in graph.initializer}
    ranks = {item.name: len(item.type.tensor_type.shape.dim) for item in graph.input}
    found = Rewriting(plan)
    for node in graph.node:
        held = stored(node, constants, known)
        if held and node.op_type == "MatMul":
            found.product(node, held)
        elif held and ranks.get(node.input[1]) == 2 and axis_of(node) == 0:
            found.table(node, held)
        else:
            found.pieces.nodes.append(node)
    finish(made, found.pieces)
    settings = {**asdict(plan), "keep": list(plan.keep), "formats": found.formats}
    return Rewritten(made, CompressionReport("onnx", settings, tuple(found.layers)), found.weights)


class Rewriting:
    """One pass over a graph's nodes."""

    def __init__(self, plan: Plan) -> None:
        """Begin with nothing."""
        self.plan = plan
        self.pieces = Pieces()
        self.layers: list[Layer] = []
        self.formats: dict[str, str] = {}
        self.weights: dict[str, Array] = {}
        self.decoded: dict[str, str] = {}

    def kept(self, name: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a weight stays as it is."""
        return min(shape) < self.plan.least or any(fnmatchcase(name, pattern) for pattern in self.plan.keep)

    def told(self, name: str, kind: str, value: Floats, made: Floats, form: str, bits: int) -> None:
        """Record what was done to a layer; value and made f32 [rows, columns]."""
        if name in self.formats:
            return
        error = float(((value - made) ** 2).sum() / max(float((value**2).sum()), 1e-30))
        zeros = int(made.size - np.count_nonzero(made))
        self.layers.append(Layer(name, kind, len(value), value.shape[1], zeros, bits=bits, error=error))
        self.formats[name], self.weights[name] = form, made

    def product(self, node: Any, held: Stored) -> None:  # noqa: ANN401  a NodeProto
        """Rewrite x @ W with W [K, N]."""
        plan, x, output = self.plan, node.input[0], node.output[0]
        columns = held.value.T
        three = None if plan.linear == "fp32" else recovered(columns)
        if self.kept(held.name, held.value.shape) or plan.linear == "fp32":
            self.pieces.nodes.append(node)
            return
        if three is None and plan.linear in ("trits", "bitmap"):
            raise ValueError(
                f"{held.name}: holds other values than -a, 0 and a in a row; expected a ternary layer: train it with "
                "anamnesis compress, keep it, or let the plan be auto"
            )
        if three is None and plan.activations != "int8":
            self.dense(node, held)
            return
        codes, scale = (three.codes.T, three.scale) if three else rounded(columns)
        if three and plan.linear == "nbits2":
            self.told(held.name, "linear", columns, columns, "nbits2", 2)
            formats.nbits2(self.pieces, held.constant, codes, scale, x, output)
            return
        form = self.form(codes, ternary=three is not None)
        if held.name not in self.decoded:
            self.decoded[held.name] = formats.FORMS[form](self.pieces, held.constant, np.ascontiguousarray(codes))
        self.told(held.name, "linear", columns, (codes * scale).T.astype(np.float32), form, 2 if three else 7)
        formats.PRODUCTS[plan.activations](self.pieces, held.constant, self.decoded[held.name], scale, x, output)

    def form(self, codes: npt.NDArray[np.int8], *, ternary: bool) -> str:
        """Return how codes are stored."""
        zeros = 1 - np.count_nonzero(codes) / codes.size
        if self.plan.linear == "int8":
            return "int8"
        if not ternary:
            return "bitmap" if zeros > PRUNED_ABOVE else "int8"
        if self.plan.linear in ("trits", "bitmap"):
            return self.plan.linear
        return "bitmap" if zeros > BITMAP_ABOVE else "trits"

    def dense(self, node: Any, held: Stored) -> None:  # noqa: ANN401  a NodeProto
        """Leave a matrix that is not ternary in f32, or in f16; a pruned one as a bitmap of its entries."""
        x, output, value = node.input[0], node.output[0], held.value
        zeros = 1 - np.count_nonzero(value) / value.size
        if self.plan.activations == "fp16":
            narrow = halved(held.name, value)
            self.told(held.name, "linear", value.T, narrow.T.astype(np.float32), "fp16", 16)
            weight = self.pieces.constant(f"{held.constant}.fp16", narrow)
            formats.half(self.pieces, weight, x, output)
        elif zeros > PRUNED_ABOVE:
            self.told(held.name, "linear", value.T, value.T, "bitmap", 32)
            if held.name not in self.decoded:
                self.decoded[held.name] = formats.bitmap(self.pieces, held.constant, value)
            self.pieces.node("MatMul", [x, self.decoded[held.name]], output)
        else:
            self.pieces.nodes.append(node)

    def table(self, node: Any, held: Stored) -> None:  # noqa: ANN401  a NodeProto
        """Rewrite table[index] with a table [V, D]."""
        form, index, output = self.plan.embeddings, node.input[1], node.output[0]
        if self.kept(held.name, held.value.shape) or form == "fp32":
            self.pieces.nodes.append(node)
            return
        packed, made, bits = packed_rows(held.name, held.value, form)
        self.told(held.name, "embedding", held.value, made, form, bits)
        formats.rows(self.pieces, held.constant, packed, index, output)


def stored(node: Any, constants: Mapping[str, Any], known: Mapping[str, str]) -> Stored | None:  # noqa: ANN401
    """Return the f32 matrix that a MatMul multiplies with, or that a Gather takes rows of; None for other nodes."""
    at = {"MatMul": 1, "Gather": 0}.get(node.op_type)
    item = None if at is None else constants.get(node.input[at])
    if at is None or item is None or len(item.dims) != 2 or item.data_type != onnx.TensorProto.FLOAT:
        return None
    value = np.asarray(numpy_helper.to_array(item), dtype=np.float32)
    name = known.get(fingerprint(value.T if at else value))
    return Stored(name or str(item.name), value)


def axis_of(node: Any) -> int:  # noqa: ANN401  a NodeProto
    """Return the axis of a Gather."""
    return next((int(held.i) for held in node.attribute if held.name == "axis"), 0)


def fingerprint(value: Array) -> str:
    """Return what equal matrices have in common."""
    exact = np.ascontiguousarray(value, dtype=np.float32)
    return f"{exact.shape}{hashlib.sha256(exact.tobytes()).hexdigest()}"


def hold(name: str, weight: Array | None, claimed: Ternary | Recovered) -> None:
    """Refuse a layer that does not hold exactly what is said of it."""
    codes, scale = np.asarray(claimed.codes), np.asarray(claimed.scale, dtype=np.float32)
    if weight is None:
        raise ValueError(f"{name}: is said to be ternary, but the model has no such layer; compress the run again")
    if codes.shape != weight.shape or not np.array_equal(codes.astype(np.float32) * scale[:, None], weight):
        raise ValueError(f"{name}: does not hold the ternary values that are said of it; compress the run again")


def finish(model: onnx.ModelProto, pieces: Pieces) -> None:
    """Put the new nodes into a model, take away constants that nothing uses, and check it."""
    graph: Any = model.graph
    used = {name for node in pieces.nodes for name in node.input}
    constants = [item for item in graph.initializer if item.name in used] + list(pieces.constants.values())
    # Copied first: the nodes that stayed belong to the graph that is emptied.
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in pieces.nodes]
    constants = [onnx.TensorProto.FromString(item.SerializeToString()) for item in constants]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    imports: Any = model.opset_import
    if any(node.domain == formats.CONTRIB for node in nodes) and formats.CONTRIB not in {i.domain for i in imports}:
        imports.append(helper.make_opsetid(formats.CONTRIB, 1))
    onnx.checker.check_model(model, full_check=True)
