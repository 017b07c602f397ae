"""A few hundred malformed requests of every kind; `python -m tests.benchmarks.scale.fuzz` sends thousands."""

import asyncio

import grpc
import httpx

from pipelines.release import open_release
from tests.benchmarks.scale import fuzz, rpcs
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


def test_malformed_calls_are_refused_and_leave_no_word(chain, tmp_path):
    (tmp_path / "key").write_bytes(b"0123456789abcdef")
    audit = ("--audit", tmp_path / "audit.jsonl", "--audit-key", tmp_path / "key")
    right = rpcs.valid(open_release(chain.release, trusted=True))
    call = rpcs.Call("right", rpcs.path("ModelInfer"), right.SerializeToString())
    with serving(chain.release, tmp_path, "--grpc-port", 0, *audit, *fuzz.LIMITS) as served:

        async def all_of_it():
            found = await rpcs.run(served.grpc_port, right, 240, seed=1)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
                return found, await rpcs.ask(channel, call)

        found, after = asyncio.run(all_of_it())
        assert after[0] == grpc.StatusCode.OK
        assert stop(served.process) == 0
    assert found.errors == []
    assert found.leaks == []
    assert sum(found.codes.values()) == 240
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "answered"} <= {
        code for _, code in found.codes
    }
    said = served.log.read_text() + (tmp_path / "audit.jsonl").read_text()
    assert PLANTED not in said
    assert "error in request" not in said


def test_frames_of_a_right_call_are_answered(chain, tmp_path):
    """What builds broken frames builds whole ones too: the same bytes, unbroken, are a call that succeeds."""
    right = rpcs.valid(open_release(chain.release, trusted=True)).SerializeToString()
    sent = rpcs.PREFACE + rpcs.frame(rpcs.SETTINGS, 0, 0, b"") + rpcs.frame(rpcs.HEADERS, 4, 1, rpcs.fields())
    sent += rpcs.frame(rpcs.DATA, 1, 1, b"\0" + len(right).to_bytes(4, "big") + right)
    with serving(chain.release, tmp_path, "--grpc-port", 0) as served:
        answer = asyncio.run(rpcs.poke(served.grpc_port, sent))
    assert b"probability" in answer


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
