"""The ONNX file: written for old runtimes, opened with plain answers, its calibration exchanged in place."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from compress.onnx import calibration as calibrations
from compress.onnx import session as sessions
from compress.onnx.calibration import PARTS, calibrate
from compress.onnx.export import export
from compress.onnx.manifest import describe
from compress.onnx.parity import enforce, parity
from compress.onnx.session import open_session
from ehr import calibration
from ehr.calibration import Calibration


def logits_model(outcomes, horizons):
    """Return a model whose logit is its input and whose probability is to be replaced."""
    shape = ["batch", outcomes, horizons]
    given, logit, probability = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "logit", "probability")
    )
    nodes = [helper.make_node("Identity", ["x"], ["logit"]), helper.make_node("Sigmoid", ["logit"], ["probability"])]
    graph = helper.make_graph(nodes, "g", [given], [logit, probability])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, x):
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return runtime.run(["logit", "probability"], {"x": x})


def drawn(seed, outcomes, pieces):
    """Return a rising calibration."""
    draw = np.random.default_rng(seed)
    widths = draw.random((outcomes, pieces)).astype(np.float32)
    widths[draw.random(widths.shape) < 0.2] = 0
    knots = (-3 + np.cumsum(np.insert(widths, 0, 0, axis=1)[:, :-1], axis=1)).astype(np.float32)
    slope = draw.uniform(0.1, 2, outcomes).astype(np.float32)
    slopes = draw.uniform(-0.05, 2, widths.shape).astype(np.float32)
    return Calibration(slope, draw.normal(size=outcomes).astype(np.float32), knots, widths, slopes)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
def test_the_graph_calibrates_as_numpy_does(seed, outcomes, horizons, pieces):
    fitted = drawn(seed, outcomes, pieces)
    x = np.random.default_rng(seed).normal(scale=3, size=(7, outcomes, horizons)).astype(np.float32)
    logit, probability = run(calibrate(logits_model(outcomes, horizons), fitted._asdict()), x)
    assert np.array_equal(logit, x)
    assert np.abs(probability - calibration.apply(fitted, x)).max() < 2e-6
    assert (np.diff(probability, axis=2) >= 0).all()


def test_a_calibration_is_exchanged_without_a_trace():
    first, second = (drawn(seed, 3, 4) for seed in (1, 2))
    twice = calibrate(calibrate(logits_model(3, 2), first._asdict()), second._asdict())
    once = calibrate(logits_model(3, 2), second._asdict())
    assert twice.SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_a_calibration_of_other_outcomes_is_refused():
    with pytest.raises(ValueError, match="of 4 outcomes; the model has 3"):
        calibrate(logits_model(3, 2), drawn(0, 4, 2)._asdict())
    with pytest.raises(ValueError, match=f"expected {', '.join(PARTS)}"):
        calibrate(logits_model(3, 2), {"slope": np.ones(3, np.float32)})
    other = logits_model(3, 2)
    other.graph.output[1].name = "risk"
    with pytest.raises(ValueError, match="expected logit and probability"):
        calibrations.calibrate(other, drawn(0, 3, 2)._asdict())


class Small(torch.nn.Module):
    """A module with the inputs and outputs of a release."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(9, 6)

    def forward(self, token, visit, age_days, query_age_days):
        held = self.table(token).sum(1) + visit.sum(1, keepdim=True) + age_days.mean(1, keepdim=True)
        logit = (held + query_age_days[:, None]).unflatten(1, (3, 2))
        return logit, torch.sigmoid(logit)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a small model file, its module and example inputs."""
    torch.manual_seed(0)
    inputs = {
        "token": torch.randint(0, 9, (3, 5)),
        "visit": torch.randint(0, 4, (3, 5), dtype=torch.int32),
        "age_days": torch.rand(3, 5),
        "query_age_days": torch.rand(3),
    }
    axes = {name: ("batch", "seq")[: tensor.dim()] for name, tensor in inputs.items()}
    module = Small()
    model = export(module, inputs, axes, ("logit", "probability"))
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    path.write_bytes(model.SerializeToString())
    return path, module, inputs, model


def test_any_size_gives_what_torch_gives(small):
    path, module, _, _ = small
    session = open_session(path)
    assert (session.outcomes, session.horizons, session.provider) == (3, 2, "CPUExecutionProvider")
    for rows, length in ((1, 1), (1, 9), (8, 1), (17, 33)):
        given = (
            torch.randint(0, 9, (rows, length)),
            torch.randint(0, 4, (rows, length), dtype=torch.int32),
            torch.rand(rows, length),
            torch.rand(rows),
        )
        with torch.no_grad():
            expected = module(*given)[0].numpy()
        assert np.abs(session.run(*(part.numpy() for part in given))[0] - expected).max() < 1e-5


def test_old_runtimes_can_open_it(small):
    model = small[3]
    told = describe(model)
    assert (told["opset"], told["ir_version"]) == ({"ai.onnx": 20}, 10)
    assert told["inputs"]["token"] == {"type": "int64", "shape": ["batch", "seq"]}
    assert told["outputs"]["logit"] == {"type": "float", "shape": ["batch", 3, 2]}
    assert not model.functions
    text = model.SerializeToString()
    assert b"/" not in b"".join(node.doc_string.encode() for node in model.graph.node)
    assert b".py" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot open it"), (b"not a model", "cannot open it"), (None, "inputs x; expected token")],
)
def test_other_files_are_refused_in_a_line(content, message, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(logits_model(2, 2).SerializeToString() if content is None else content)
    with pytest.raises(ValueError, match=message) as error:
        open_session(path)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_no_silent_cpu(small, monkeypatch):
    with pytest.raises(ValueError, match="expected cpu or cuda"):
        open_session(small[0], device="tpu")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="no CUDAExecutionProvider"):
        open_session(small[0], device="cuda")


def test_two_runtimes_are_refused(small, monkeypatch):
    monkeypatch.setattr(sessions, "installed", lambda name: True)
    with pytest.raises(ValueError, match="onnxruntime and onnxruntime-gpu are both installed"):
        open_session(small[0])


def test_parity_sees_what_is_apart():
    one = np.zeros((3, 2, 1), np.float32)
    other = one.copy()
    other[1, 0, 0] = 3e-4
    assert parity(one, other).max_abs == pytest.approx(3e-4)
    enforce(parity(one, one), 0)
    with pytest.raises(ValueError, match=r"up to 0\.0003 over 3 samples"):
        enforce(parity(one, other), 1e-4)
    other[2] = np.nan
    assert parity(one, other).max_abs == np.inf
    with pytest.raises(ValueError, match="expected the same"):
        parity(one, other[:2])


def test_a_model_that_onnx_checks(small):
    onnx.checker.check_model(small[3], full_check=True)
