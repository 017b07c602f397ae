"""Targets of a release: smaller files that open as any release does, with their proof; or nothing at all."""

import json
import shutil
import tarfile
from io import BytesIO

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import numpy_helper
from safetensors.numpy import save_file

from compress.hyperspherical.ternary import best_ternary
from compress.layers import as_matrix, find, set_matrix
from compress.onnx.parity import parity
from pipelines import artefacts, export, targets
from pipelines.predict import load_network
from pipelines.release import answer, open_release
from tests.faults.kill import digests

WRITTEN = {"kind", "format", "files"}


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


@pytest.fixture
def certain(run, monkeypatch):
    """Let what the dense network says above its median be what came true: a file that answers alike ranks as well."""
    real = export.samples_and_labels

    def labelled(*given):
        asked, samples = real(*given)
        logit = export.logits(run[0].network, samples)
        return asked._replace(label=(logit > np.median(logit, axis=0)).astype(np.float32)), samples

    monkeypatch.setattr(export, "samples_and_labels", labelled)
    # So few patients have ten with an outcome in the training split alone.
    monkeypatch.setattr(targets, "SPLIT", "train")


@pytest.mark.parametrize("name", ["cpu", "cpu-low-memory", "gpu"])
@pytest.mark.usefixtures("certain")
def test_each_target_keeps_the_budget_that_shuffled_weights_break(name, exported, run, chain, tmp_path, monkeypatch):
    real, made = targets.smaller, []
    monkeypatch.setattr(targets, "smaller", lambda *given: made.append(real(*given)) or made[0])
    exported(tmp_path / "r", name, cohort=chain.cohort)
    told = json.loads((tmp_path / "r" / targets.REPORT).read_text())
    assert told["layers"]
    assert told["quality"]["breaches"] == []
    (tmp_path / "r" / "model.onnx").write_bytes(shuffled(made[0].model).SerializeToString())
    with pytest.raises(ValueError, match=r"auroc.*; nothing is released"):
        export.prove(run[0], tmp_path / "r", run[1].SerializeToString(), made[0], chain.cohort)


def shuffled(model):
    """Return a model with the numbers of each rewritten weight in another order."""
    found, draw = onnx.ModelProto(), np.random.default_rng(0)
    found.CopyFrom(model)
    for item in found.graph.initializer:
        if item.name.startswith("weight.") and not item.name.endswith((".scale", ".zero", ".shape", ".count")):
            values = numpy_helper.to_array(item)
            mixed = draw.permutation(values.reshape(-1)).reshape(values.shape)
            item.CopyFrom(numpy_helper.from_array(mixed, item.name))
    return found


@pytest.fixture
def ternary(chain, tmp_path):
    """Return a run whose matrices hold three values a row, and which says so, as a ternary method leaves it."""
    folder = tmp_path / "ternary"
    shutil.copytree(chain.tuned, folder)
    network, claimed = load_network(folder), {}
    for name, module in {**find(network), "embedding": network.embedding}.items():
        codes, scale = best_ternary(as_matrix(module), fit="least_squares")
        set_matrix(module, codes * scale[:, None])
        claimed |= {f"{name}.codes": codes.numpy(), f"{name}.scale": scale.numpy()}
    network.save_pretrained(folder / "model")
    save_file(claimed, folder / targets.CLAIMED)
    manifest = json.loads((folder / "manifest.json").read_text())
    artefacts.write_manifest(folder, "run", **{k: v for k, v in manifest.items() if k not in WRITTEN})
    return folder, claimed


@pytest.mark.parametrize("name", ["cpu", "cpu-low-memory"])
def test_a_ternary_run_is_stored_as_such_and_answers_as_trained(name, ternary, tmp_path):
    folder, claimed = ternary
    export.export(folder, tmp_path / "r", target=targets.choose(name, "trits"))
    told = json.loads((tmp_path / "r" / targets.REPORT).read_text())["layers"]
    bits = {layer["name"]: (layer["bits"], layer["error"]) for layer in told}
    blocks = {name.removesuffix(".codes") for name in claimed if name.endswith(".codes")} - {"embedding"}
    assert {name for name, held in bits.items() if held == (2, 0.0)} >= blocks
    release = open_release(tmp_path / "r")
    events = export.golden.patients(release.vocabulary, 20, seed=3)
    samples = export.golden.samples(events, release.vocabulary, export.golden.latest(events), release.max_tokens)
    first, second = export.logits(load_network(folder), samples), answer(release, samples)[0]
    assert parity(first, second).max_abs < targets.TARGETS[name].tolerance


def test_a_run_that_is_not_what_it_says_is_refused(ternary):
    folder, claimed = ternary
    read = export.read_run(folder)
    model, blocks = export.graph(read), next(name for name in claimed if name.endswith("qkv.codes"))
    for name in (blocks, "embedding.codes"):
        save_file({**claimed, name: -claimed[name]}, folder / targets.CLAIMED)
        with pytest.raises(ValueError, match=f"{name.removesuffix('.codes')}: does not hold the ternary values"):
            targets.smaller(model, read.network, folder, targets.TARGETS["cpu"].plan)
