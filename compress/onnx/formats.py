"""How packed weights stand in a graph: what is stored, and the standard operators that decode it.

A linear layer's codes are decoded from constants alone, so that a runtime folds the decoding away when it loads the
file. Rows of a table are decoded after they are taken out, so that the table stays packed in memory.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from compress import packing

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int8]
PREFIX = "packed."
ROW_TABLES = {"trits": packing.trit_table, "int4": packing.nibble_table}
NBITS2_BLOCK = 128
CONTRIB = "com.microsoft"


class Pieces:
    """Nodes and constants put together one after the other; a constant of one name stands there once."""

    def __init__(self) -> None:
        """Begin empty."""
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.made: set[str] = set()

    def node(self, kind: str, inputs: list[str], output: str, **settings: Any) -> str:  # noqa: ANN401  attributes
        """Add a node and return its output."""
        self.made.add(output)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{PREFIX}{kind}.{output}", **settings))
        return output

    def constant(self, name: str, values: Any) -> str:  # noqa: ANN401  an array or a number
        """Add a constant, unless it stands there, and return its name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def shared(self, name: str, values: Any) -> str:  # noqa: ANN401  an array or a number
        """Add a constant that many layers use."""
        return self.constant(PREFIX + name, values)


def lookup(pieces: Pieces, name: str, packed: str, table: str) -> str:
    """Decode bytes [...] by a table of 256 rows of g codes: [..., g]."""
    # Gather takes no bytes as indices.
    index = pieces.node("Cast", [packed], f"{name}.index", to=TensorProto.INT32)
    return pieces.node("Gather", [table, index], f"{name}.groups", axis=0)


def cut(pieces: Pieces, name: str, groups: str, count: int) -> str:
    """Turn groups [m, g] into the first codes [count]."""
    flat = pieces.node("Reshape", [groups, pieces.shared("flat", np.array([-1], np.int64))], f"{name}.flat")
    ends = pieces.constant(f"{name}.count", np.array([count], np.int64))
    return pieces.node("Slice", [flat, pieces.shared("begin", np.zeros(1, np.int64)), ends], f"{name}.codes")


def shaped(pieces: Pieces, name: str, flat: str, shape: tuple[int, ...]) -> str:
    """Give codes [n] their shape."""
    return pieces.node("Reshape", [flat, pieces.constant(f"{name}.shape", np.array(shape, np.int64))], f"{name}.matrix")


def trits(pieces: Pieces, name: str, codes: Codes) -> str:
    """Store codes of -1, 0 and 1 five a byte; return the decoded int8 matrix of their shape."""
    packed = pieces.constant(f"{name}.trits", packing.trits(codes.ravel()))
    groups = lookup(pieces, name, packed, pieces.shared("trits", packing.trit_table()))
    return shaped(pieces, name, cut(pieces, name, groups, codes.size), codes.shape)


def bitmap(pieces: Pieces, name: str, values: Array) -> str:
    """Store a bit an entry and what the entries that are not 0 hold; return the decoded matrix of their shape.

    Signs of ternary codes take a bit each; entries of another type stand one after the other as they are.
    """
    flat = values.ravel()
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int32)
    kept = pieces.constant(f"{name}.kept", np.packbits(flat != 0))
    groups = lookup(pieces, f"{name}.kept", kept, pieces.shared("bits", bits))
    there = cut(pieces, f"{name}.kept", groups, flat.size)
    if values.dtype == np.int8 and int(np.abs(values).max(initial=0)) <= 1:
        # At least one byte: nothing can be taken out of an empty constant, not even what is not used.
        signs = np.packbits(np.append(flat[flat != 0] < 0, np.zeros(8 * (not flat.any()), bool)))
        stored = pieces.constant(f"{name}.signs", signs)
        groups = lookup(pieces, f"{name}.signs", stored, pieces.shared("signs", 1 - 2 * bits))
        entries = pieces.node("Reshape", [groups, pieces.shared("flat", np.array([-1], np.int64))], f"{name}.entries")
    else:
        entries = pieces.constant(f"{name}.entries", flat[flat != 0] if flat.any() else flat[:1])
    rank = pieces.node("CumSum", [there, pieces.shared("first", np.int32(0))], f"{name}.rank")
    # Before the first entry the place is -1, the last one, which is not used.
    place = pieces.node("Sub", [rank, pieces.shared("one", np.int32(1))], f"{name}.place")
    picked = pieces.node("Gather", [entries, place], f"{name}.picked", axis=0)
    kind = TensorProto.FLOAT if values.dtype == np.float32 else TensorProto.INT32
    picked = pieces.node("Cast", [picked], f"{name}.wide", to=kind)
    flags = pieces.node("Cast", [there], f"{name}.flags", to=kind)
    decoded = pieces.node("Mul", [picked, flags], f"{name}.product")
    if values.dtype == np.int8:
        decoded = pieces.node("Cast", [decoded], f"{name}.narrow", to=TensorProto.INT8)
    return shaped(pieces, name, decoded, values.shape)


def whole(pieces: Pieces, name: str, values: Array) -> str:
    """Store values as they are."""
    return pieces.constant(f"{name}.values", values)


FORMS = {"trits": trits, "bitmap": bitmap, "int8": whole}
"""Ways to store int8 codes of a linear layer."""


def product_int8(pieces: Pieces, name: str, codes: str, scale: Array, x: str, output: str) -> None:
    """Multiply x with codes [K, N] as whole numbers of 8 bits, each row of x with a scale of its own.

    A row is divided by its largest entry, so that its numbers hang on no other row: what a patient's score is does not
    depend on who else is in the batch, which one scale a tensor (DynamicQuantizeLinear) would make it do. The
    dequantised product is what runtimes replace by one in whole numbers; one that does not stays right.
    """
    one, middle = pieces.shared("unit", np.float32(1)), pieces.shared("middle", np.uint8(128))
    rows = f"{x}.rows"
    if f"{rows}.quantised" not in pieces.made:
        size = pieces.node("Abs", [x], f"{rows}.size")
        most = pieces.node(
            "ReduceMax", [size, pieces.shared("last", np.array([-1], np.int64))], f"{rows}.most", keepdims=1
        )
        # A row of zeros is divided by this.
        most = pieces.node("Max", [most, pieces.shared("tiny", np.float32(1e-30))], f"{rows}.largest")
        factor = pieces.node("Div", [pieces.shared("levels", np.float32(127)), most], f"{rows}.factor")
        spread = pieces.node("Mul", [x, factor], f"{rows}.spread")
        pieces.node("QuantizeLinear", [spread, one, middle], f"{rows}.quantised")
        pieces.node("Mul", [most, pieces.shared("level", np.float32(1 / 127))], f"{rows}.scale")
    left = pieces.node("DequantizeLinear", [f"{rows}.quantised", one, middle], f"{output}.left")
    columns = pieces.constant(f"{name}.scale", scale)
    zero = pieces.constant(f"{name}.zero", np.zeros(len(scale), np.int8))
    right = pieces.node("DequantizeLinear", [codes, columns, zero], f"{output}.right", axis=1)
    within = pieces.node("MatMul", [left, right], f"{output}.product")
    pieces.node("Mul", [within, f"{rows}.scale"], output)


def product_fp32(pieces: Pieces, name: str, codes: str, scale: Array, x: str, output: str) -> None:
    """Multiply x with codes [K, N] times their scale, in f32."""
    wide = pieces.node("Cast", [codes], f"{output}.right", to=TensorProto.FLOAT)
    weight = pieces.node("Mul", [wide, pieces.constant(f"{name}.scale", scale)], f"{output}.weight")
    pieces.node("MatMul", [x, weight], output)


def product_fp16(pieces: Pieces, name: str, codes: str, scale: Array, x: str, output: str) -> None:
    """Multiply x with codes [K, N] in f16, then with their scale in f32."""
    weight = pieces.node("Cast", [codes], f"{output}.right", to=TensorProto.FLOAT16)
    product = half(pieces, weight, x, f"{output}.f32")
    pieces.node("Mul", [product, pieces.constant(f"{name}.scale", scale)], output)


def half(pieces: Pieces, weight: str, x: str, output: str) -> str:
    """Multiply x with a matrix of f16, in f16; the product is f32 again."""
    left = pieces.node("Cast", [x], f"{output}.left", to=TensorProto.FLOAT16)
    product = pieces.node("MatMul", [left, weight], f"{output}.f16")
    return pieces.node("Cast", [product], output, to=TensorProto.FLOAT)


PRODUCTS = {"int8": product_int8, "fp32": product_fp32, "fp16": product_fp16}
"""Ways to multiply by codes and scales, by what activations become."""


def nbits2(pieces: Pieces, name: str, codes: Codes, scale: Array, x: str, output: str) -> None:
    """Multiply by MatMulNBits of onnxruntime: two bits a weight, in memory too; not a standard operator.

    Args:
        pieces: grown.
        name: of the layer.
        codes: int8 [K, N] of -1, 0 and 1.
        scale: f32 [N].
        x: input.
        output: name.
    """
    depth, width = codes.shape
    blocks = -(-depth // NBITS2_BLOCK)
    padded = np.pad(codes.T, ((0, 0), (0, blocks * NBITS2_BLOCK - depth)))
    packed = packing.two_bit(np.ascontiguousarray(padded)).reshape(width, blocks, NBITS2_BLOCK // 4)
    repeated = np.repeat(scale, blocks).astype(np.float32)
    inputs = [x, pieces.constant(f"{name}.two_bit", packed), pieces.constant(f"{name}.scales", repeated)]
    # Level 4: activations of 8 bits; other levels and blocks have no fast kernel.
    settings = {"K": depth, "N": width, "bits": 2, "block_size": NBITS2_BLOCK, "accuracy_level": 4}
    pieces.node("MatMulNBits", inputs, output, domain=CONTRIB, **settings)


class Rows(NamedTuple):
    """A table as it is stored.

    Attributes:
        form: int8, int4, trits or fp16.
        packed: int8 or f16 [V, D], or u8 [V, bytes of a row].
        scale: f32 [V], or None where there is none.
        width: D.
    """

    form: str
    packed: Array
    scale: Array | None
    width: int


def rows(pieces: Pieces, name: str, table: Rows, index: str, output: str) -> None:
    """Take rows out of a packed table and decode these alone.

    Args:
        pieces: grown.
        name: of the table.
        table: as it is stored.
        index: of the rows, i64 [A, B].
        output: f32 [A, B, D].
    """
    packed, scale = pieces.constant(f"{name}.{table.form}", table.packed), table.scale
    taken = pieces.node("Gather", [packed, index], f"{output}.taken", axis=0)
    if table.form in ROW_TABLES:
        codes = ROW_TABLES[table.form]().astype(np.float32)
        groups = lookup(pieces, output, taken, pieces.shared(f"{table.form}.f32", codes))
        flat = pieces.node(
            "Reshape", [groups, pieces.shared("join", np.array([0, 0, -1], np.int64))], f"{output}.joined"
        )
        ends = pieces.constant(f"{name}.width", np.array([table.width], np.int64))
        last = pieces.shared("last", np.array([-1], np.int64))
        taken = pieces.node("Slice", [flat, pieces.shared("begin", np.zeros(1, np.int64)), ends, last], f"{output}.row")
    else:
        taken = pieces.node("Cast", [taken], output if scale is None else f"{output}.row", to=TensorProto.FLOAT)
    if scale is not None:
        column = pieces.constant(f"{name}.scale", scale[:, None])
        factor = pieces.node("Gather", [column, index], f"{output}.scale", axis=0)
        pieces.node("Mul", [taken, factor], output)
