"""Requests for scores, and what onnxruntime itself answers to them."""

import json
import struct

import numpy as np

from pipelines.serve import shapes

KINDS = {"token": "INT64", "visit": "INT32", "age_days": "FP32", "query_age_days": "FP32"}
INFER = "/v2/models/anamnesis/infer"
HEADER = "Inference-Header-Content-Length"


def arrays(release, rows, length, seed=0):
    """Return inputs by name: random samples of every length."""
    shift = np.random.default_rng(seed).integers(0, 7)
    made = dict(zip(KINDS, shapes.random_call(release, rows, length), strict=True))
    made["query_age_days"] = made["query_age_days"] + np.float32(shift)
    return made


def as_json(given, **more):
    """Return a request with its data in JSON."""
    inputs = [
        {"name": name, "datatype": KINDS[name], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in given.items()
    ]
    return {"inputs": inputs, **more}


def as_bytes(given, **more):
    """Return body and headers of a request with binary tensors, binary outputs asked for."""
    inputs, raw = [], b""
    for name, array in given.items():
        part = array.astype(array.dtype.newbyteorder("<")).tobytes()
        size = {"binary_data_size": len(part)}
        inputs.append({"name": name, "datatype": KINDS[name], "shape": list(array.shape), "parameters": size})
        raw += part
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}, **more}).encode()
    return head + raw, {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}


def from_bytes(body, header):
    """Return outputs by name from an answer with binary tensors."""
    head, at = json.loads(body[: int(header)]), int(header)
    found = {}
    for output in head["outputs"]:
        assert output["datatype"] == "FP32"
        size = output["parameters"]["binary_data_size"]
        flat = np.array(struct.unpack_from(f"<{size // 4}f", body, at), dtype=np.float32)
        found[output["name"]] = flat.reshape(output["shape"])
        at += size
    assert at == len(body)
    return found


def from_json(content):
    """Return outputs by name from an answer in JSON."""
    return {
        output["name"]: np.array(output["data"], dtype=np.float32).reshape(output["shape"])
        for output in content["outputs"]
    }


def expected(release, given):
    """Return what onnxruntime itself says, by name, at the request's own shape."""
    return dict(zip(("logit", "probability"), release.session.run(*given.values()), strict=True))


def worst(found, reference):
    """Return the largest absolute difference over all outputs."""
    assert set(found) <= set(reference)
    return max(float(np.abs(found[name] - reference[name]).max()) for name in found)
