"""Audit, metrics, tokens and silence: what a server keeps, and what it never says."""

import asyncio
import hashlib
import hmac
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from pipelines.serve import access, service
from pipelines.serve.audit import Audit, Entry
from pipelines.serve.service import Reply, scoring
from tests.pipelines.serve import questions
from tests.pipelines.serve.clients import KEY, ask, clinic, close
from tests.pipelines.serve.questions import INFER

SECRET = "Zyx-4711-secret"


@pytest.fixture
def made(chain, tmp_path):
    made = clinic(chain.release, tmp_path / "audit.jsonl")
    made.audit = tmp_path / "audit.jsonl"
    yield made
    close(made)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_a_request_with_the_scores_given(made):
    release = made.service.release
    given = questions.arrays(release, 3, 20)
    answer = ask(made.app, "POST", INFER, json=questions.as_json(given, id=SECRET))
    refused = ask(made.app, "POST", INFER, json={"inputs": SECRET})
    first, second = lines(made.audit)
    assert first["request"] == answer.headers["X-Request-ID"]
    assert second["request"] == refused.headers["X-Request-ID"]
    assert (first["status"], second["status"]) == (200, 400)
    assert (first["model"], first["patient"], first["protocol"]) == (release.model, None, "oip-http")
    horizons = release.registry.horizons
    slots = [(k, h) for k in range(len(horizons)) for h in range(horizons.shape[1]) if horizons[k, h] >= 0]
    assert first["outcomes"] == [f"{release.registry.names[k]}@{horizons[k, h]}" for k, h in slots]
    said = questions.from_json(answer.json())["probability"]
    assert np.allclose(first["probability"], [[row[k][h] for k, h in slots] for row in said], atol=1e-6)
    assert "probability" not in second
    assert SECRET not in made.audit.read_text()
    assert made.audit.stat().st_mode & 0o077 == 0


def test_a_patient_is_a_keyed_hash(made):
    expected = hmac.new(KEY, b"case-17", hashlib.sha256).hexdigest()
    made.service.audit.write(Entry("a", "b", "score", 200, 0.1, patient="case-17"))
    assert lines(made.audit)[0]["patient"] == expected
    assert "case-17" not in made.audit.read_text()


def test_a_rotated_audit_is_made_anew(made):
    ask(made.app, "POST", INFER, json={})
    made.audit.rename(made.audit.with_suffix(".1"))
    ask(made.app, "POST", INFER, json={})
    assert len(lines(made.audit)) == len(lines(made.audit.with_suffix(".1"))) == 1


def test_unseen_nothing_is_answered(made, monkeypatch, capsys):
    given = questions.arrays(made.service.release, 1, 5)

    write, before = os.write, made.audit.read_bytes()

    def full(file, line):
        # Half of the line still fits.
        if len(line) > 60:
            return write(file, line[:60])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    answer = ask(made.app, "POST", INFER, json=questions.as_json(given))
    assert answer.status_code == 503
    assert answer.json() == {"error": "the audit cannot be written"}
    assert int(answer.headers["Retry-After"]) >= 1
    assert ask(made.app, "GET", "/v2/health/ready").status_code == 503
    assert ask(made.app, "GET", "/v2/health/live").status_code == 200
    assert made.audit.read_bytes() == before
    monkeypatch.undo()
    # Space came back: it goes on by itself.
    assert ask(made.app, "GET", "/v2/health/ready").status_code == 200
    assert ask(made.app, "POST", INFER, json=questions.as_json(given)).status_code == 200
    assert [line["status"] for line in lines(made.audit)] == [200]
    assert "No space" in capsys.readouterr().err


def test_a_key_is_long_and_a_folder_is_there(tmp_path):
    said = {"model": "m", "outcomes": ["a"], "horizons": np.array([[1]])}
    with pytest.raises(ValueError, match="at least 16"):
        Audit(tmp_path / "a", b"short", **said)
    with pytest.raises(FileNotFoundError):
        Audit(tmp_path / "no" / "a", KEY, **said)


def test_metrics_count_requests_calls_codes_and_scores(made):
    release = made.service.release
    given = questions.arrays(release, 4, 10)
    given["token"][0, 0] = 1
    answer = ask(made.app, "POST", INFER, json=questions.as_json(given))
    ask(made.app, "POST", INFER, json={"inputs": [SECRET]})
    text = ask(made.app, "GET", "/metrics").text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert found['anamnesis_requests_total{protocol="oip-http",status="200"}'] == "1.0"
    assert found['anamnesis_requests_total{protocol="oip-http",status="400"}'] == "1.0"
    assert found['anamnesis_codes_total{known="false"}'] == "1.0"
    assert float(found['anamnesis_codes_total{known="true"}']) == (given["token"] > 2).sum()
    assert found["anamnesis_call_rows_sum"] == "4.0"
    assert found["anamnesis_waiting_rows"] == "0.0"
    assert found["anamnesis_ready"] == "1.0"
    said = questions.from_json(answer.json())["probability"][:, 0, 0]
    name, days = release.registry.names[0], release.registry.horizons[0, 0]
    for edge in ("0.1", "0.5", "+Inf"):
        key = f'anamnesis_probability_bucket{{horizon_days="{days}",le="{edge}",outcome="{name}"}}'
        other = f'anamnesis_probability_bucket{{outcome="{name}",horizon_days="{days}",le="{edge}"}}'
        assert float(found.get(key) or found[other]) == (said <= float(edge.replace("+", ""))).sum()
    assert SECRET not in text


def test_tokens(made, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# the ward's systems\nward-3 0123456789abcdef\nlab fedcba9876543210\n")
    guarded = access.Access(made.app, tokens=access.load(path), service=made.service)
    body = questions.as_json(questions.arrays(made.service.release, 1, 5))
    for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic 0123456789abcdef"}):
        refused = ask(guarded, "POST", INFER, json=body, headers=header)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert ask(guarded, "GET", "/metrics", headers=header).status_code == 401
    for open_path in access.OPEN:
        assert ask(guarded, "GET", open_path).status_code == 200
    answer = ask(guarded, "POST", INFER, json=body, headers={"Authorization": "Bearer fedcba9876543210"})
    assert answer.status_code == 200
    assert lines(made.audit)[-1]["caller"] == "lab"


@pytest.mark.parametrize(
    "text", ["", "a short", "justone0123456789abcdef", "a b c", "a 0123456789abcdef\na 0123456789abcdef"]
)
def test_files_that_are_no_tokens(tmp_path, text):
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ValueError, match="tokens: ") as refused:
        access.load(tmp_path / "tokens")
    assert "0123456789abcdef" not in str(refused.value)


def test_an_error_of_ours_says_nothing_of_the_request(made, capsys):
    async def broken(_request, _service):
        raise KeyError(SECRET)

    ours = Starlette(routes=[Route("/x", scoring(made.service, "x", broken), methods=["POST"])])
    answer = ask(ours, "POST", "/x", content=SECRET)
    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] in answer.json()["error"]
    log = capsys.readouterr().err
    assert "KeyError in broken" in log
    assert SECRET not in log + answer.text + made.audit.read_text()
    assert lines(made.audit)[-1]["status"] == 500


def test_an_error_beside_the_handlers_says_nothing_either(made, monkeypatch, capsys):
    def broken(_self):
        raise ValueError(SECRET)

    monkeypatch.setattr(type(made.service.metrics), "page", broken)
    answer = ask(made.app, "GET", "/metrics")
    assert answer.status_code == 500
    log = capsys.readouterr().err
    assert "ValueError" in log
    assert SECRET not in log + answer.text


def test_while_it_drains_answers_close_their_connections(made):
    body = questions.as_json(questions.arrays(made.service.release, 1, 5))
    assert "connection" not in ask(made.app, "POST", INFER, json=body).headers
    made.service.draining = True
    answer = ask(made.app, "POST", INFER, json=body)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert ask(made.app, "GET", "/v2/health/ready").status_code == 503
    assert ask(made.app, "GET", "/v2/models/anamnesis/ready").status_code == 503


def test_a_full_queue_refuses_before_the_body_is_read(made):
    made.service.engine.waiting = made.service.limits.queue_rows
    read = []

    async def handle(_request, _service):
        read.append(1)
        return Reply(Response())

    endpoint = scoring(made.service, "x", handle)
    request = SimpleNamespace(scope={}, client=None)
    answer = asyncio.run(endpoint(request))
    made.service.engine.waiting = 0
    assert (answer.status_code, read) == (503, [])


def test_a_client_that_went_away_is_noted_as_gone(made):
    async def handle(_request, _service):
        raise ClientDisconnect

    asyncio.run(scoring(made.service, "x", handle)(SimpleNamespace(scope={}, client=None)))
    assert lines(made.audit)[-1]["status"] == service.GONE
