"""A rewritten file: the same weights to the last bit, standard operators alone, decoded and folded by the runtime."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from compress.hyperspherical.ternary import best_ternary, values
from compress.onnx import formats
from compress.onnx.formats import Pieces
from compress.onnx.rewriting import Plan, rewrite
from tests.compress.onnx.models import build, folded, operators, run, weights

EXACT = Plan(activations="fp32", embeddings="fp32")
TOKENS = np.random.default_rng(5).integers(0, 40, (3, 7))


def decoded(codes, form):
    """Return what the runtime decodes of stored codes."""
    pieces = Pieces()
    name = formats.FORMS[form](pieces, "layer", codes)
    kind = helper.np_dtype_to_tensor_dtype(codes.dtype)
    output = helper.make_tensor_value_info("y", kind, list(codes.shape))
    unused = helper.make_tensor_value_info("token", TensorProto.INT64, ["batch", "seq"])
    pieces.node("Identity", [name], "y")
    graph = helper.make_graph(pieces.nodes, "g", [unused], [output], list(pieces.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return run(model, TOKENS), pieces


@settings(max_examples=60)
@given(
    st.sampled_from(["trits", "bitmap"]),
    st.integers(1, 9),
    st.integers(1, 11),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.integers(0, 99),
)
def test_codes_come_back_from_the_graph(form, depth, width, zeros, seed):
    draw = np.random.default_rng(seed)
    codes = draw.choice(np.array([-1, 1], np.int8), (depth, width))
    codes[draw.random(codes.shape) < zeros] = 0
    found, _ = decoded(codes, form)
    assert found.dtype == np.int8
    assert np.array_equal(found, codes)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
def test_entries_come_back_from_a_bitmap(dtype, zeros):
    draw = np.random.default_rng(3)
    values = draw.integers(-63, 64, (13, 7)).astype(dtype) + np.dtype(dtype).type(0)
    values[draw.random(values.shape) < zeros] = 0
    found, pieces = decoded(values, "bitmap")
    assert np.array_equal(found, values)
    assert len(pieces.constants["layer.kept"].raw_data) == -(-values.size // 8)


@pytest.mark.parametrize("form", ["trits", "bitmap", "auto"])
@pytest.mark.parametrize("zeros", [0.2, 0.8])
def test_the_exact_file_gives_the_same_bits(form, zeros, tmp_path):
    layers = weights(zeros=zeros)
    model = build(layers)
    made = rewrite(model, Plan(linear=form, activations="fp32", embeddings="fp32"), weights=layers)
    assert np.array_equal(run(made.model, TOKENS), run(model, TOKENS))
    expected = {"auto": "bitmap" if zeros > 0.6 else "trits"}.get(form, form)
    assert made.report.settings["formats"] == {"first": expected, "second": expected}
    assert all(held.error == 0 and held.bits == 2 for held in made.report.layers)
    assert operators(folded(made.model, tmp_path / "m.onnx")) <= {"Gather", "MatMul", "Sigmoid"}


def test_trits_answer_as_int8_does_to_the_bit():
    layers = weights()
    model = build(layers)
    ours, plain = (rewrite(model, Plan(linear=form), weights=layers).model for form in ("trits", "int8"))
    assert np.array_equal(run(ours, TOKENS), run(plain, TOKENS))
    assert np.abs(run(ours, TOKENS) - run(model, TOKENS)).max() < 0.05
    assert np.abs(run(ours, TOKENS) - run(model, TOKENS)).max() > 0


@pytest.mark.parametrize("dense", [False, True])
def test_products_are_folded_into_whole_numbers(dense, tmp_path):
    layers = weights(ternary=not dense, zeros=0)
    made = rewrite(build(layers), Plan(), weights=layers).model
    kinds = operators(folded(made, tmp_path / "m.onnx"))
    assert "MatMulIntegerToFloat" in kinds
    assert not kinds & {"MatMul", "DequantizeLinear", "Reshape", "Slice"}


def test_a_row_is_answered_alike_whoever_stands_beside_it():
    layers = weights(depth=64, width=48)
    layers["table"][:5] *= 1000
    made = rewrite(build(layers), Plan(), weights=layers).model
    together = run(made, np.arange(40).reshape(5, 8))
    for row in range(5):
        assert np.array_equal(run(made, np.arange(40).reshape(5, 8)[row : row + 1])[0], together[row])


def test_standard_operators_alone():
    layers = weights()
    made = rewrite(build(layers), Plan(embeddings="trits"), weights=layers).model
    onnx.checker.check_model(made, full_check=True)
    assert {node.domain for node in made.graph.node} == {""}
    assert [(item.domain, item.version) for item in made.opset_import] == [("", 20)]
    assert made.ir_version == 10
    assert not made.functions
    assert "w1" not in {item.name for item in made.graph.initializer}


@pytest.mark.parametrize(("form", "bound"), [("int8", 1e-4), ("int4", 0.02), ("trits", 0.25), ("fp16", 1e-6)])
def test_rows_of_a_table(form, bound):
    layers = weights(depth=37)
    made = rewrite(build(layers), Plan(linear="fp32", embeddings=form), weights=layers)
    held = made.report.layers[0]
    assert (held.name, held.kind) == ("table", "embedding")
    assert held.error < bound
    # What the graph decodes is what the report measured.
    fp32 = build({**layers, "table": made.weights["table"]})
    assert np.array_equal(run(made.model, TOKENS), run(fp32, TOKENS))
    stored = next(item for item in made.model.graph.initializer if item.name == f"weight.table.{form}")
    assert len(stored.raw_data) == 40 * {"int8": 37, "int4": 19, "trits": 8, "fp16": 74}[form]


def test_a_ternary_table_is_not_rounded():
    layers = weights()
    layers["table"] = values(best_ternary(torch.from_numpy(layers["table"]))).numpy()
    model = build(layers)
    made = rewrite(model, Plan(linear="fp32", embeddings="trits"), weights=layers).model
    assert np.array_equal(run(made, TOKENS), run(model, TOKENS))


def test_pruned_and_dense_matrices():
    layers = weights(ternary=False, zeros=0.5)
    model = build(layers)
    exact = rewrite(model, EXACT, weights=layers)
    assert np.array_equal(run(exact.model, TOKENS), run(model, TOKENS))
    assert exact.report.settings["formats"] == {"first": "bitmap", "second": "bitmap"}
    small = rewrite(model, Plan(), weights=layers)
    assert small.report.settings["formats"] == {"table": "int8", "first": "bitmap", "second": "bitmap"}
    assert [held.bits for held in small.report.layers] == [8, 7, 7]
    assert 0 < small.report.layers[1].error < 1e-3
    # Zeros stay zeros.
    assert not small.weights["first"][layers["first"] == 0].any()
    assert small.report.layers[1].zeros >= int((layers["first"] == 0).sum())
    assert np.abs(run(small.model, TOKENS) - run(model, TOKENS)).max() < 0.3


def test_a_matrix_used_twice_is_stored_once():
    layers = weights()
    model = build(layers, twice=True)
    for plan in (EXACT, Plan(), Plan(activations="fp16"), Plan(linear="nbits2")):
        made = rewrite(model, plan, weights=layers)
        assert np.abs(run(made.model, TOKENS) - run(model, TOKENS)).max() < 0.1
        assert [held.name for held in made.report.layers if held.kind == "linear"] == ["first", "second"]
    dense = weights(ternary=False, zeros=0.5)
    model = build(dense, twice=True)
    assert np.array_equal(run(rewrite(model, EXACT, weights=dense).model, TOKENS), run(model, TOKENS))


def test_half_precision():
    layers = weights(zeros=0.3)
    layers["second"] = weights(ternary=False, zeros=0.3)["second"]
    model = build(layers)
    made = rewrite(model, Plan(activations="fp16", embeddings="fp16"), weights=layers)
    assert made.report.settings["formats"] == {"table": "fp16", "first": "trits", "second": "fp16"}
    assert np.abs(run(made.model, TOKENS) - run(model, TOKENS)).max() < 0.02
    layers["second"][0, 0] = 1e6
    with pytest.raises(ValueError, match="second: holds values beyond those of fp16"):
        rewrite(build(layers), Plan(activations="fp16"), weights=layers)


def test_two_bits_in_memory():
    layers = weights(depth=256, width=160)
    model = build(layers)
    made = rewrite(model, Plan(linear="nbits2", embeddings="fp32"), weights=layers)
    assert {(item.domain, item.version) for item in made.model.opset_import} == {("", 20), ("com.microsoft", 1)}
    apart = np.abs(run(made.model, TOKENS) - run(model, TOKENS)).max() / np.abs(run(model, TOKENS)).max()
    assert apart < 0.01
    # The kernel in f32 shows that codes, scales and padding are right.
    for node in made.model.graph.node:
        for held in node.attribute:
            held.i = 0 if held.name == "accuracy_level" else held.i
    assert np.abs(run(made.model, TOKENS) - run(model, TOKENS)).max() < 1e-4


def test_no_silent_rounding():
    layers = weights()
    claimed = {"first": best_ternary(torch.from_numpy(layers["first"]), fit="least_squares")}
    rewrite(build(layers), Plan(), weights=layers, ternary=claimed)
    other = {**layers, "first": layers["first"].copy()}
    other["first"][2, 3] += np.float32(1e-6)
    with pytest.raises(ValueError, match="first: does not hold the ternary values"):
        rewrite(build(other), Plan(), weights=other, ternary=claimed)
    with pytest.raises(ValueError, match="first: holds other values than -a, 0 and a"):
        rewrite(build(other), Plan(linear="trits"), weights=other)
    with pytest.raises(ValueError, match="third: is said to be ternary, but"):
        rewrite(build(layers), Plan(), weights=layers, ternary={"third": claimed["first"]})


def test_what_is_kept():
    layers = weights()
    model = build(layers)
    assert not rewrite(model, Plan(keep=("fir*", "second", "table")), weights=layers).report.layers
    assert not rewrite(model, Plan(least=34), weights=layers).report.layers
    # Without names the graph's own tell.
    assert rewrite(model, Plan(keep=("w2", "rows"))).report.settings["formats"] == {"w1": "trits"}
    before = model.SerializeToString()
    rewrite(model, Plan(), weights=layers)
    assert model.SerializeToString() == before


def test_outputs_may_bear_the_names_of_layers():
    layers = weights()
    model = build(layers)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = {"x": "table", "h": "first", "s": "second"}.get(name, name)
    made = rewrite(model, Plan(), weights=layers).model
    assert np.abs(run(made, TOKENS) - run(model, TOKENS)).max() < 0.05


def test_the_same_bytes_again():
    layers = weights()
    first, second = (rewrite(build(layers), Plan(), weights=layers).model for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
