"""The server as it runs: refused releases, a stop under load, slow clients, TLS, gRPC, and no training stack."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import shutil
import socket
import ssl
import subprocess
import sys
import time

import grpc
import httpx
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines import cli
from pipelines.release import open_release
from pipelines.serve import running
from pipelines.serve.limits import Limits
from pipelines.serve.messages import methods
from pipelines.serve.oip import HEADER
from pipelines.serve.options import Address, Options
from tests.benchmarks.scale.load import Line, exchanges, judged
from tests.chain import command
from tests.pipelines.serve import questions
from tests.pipelines.serve.servers import serving, stop

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def opened(chain):
    return open_release(chain.release, trusted=True)


@pytest.fixture(scope="module")
def server(chain, tmp_path_factory):
    """Yield a server with gRPC, an audit and little patience."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "key").write_bytes(b"k" * 32)
    words = ("--grpc-port", 0, "--audit", folder / "audit.jsonl", "--audit-key", folder / "key")
    with serving(chain.release, folder, *words, "--header-seconds", 2, "--body-seconds", 2) as made:
        made.audit = folder / "audit.jsonl"
        yield made


def call(server, name, request, **given):
    """Return the answer of one call over gRPC."""
    method = methods()[name]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ask = channel.unary_unary(f"/inference.GRPCInferenceService/{name}", method.request.SerializeToString)
        return method.response.FromString(ask(method.request(**request), timeout=20, **given))


def message(given, *, raw):
    """Return the fields of an inference request."""
    held = {"INT64": "int64_contents", "INT32": "int_contents", "FP32": "fp32_contents"}
    inputs = []
    for name, array in given.items():
        kind = questions.KINDS[name]
        entry = {"name": name, "datatype": kind, "shape": list(array.shape)}
        inputs.append(entry if raw else {**entry, "contents": {held[kind]: array.ravel().tolist()}})
    more = {"raw_input_contents": [array.tobytes() for array in given.values()]} if raw else {}
    return {"model_name": "anamnesis", "id": "7", "inputs": inputs, **more}


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_gives_the_numbers_of_onnxruntime(server, opened, raw):
    given = questions.arrays(opened, 5, 40)
    answer = call(server, "ModelInfer", message(given, raw=raw))
    assert answer.id == "7"
    found = {}
    for at, output in enumerate(answer.outputs):
        flat = np.frombuffer(answer.raw_output_contents[at], "<f4") if raw else output.contents.fp32_contents
        found[output.name] = np.array(flat, np.float32).reshape(tuple(output.shape))
    assert questions.worst(found, questions.expected(opened, given)) <= 1e-6


def test_grpc_says_what_it_is(server):
    assert call(server, "ServerLive", {}).live
    assert call(server, "ServerReady", {}).ready
    assert call(server, "ModelReady", {"name": "anamnesis"}).ready
    assert list(call(server, "ServerMetadata", {}).extensions) == ["binary_tensor_data"]
    told = call(server, "ModelMetadata", {"name": "anamnesis", "version": "1"})
    assert {entry.name: entry.datatype for entry in told.inputs} == questions.KINDS
    with pytest.raises(grpc.RpcError) as refused:
        call(server, "ModelMetadata", {"name": "other"})
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("change", ["fewer raw", "short raw", "no such input", "twice", "outside", "not a message"])
def test_grpc_refuses_what_is_wrong(server, opened, change):
    request = message(questions.arrays(opened, 2, 5), raw=True)
    raw = request["raw_input_contents"]
    if change == "fewer raw":
        raw.pop()
    elif change == "short raw":
        raw[0] = raw[0][:-1]
    elif change == "no such input":
        request["inputs"][0]["name"] = "secret-input"
    elif change == "twice":
        request["inputs"][1] = request["inputs"][0]
    elif change == "outside":
        raw[0] = np.full(10, 10**9).tobytes()
    with pytest.raises(grpc.RpcError) as refused:
        if change == "not a message":
            with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
                channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff" * 9, timeout=20)
        else:
            call(server, "ModelInfer", request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "secret" not in refused.value.details() + server.log.read_text() + server.audit.read_text()


def test_slow_clients_do_not_stop_a_fast_one(server, opened):
    """100 that never end their headers or bodies; another is answered at once, they are cut off in time."""
    body, headers = questions.as_bytes(questions.arrays(opened, 1, 5))
    slow = []
    for at in range(100):
        held = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST {questions.INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{{".encode()
        held.sendall(b"POST " if at % 2 else head)
        slow.append(held)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        waits = []
        for _ in range(20):
            started = time.perf_counter()
            assert client.post(questions.INFER, content=body, headers=headers).status_code == 200
            waits.append(time.perf_counter() - started)
        assert np.median(waits) < 1
    end = time.monotonic() + 20
    for at, held in enumerate(slow):
        held.settimeout(max(0.1, end - time.monotonic()))
        answer = held.recv(1000)
        assert answer == b"" if at % 2 else answer.startswith(b"HTTP/1.1 408")
        held.close()


def test_a_stop_under_load_loses_no_accepted_request(chain, opened, tmp_path):
    """Clients that ask without a pause: each request that was sent on an open connection is answered, and rightly."""
    work = exchanges(opened, 3, 8, 40)
    found = {"right": 0, "busy": 0, "wrong": 0, "refused": 0}

    async def ask(server, at):
        line = Line(server.port)
        while True:
            answer = await line.ask(work[at % len(work)].request)
            if answer[:2] == (0, b"ConnectionRefusedError"):
                found["refused"] += 1
                return
            found[judged(work[at % len(work)], answer)] += 1
            at += 1

    async def load(server):
        clients = [asyncio.create_task(ask(server, at)) for at in range(8)]
        await asyncio.sleep(1)
        code = asyncio.get_running_loop().run_in_executor(None, stop, server.process)
        await asyncio.wait_for(asyncio.gather(*clients), 60)
        return await code

    with serving(chain.release, tmp_path, "--linger-seconds", 0.5) as server:
        assert asyncio.run(load(server)) == 0
        assert "what was accepted is answered" in server.log.read_text()
    assert found["right"] > 20
    assert (found["wrong"], found["refused"]) == (0, 8)


def test_a_folded_model_answers_as_the_release_does(chain, opened, tmp_path):
    folded = tmp_path / "folded"
    given = questions.arrays(opened, 3, 40)
    body, headers = questions.as_bytes(given)
    with serving(chain.release, tmp_path, "--folded", folded) as server:
        answer = httpx.post(server.url + questions.INFER, content=body, headers=headers)
    found = questions.from_bytes(answer.content, answer.headers[questions.HEADER])
    assert questions.worst(found, questions.expected(opened, given)) <= 1e-5
    made = {file.name: file.stat().st_mtime_ns for file in folded.iterdir()}
    assert set(made) == {"model.folded.onnx", "model.folded.json"}
    again = open_release(chain.release, folded=folded, trusted=True)
    assert questions.worst(questions.expected(again, given), questions.expected(opened, given)) <= 1e-5
    assert made == {file.name: file.stat().st_mtime_ns for file in folded.iterdir()}


def test_a_folded_model_is_one_for_the_cpu(chain, tmp_path):
    with pytest.raises(ValueError, match="for the cpu, not for cuda"):
        open_release(chain.release, device="cuda", folded=tmp_path / "folded")


def test_a_stop_over_grpc_answers_what_was_accepted(chain, opened, tmp_path):
    given = message(questions.arrays(opened, 4, 30), raw=True)
    method = methods()["ModelInfer"]

    async def ask(port, found):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", method.request.SerializeToString)
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                while True:
                    found.append(await infer(method.request(**given), timeout=30))
            # Not taken, rather than taken and lost.
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE

    async def load(server):
        found = []
        clients = [asyncio.create_task(ask(server.grpc_port, found)) for _ in range(4)]
        await asyncio.sleep(0.5)
        code = asyncio.get_running_loop().run_in_executor(None, stop, server.process)
        await asyncio.wait_for(asyncio.gather(*clients), 60)
        assert await code == 0
        return found

    with serving(chain.release, tmp_path, "--grpc-port", 0, "--linger-seconds", 0.2) as server:
        assert len(set(asyncio.run(load(server)))) == 1


def certificate(folder):
    """Write a certificate of this test for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    kinds = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*kinds))
    return folder / "cert.pem", folder / "key.pem"


def test_tls_and_tokens_on_both_ports(chain, opened, tmp_path):
    cert, key = certificate(tmp_path)
    (tmp_path / "tokens").write_text(f"ward {TOKEN}\n")
    words = ("--tls-certificate", cert, "--tls-key", key, "--token-file", tmp_path / "tokens", "--grpc-port", 0)
    given = questions.arrays(opened, 1, 5)
    body, headers = questions.as_bytes(given)
    with serving(chain.release, tmp_path, *words) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=server.url, verify=context) as client:
            assert client.get("/v2/health/ready").status_code == 200
            assert client.post(questions.INFER, content=body, headers=headers).status_code == 401
            allowed = {**headers, "Authorization": f"Bearer {TOKEN}"}
            answer = client.post(questions.INFER, content=body, headers=allowed)
            found = questions.from_bytes(answer.content, answer.headers[HEADER])
            assert questions.worst(found, questions.expected(opened, given)) <= 1e-6
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            httpx.get(server.url.replace("https", "http"))
        method = methods()["ModelInfer"]
        trusted = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", trusted) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", method.request.SerializeToString)
            request = method.request(**message(given, raw=True))
            with pytest.raises(grpc.RpcError) as refused:
                infer(request, timeout=20)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert infer(request, timeout=20, metadata=[("authorization", f"Bearer {TOKEN}")])
        assert TOKEN not in server.log.read_text()


@pytest.mark.parametrize("name", ["model.onnx", "vocabulary.json", "manifest.json", "calibration.json"])
def test_one_flipped_byte_is_refused_before_anything_listens(chain, tmp_path, name):
    held = tmp_path / "release"
    shutil.copytree(chain.release, held)
    content = bytearray((held / name).read_bytes())
    content[len(content) // 2] ^= 1
    (held / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"does not match its checksum|not JSON"):
        running.run(held, Options(address=Address(port=0)), Limits())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--tls-key", "x"], "belong together"),
        (["--audit", "a"], "--audit-key"),
        (["--batch", "0"], "batch is 0"),
        (["--port", "70000"], "no port number"),
        (["--host", "192.0.2.1", "--no-token"], "192.0.2.1"),
        (["--device", "abacus"], "device abacus"),
    ],
)
def test_settings_that_do_not_hold(chain, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", str(chain.release), "--port", "0", *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert said in line
    assert line.startswith("anamnesis serve: ")


def test_a_taken_port_is_named(chain, server):
    found = command("serve", chain.release, "--port", server.port)
    assert found.returncode == 2
    assert f"port {server.port}" in found.stderr.splitlines()[-1]


def test_no_training_stack_is_loaded(chain):
    code = f"""
import sys, threading, os, signal, time
from pipelines import cli
def stop():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop, daemon=True).start()
words = ["serve", {str(chain.release)!r}, "--port", "0", "--grpc-port", "0", "--linger-seconds", "0"]
assert cli.main(words) == 0
print([name for name in ("torch", "pytorch_lightning", "lightning_fabric", "transformers", "great_expectations",
                         "sklearn", "matplotlib", "onnx", "jsonargparse") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "[]"


def test_garbage_on_the_wire_is_answered_or_cut_off(server):
    length = b"POST /v2 HTTP/1.1\r\nContent-Length: a\r\n\r\n"
    for sent in (b"\x00" * 100, b"GET /\r\n\r\n", length, b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as held:
            held.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert held.recv(1000)[:12] in {b"", b"HTTP/1.1 400"}
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
