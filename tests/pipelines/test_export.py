"""A release: what is in it, that it proves itself, and that the same run gives the same bytes."""

import json
import subprocess

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch

from ehr.batches import pad
from ehr.calibration import Calibration
from ehr.model import OutcomeScorer
from ehr.outcomes.registry import Registry
from ehr.quality.thresholds import Thresholds
from pipelines import artefacts
from pipelines.export import Run, graph
from pipelines.release import answer, open_release
from tests.chain import command
from tests.ehr.test_model import IDENTITY, sample, vocabulary
from tests.ehr.test_model import network as told
from tests.faults.kill import digests

FILES = {
    *("model.onnx", "manifest.json", "vocabulary.json", "outcomes.yaml", "calibration.json", "quality.json"),
    *("golden.parquet", "golden.json", "card.md", "card.json", "SHA256SUMS", "sbom.json", "digest.json"),
    *("triton/anamnesis/config.pbtxt", "triton/anamnesis/1/model.onnx"),
}


def test_it_holds_what_a_hospital_needs(chain):
    files = [path for path in chain.release.rglob("*") if path.is_file()]
    assert {path.relative_to(chain.release).as_posix() for path in files} == FILES
    manifest = artefacts.read_manifest(chain.release, "release")
    artefacts.verify(chain.release, manifest)
    assert set(manifest["files"]) == FILES - {"manifest.json", "SHA256SUMS"}
    assert [(held["name"], held["horizons_days"]) for held in manifest["outcomes"]] == [
        ("failure", [365, 1095]),
        ("kidney", [730]),
        ("never", [365]),
    ]
    assert manifest["disabled"] == ["never"]
    assert manifest["parity"]["max_abs"] <= 1e-4
    assert (manifest["opset"], manifest["ir_version"]) == ({"ai.onnx": 20}, 10)


def test_checksums_are_those_of_coreutils(chain):
    found = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=chain.release, capture_output=True, check=False)
    assert found.returncode == 0


def test_standard_operators_alone(chain):
    model = onnx.load(chain.release / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(item.HasField("data_location") and item.data_location for item in model.graph.initializer)


def test_no_patient_is_in_it(chain):
    """Golden patients are drawn from the vocabulary: none of their records is one of the cohort's."""
    golden = pl.read_parquet(chain.release / "golden.parquet")
    records = pl.read_parquet(chain.records / "data" / "*.parquet")
    shared = golden.join(records.select("time", "code").drop_nulls(), on=["time", "code"], how="inner")
    assert len(shared) < 0.01 * len(golden)


def test_exporting_again_gives_the_same_bytes(chain, tmp_path):
    again = tmp_path / "release"
    found = command("export", chain.tuned, again, "--cohort", chain.cohort)
    assert found.returncode == 0, found.stderr
    assert digests(again) == digests(chain.release)


def test_the_card_tells_what_is_missing(chain, tmp_path):
    card = (chain.release / "card.md").read_text()
    assert card.count("missing") >= 5
    (tmp_path / "card.yaml").write_text("name: Failure within three years\nintended_use: research\n")
    found = command("export", chain.tuned, tmp_path / "r", "--card", tmp_path / "card.yaml")
    assert found.returncode == 0, found.stderr
    assert "Failure within three years" in (tmp_path / "r" / "card.md").read_text()
    assert json.loads((tmp_path / "r" / "manifest.json").read_text())["parity"]["samples"] > 0


def test_an_empty_record_and_a_long_one_are_answered(chain):
    release = open_release(chain.release)
    from ehr.timelines import Sample

    none = np.zeros(0, np.int32)
    long = np.full(release.max_tokens, 5, np.int32)
    samples = [
        Sample(1, 0, none, none, none.astype(np.float32), 100.0),
        Sample(2, 0, long, np.ones_like(long), np.full(len(long), 40_000, np.float32), 40_001.0),
    ]
    logit, probability = answer(release, samples)
    assert np.isfinite(logit).all()
    assert ((probability > 0) & (probability < 1)).all()


def test_a_pretrained_run_is_refused(chain, tmp_path):
    found = command("export", chain.pretrained, tmp_path / "r")
    assert found.returncode == 2
    assert "finetune" in found.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_every_file_is_under_its_checksum(chain, name):
    assert name == "SHA256SUMS" or name in (chain.release / "SHA256SUMS").read_text()


def test_a_network_told_a_summary_is_one_graph_too(tmp_path):
    """Counts, last values and times since last are sums over the record inside the graph."""
    network = told(summary=True)
    run = Run({}, network, vocabulary(), Registry(()), Calibration(*IDENTITY), Thresholds())
    (tmp_path / "model.onnx").write_bytes(graph(run).SerializeToString())
    inputs = pad([sample(n, n) for n in (1, 17, 40)], length=40, rows=3)
    names = ("token", "visit", "age_days", "query_age_days")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["logit"], dict(zip(names, inputs, strict=True)))
    with torch.no_grad():
        expected, _ = OutcomeScorer(network, IDENTITY)(*map(torch.from_numpy, inputs))
    assert np.abs(np.asarray(found) - expected.numpy()).max() <= 1e-4
