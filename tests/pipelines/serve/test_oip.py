"""The Open Inference Protocol over HTTP, asked in this process: onnxruntime's numbers, and clear refusals."""

import asyncio
import json
import re

import httpx
import numpy as np
import pytest

from pipelines.serve.oip import HEADER
from tests.pipelines.serve import questions
from tests.pipelines.serve.clients import ask, clinic, close
from tests.pipelines.serve.questions import INFER

SECRET = "Zyx-4711-secret"


@pytest.fixture(scope="module")
def made(chain, tmp_path_factory):
    made = clinic(chain.release, tmp_path_factory.mktemp("oip") / "audit.jsonl")
    yield made
    close(made)


def post(made, **given):
    return ask(made.app, "POST", INFER, **given)


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 40), (128, 64)])
def test_json_and_binary_give_the_numbers_of_onnxruntime(made, rows, length):
    release = made.service.release
    given = questions.arrays(release, rows, length)
    reference = questions.expected(release, given)
    plain = post(made, json=questions.as_json(given, id="a"))
    assert plain.status_code == 200
    assert plain.json()["id"] == "a"
    found = questions.from_json(plain.json())
    assert set(found) == {"logit", "probability"}
    assert questions.worst(found, reference) <= 1e-6
    body, headers = questions.as_bytes(given)
    raw = post(made, content=body, headers=headers)
    assert raw.status_code == 200
    binary = questions.from_bytes(raw.content, raw.headers[HEADER])
    assert all(np.array_equal(binary[name], found[name]) for name in reference)


def test_outputs_are_those_asked_for_each_in_its_form(made):
    given = questions.arrays(made.service.release, 2, 9)
    asked = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "logit"}]
    answer = post(made, json=questions.as_json(given, outputs=asked))
    size = int(answer.headers[HEADER])
    head = json.loads(answer.content[:size])
    assert [output["name"] for output in head["outputs"]] == ["probability", "logit"]
    assert head["outputs"][0]["parameters"]["binary_data_size"] == len(answer.content) - size
    assert len(head["outputs"][1]["data"]) == np.prod(head["outputs"][1]["shape"])


def test_a_model_says_what_it_takes_and_gives(made):
    release = made.service.release
    for path in ("/v2/models/anamnesis", "/v2/models/anamnesis/versions/1"):
        told = ask(made.app, "GET", path).json()
        assert {entry["name"]: entry["datatype"] for entry in told["inputs"]} == questions.KINDS
        assert told["outputs"][1]["shape"] == [-1, release.session.outcomes, release.session.horizons]
    assert "binary_tensor_data" in ask(made.app, "GET", "/v2").json()["extensions"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/anamnesis/ready"):
        assert ask(made.app, "GET", path).status_code == 200
    for path in ("/v2/models/other", "/v2/models/anamnesis/versions/2", "/v2/models/anamnesis/versions/2/ready"):
        assert ask(made.app, "GET", path).status_code == 404
    assert ask(made.app, "GET", INFER).status_code == 405


def changed(given, which, /, **fields):
    """Return a request in JSON, one entry of it other."""
    content = questions.as_json(given)
    next(entry for entry in content["inputs"] if entry["name"] == which).update(fields)
    return content


@pytest.mark.parametrize(
    ("name", "fields", "status", "words"),
    [
        ("token", {"datatype": "FP32"}, 400, "token: FP32; expected INT64"),
        ("token", {"datatype": SECRET}, 400, "token: another type; expected INT64"),
        ("token", {"name": SECRET}, 400, "an input that the model does not have"),
        ("visit", {"name": "token", "datatype": "INT64"}, 400, "stands twice"),
        ("token", {"shape": [2, 4]}, 400, "10 elements; expected 8"),
        ("token", {"shape": [10]}, 400, "shape .10.; expected .1..128, 1..64."),
        ("token", {"shape": [10, 1]}, 400, "tensor visit: shape .2, 5.; expected .10, 1."),
        ("token", {"shape": [-1, 5]}, 400, "expected"),
        ("token", {"shape": [2**62, 2**62]}, 400, "expected"),
        ("token", {"shape": [1, 10**40]}, 400, "whole numbers"),
        ("token", {"shape": [0, 5]}, 400, "expected"),
        ("token", {"shape": [200, 5]}, 400, "expected"),
        ("token", {"shape": "2,5"}, 400, "whole numbers"),
        ("token", {"shape": [True, 5]}, 400, "whole numbers"),
        ("token", {"shape": None}, 400, "whole numbers"),
        ("token", {"data": [SECRET] * 10}, 400, "does not hold INT64"),
        ("token", {"data": [10**6] * 10}, 422, "outside the vocabulary"),
        ("token", {"data": [-1] * 10}, 422, "outside the vocabulary"),
        ("visit", {"data": [-1] * 10}, 422, "visit: a negative"),
        ("age_days", {"data": [1e300] * 10}, 422, "age_days: not a finite number"),
        ("query_age_days", {"shape": [1], "data": [1.0]}, 400, "query_age_days: shape"),
        ("token", {"parameters": {"binary_data_size": 80}}, 400, "does not lie within"),
        ("token", {"parameters": {"shared_memory_region": SECRET}}, 400, "not offered"),
        ("token", {"parameters": [SECRET]}, 400, "no object"),
    ],
)
def test_wrong_tensors_are_named(made, name, fields, status, words):
    given = questions.arrays(made.service.release, 2, 5)
    answer = post(made, json=changed(given, name, **fields))
    assert answer.status_code == status, answer.text
    assert re.search(words, answer.json()["error"]), answer.text
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"[1]", "no JSON object"),
        (b"{", "not JSON"),
        (b'{"inputs": 3}', "inputs is no list"),
        (b'{"inputs": [3]}', "inputs is no list"),
        (b'{"inputs": []}', "tensor token: missing"),
        (b'{"inputs": [], "outputs": [{"name": "' + SECRET.encode() + b'"}]}', "an output that the model"),
        (b'{"inputs": [], "parameters": {"binary_data_output": 1}}', "true or false"),
        (b'{"a": NaN}', "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"9" * 10_000, "not JSON"),
    ],
)
def test_wrong_bodies(made, content, words):
    answer = post(made, content=content)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert SECRET not in answer.text


def test_truncated_and_longer_binary_bodies(made):
    body, headers = questions.as_bytes(questions.arrays(made.service.release, 2, 5))
    head = int(headers[HEADER])
    for end in (head - 1, head, head + 1, len(body) - 1):
        answer = post(made, content=body[:end], headers=headers)
        assert answer.status_code == 400, end
    assert post(made, content=body + b"\0", headers=headers).status_code == 400
    for wrong in ("-1", "1e3", "", "9" * 30, str(len(body) + 1), "\u0663"):
        refused = post(made, content=body, headers={**headers, HEADER: wrong.encode("utf-8")})
        assert refused.status_code == 400, wrong


def test_size_and_encoding_of_a_body(made):
    limit = made.service.limits.body_bytes
    assert post(made, content=b" " * (limit + 1)).status_code == 413

    async def parts():
        for _ in range(3):
            yield b" " * (limit // 2)

    assert post(made, content=parts()).status_code == 413
    assert post(made, content=b"{}", headers={"Content-Encoding": "gzip"}).status_code == 415


def test_the_description_names_every_path(made):
    told = ask(made.app, "GET", "/openapi.json").json()
    served = {route.path for route in made.app.routes if route.path.startswith(("/v2", "/metrics", "/openapi"))}
    assert served <= set(told["paths"]) <= {route.path for route in made.app.routes}
    assert told["openapi"].startswith("3.1")
    for path, methods in told["paths"].items():
        taken = next(route.methods for route in made.app.routes if route.path == path)
        assert {method.upper() for method in methods if method != "parameters"} == taken - {"HEAD"}, path


def test_requests_of_many_clients_at_once(made):
    """Answers do not get mixed up, whoever shares a call."""
    release = made.service.release
    asked = [questions.arrays(release, 1 + at % 5, 1 + 3 * at % 60, seed=at) for at in range(40)]

    async def all_of_them():
        transport = httpx.ASGITransport(app=made.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            tasks = [client.post(INFER, content=body, headers=head) for body, head in map(questions.as_bytes, asked)]
            return await asyncio.gather(*tasks)

    for given, answer in zip(asked, asyncio.run(all_of_them()), strict=True):
        found = questions.from_bytes(answer.content, answer.headers[HEADER])
        assert questions.worst(found, questions.expected(release, given)) <= 1e-6
