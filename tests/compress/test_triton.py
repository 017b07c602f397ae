"""Triton's folder: its own message takes the text, and the model lies in it without taking room twice."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.onnx import triton
from ehr.batches import BUCKETS

CLIENTS = Path(__file__).resolve().parents[2] / "runs" / "clients" / "bin" / "python"
PARSE = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
held = text_format.Parse(sys.stdin.read(), model_config_pb2.ModelConfig())
print(json.dumps(json_format.MessageToDict(held, preserving_proto_field_name=True)))
"""


def parsed(text):
    """Return the text as Triton's own message reads it."""
    if not CLIENTS.is_file():
        pytest.skip("needs tritonclient in runs/clients: make test-clients")
    found = subprocess.run([CLIENTS, "-c", PARSE], input=text, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tritons_own_message_takes_it(device):
    held = parsed(triton.config(5, 3, triton.Settings(device=device, threads=4)))
    assert (held["name"], held["backend"], held["max_batch_size"]) == ("anamnesis", "onnxruntime", 32)
    kinds = {part["name"]: (part["data_type"], part["dims"]) for part in held["input"]}
    assert kinds == {
        "token": ("TYPE_INT64", ["-1"]),
        "visit": ("TYPE_INT32", ["-1"]),
        "age_days": ("TYPE_FP32", ["-1"]),
        "query_age_days": ("TYPE_FP32", ["1"]),
    }
    assert held["input"][3]["reshape"] == {}
    assert [(part["name"], part["dims"]) for part in held["output"]] == [
        ("logit", ["5", "3"]),
        ("probability", ["5", "3"]),
    ]
    assert held["instance_group"][0] == {"count": 1, "kind": "KIND_CPU" if device == "cpu" else "KIND_GPU"}
    assert held["parameters"]["intra_op_thread_count"] == {"string_value": "4"}
    assert held["optimization"]["graph"]["level"] == 1
    assert held["dynamic_batching"]["preferred_batch_size"] == [8, 16, 32]
    assert held["version_policy"]["latest"]["num_versions"] == 1
    warm = held["model_warmup"][0]
    assert {name: part["dims"] for name, part in warm["inputs"].items()}["query_age_days"] == ["1"]


@pytest.mark.slow
def test_a_field_that_triton_does_not_know_is_told():
    """The message is the judge: with a word of our own in it the text is refused."""
    if not CLIENTS.is_file():
        pytest.skip("needs tritonclient in runs/clients: make test-clients")
    text = triton.config(1, 1) + 'patients: "some"\n'
    found = subprocess.run([CLIENTS, "-c", PARSE], input=text, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode
    assert "patients" in found.stderr


@given(outcomes=st.integers(1, 500), horizons=st.integers(1, 9), threads=st.integers(1, 64))
def test_brackets_close_and_no_switch_turns_the_graph_off(outcomes, horizons, threads):
    text = triton.config(outcomes, horizons, triton.Settings(threads=threads))
    assert all(text.count(left) == text.count(right) for left, right in ("[]", "{}"))
    assert text.count(f"dims: [ {outcomes}, {horizons} ]") == 2
    assert re.findall(r"level: (-?\d)", text) == ["1"]


def test_the_warm_up_has_a_length_that_scoring_uses():
    assert triton.Settings().warm_length in BUCKETS


@pytest.mark.parametrize(
    "wrong", [{"device": "tpu"}, {"max_batch": 0}, {"preferred": (64,)}, {"threads": 0}, {"preferred": (0, 8)}]
)
def test_settings_that_triton_would_refuse(wrong):
    with pytest.raises(ValueError, match=r"expected|must be"):
        triton.Settings(**wrong)


def test_the_model_takes_no_room_twice(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    for _ in range(2):  # again over what stands there
        triton.write(tmp_path / "triton", model, triton.config(1, 1))
    copy = tmp_path / "triton" / "anamnesis" / "1" / "model.onnx"
    assert model.samefile(copy)
    assert (tmp_path / "triton" / "anamnesis" / "config.pbtxt").read_text() == triton.config(1, 1)


def test_where_a_file_has_but_one_name_it_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    triton.write(tmp_path / "triton", model, "")
    copy = tmp_path / "triton" / triton.COPY
    assert copy.read_bytes() == b"weights"
    assert not model.samefile(copy)
