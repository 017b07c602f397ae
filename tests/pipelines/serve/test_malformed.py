"""A few hundred malformed requests of every kind; `python -m tests.benchmarks.scale.fuzz` sends thousands."""

import asyncio

import httpx

from tests.benchmarks.scale import fuzz
from tests.benchmarks.scale.malformed import PLANTED, requests
from tests.pipelines.serve.servers import serving, stop


def test_malformed_requests_are_refused_and_leave_no_word(chain, tmp_path):
    (tmp_path / "key").write_bytes(b"0123456789abcdef")
    audit = ("--audit", tmp_path / "audit.jsonl", "--audit-key", tmp_path / "key")
    with serving(chain.release, tmp_path, *audit, *fuzz.LIMITS) as served:
        valid = fuzz.seeds(chain.release, served.url)
        before = httpx.post(f"{served.url}/score", json=valid.bodies["/score"]).json()
        assert before["predictions"]
        found = asyncio.run(fuzz.run(served.port, requests(valid, 240, seed=1)))
        assert httpx.post(f"{served.url}/score", json=valid.bodies["/score"]).json() == before
        assert stop(served.process) == 0
    assert found.errors == []
    assert found.leaks == []
    statuses = {status for _, status in found.statuses}
    assert {200, 400, 404, 405, 408} <= statuses
    assert sum(found.statuses.values()) == 240
    said = served.log.read_text() + (tmp_path / "audit.jsonl").read_text()
    assert PLANTED not in said
    assert "error in request" not in said


def test_a_leak_and_an_error_would_be_seen():
    right = b'HTTP/1.1 200 OK\r\n\r\n{"patient": "zqplantedqz", "codes": {}}'
    assert not fuzz.leaks(fuzz.Answer(200, right))
    assert fuzz.leaks(fuzz.Answer(200, right.replace(b'"codes": {}', b'"codes": "zqplantedqz"')))
    assert fuzz.leaks(fuzz.Answer(400, right))
    assert fuzz.crashes(alive=True, ended=1, log="error in request 1", same=False) == [
        "it ended with 1",
        "other answers after",
        "1 errors in the log",
    ]
