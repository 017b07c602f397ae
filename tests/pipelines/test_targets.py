"""Targets of a release: smaller files that open as any release does, with their proof; or nothing at all."""

import tarfile
from io import BytesIO

import numpy as np
import onnx
import pyarrow as pa
import pytest

from compress.onnx.parity import parity
from pipelines import export, targets
from pipelines.release import answer, open_release
from tests.faults.kill import digests


@pytest.fixture(scope="module")
def run(chain):
    """Return the chain's fine-tuned run and its graph, exported once."""
    read = export.read_run(chain.tuned)
    return read, export.graph(read)


@pytest.fixture
def exported(run, chain, monkeypatch):
    """Return a function that exports the chain's run for a target."""
    monkeypatch.setattr(export, "graph", lambda _: run[1])

    def make(folder, target, **given):
        return export.export(chain.tuned, folder, target=targets.choose(target), **given)

    return make


def test_the_same_bytes_again_and_in_one_file(exported, tmp_path):
    for name in ("a", "b"):
        exported(tmp_path / name / "release", "cpu")
    assert digests(tmp_path / "a" / "release") == digests(tmp_path / "b" / "release")
    packed = [targets.transport(tmp_path / name / "release").read_bytes() for name in ("a", "b")]
    assert packed[0] == packed[1]
    content = pa.input_stream(pa.BufferReader(packed[0]), compression="zstd").read()
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert digests(tmp_path / "out" / "release") == digests(tmp_path / "a" / "release")
    open_release(tmp_path / "out" / "release")


def test_weights_that_answer_otherwise_are_refused(run):
    other = onnx.ModelProto()
    other.CopyFrom(run[1])
    table = next(item for item in other.graph.initializer if item.name == "folded")
    table.raw_data = (np.frombuffer(table.raw_data, np.float32) * np.float32(1.2)).tobytes()
    targets.same(run[1], run[1])
    with pytest.raises(ValueError, match="parity: logits differ"):
        targets.same(run[1], other)


def test_beyond_the_budget_nothing_is_released(exported, chain, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="nothing is released"):
        monkeypatch.setitem(targets.TARGETS, "cpu", targets.TARGETS["cpu"]._replace(tolerance=0.0))
        exported(tmp_path / "r", "cpu")
    assert not list(tmp_path.iterdir())


def test_a_score_hangs_on_nobody_else(exported, run, tmp_path):
    exported(tmp_path / "r", "cpu")
    release = open_release(tmp_path / "r")
    events = export.golden.patients(release.vocabulary, 20, seed=3)
    samples = export.golden.samples(events, release.vocabulary, export.golden.latest(events), release.max_tokens)
    together = answer(release, samples)[0]
    for at in (0, 7, 19):
        assert np.array_equal(answer(release, samples[at : at + 1])[0][0], together[at])
    assert parity(export.logits(run[0].network, samples), together).max_abs < 0.25


def test_choices():
    assert targets.choose("cpu", "int4").plan.embeddings == "int4"
    with pytest.raises(ValueError, match="--target tpu: expected one of reference"):
        targets.choose("tpu")
    with pytest.raises(ValueError, match="reference leaves weights as they are"):
        targets.choose("reference", "int4")
