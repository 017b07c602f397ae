"""The folded file: nothing left to decode, the same answers, made again when its runtime or its source is another."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from compress.onnx import install as installing
from compress.onnx.install import NOTE, install
from compress.onnx.rewriting import Plan, rewrite
from compress.onnx.session import open_session, options_of
from tests.compress.onnx.models import as_release, build, operators, run, weights

TOKENS = np.random.default_rng(5).integers(0, 40, (3, 7))


@pytest.fixture
def packed(tmp_path):
    """Return a packed model file with metadata, and the model."""
    layers = weights()
    model = rewrite(build(layers), Plan(), weights=layers).model
    entry = model.metadata_props.add()
    entry.key, entry.value = "vocabulary", "ab" * 500
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, model


def test_nothing_is_left_to_decode(packed, tmp_path):
    path, model = packed
    before = path.read_bytes()
    folded = install(path, tmp_path / "installed")
    made = onnx.load(folded)
    assert "MatMulIntegerToFloat" in operators(made)
    assert not operators(made) & {"Slice", "Reshape", "DequantizeLinear", "CumSum"}
    assert {entry.key: entry.value for entry in made.metadata_props} == {"vocabulary": "ab" * 500}
    assert np.array_equal(run(str(folded), TOKENS), run(model, TOKENS))
    assert path.read_bytes() == before
    assert sorted(file.name for file in folded.parent.iterdir()) == [NOTE, folded.name]


def test_it_is_made_once_and_again_when_something_changed(packed, tmp_path, monkeypatch):
    path, _ = packed
    folder = tmp_path / "installed"
    made = []
    real = installing.opened
    monkeypatch.setattr(installing, "opened", lambda *given: made.append(1) or real(*given))
    for _ in range(3):
        folded = install(path, folder)
    assert len(made) == 1
    damaged = folded.read_bytes()
    folded.write_bytes(damaged[:-9] + b"\0" * 9)
    install(path, folder)
    assert len(made) == 2
    (folder / NOTE).write_text("{")
    install(path, folder)
    assert len(made) == 3
    held = json.loads((folder / NOTE).read_text())
    (folder / NOTE).write_text(json.dumps({**held, "onnxruntime": "1.20.1"}))
    install(path, folder)
    assert len(made) == 4
    layers = weights(seed=1)
    path.write_bytes(rewrite(build(layers), Plan(), weights=layers).model.SerializeToString())
    install(path, folder)
    assert len(made) == 5


def test_a_damaged_file_leaves_nothing(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="cannot open it") as error:
        install(path, tmp_path / "installed")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "installed").iterdir())


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    layers = weights()
    content = as_release(rewrite(build(layers), Plan(), weights=layers).model).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert open_session(path).outcomes == 7
    for length in {0, 1, *np.linspace(2, len(content) - 1, 25).astype(int).tolist()}:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cannot open it|expected") as error:
            open_session(path)
        assert "\n" not in str(error.value)


def test_what_is_made_for_newer_runtimes_is_refused_with_both_versions(tmp_path, monkeypatch):
    layers = weights()
    model = as_release(build(layers))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    open_session(path, least="1.20")
    with pytest.raises(ValueError, match=rf"asks for onnxruntime 99\.1 or later, this is {onnxruntime.__version__}"):
        open_session(path, least="99.1")
    monkeypatch.setattr(onnxruntime, "__version__", "1.9.2")
    with pytest.raises(ValueError, match=r"asks for onnxruntime 1\.20 or later, this is 1\.9\.2"):
        open_session(path, least="1.20")
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"onnxruntime 1\.9\.2 cannot open it .*99, max supported IR version"):
        open_session(path)


def test_sessions_say_nothing():
    options = options_of(threads=2)
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level) == (2, 1, 4)
