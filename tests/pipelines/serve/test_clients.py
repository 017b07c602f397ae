"""Triton's own client against the server, in an environment of its own (`make test-clients`), and long runs."""

import asyncio
import subprocess
import sys

import numpy as np
import psutil
import pytest

from pipelines.release import open_release
from pipelines.serve import messages
from tests.benchmarks.scale import load
from tests.docs import ROOT
from tests.pipelines.serve import questions
from tests.pipelines.serve.servers import serving

PYTHON = ROOT / "runs" / "clients" / "bin" / "python"
SOURCE = ROOT / "pipelines" / "serve" / "inference.proto"
# Runs where tritonclient is; prints the largest difference from the numbers handed in.
CLIENT = """
import sys
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

held = np.load(sys.argv[3])
kinds = {"token": "INT64", "visit": "INT32", "age_days": "FP32", "query_age_days": "FP32"}
worst = 0.0
for module, port, ways in (
    (over_http, sys.argv[1], ({"binary_data": False}, {"binary_data": True}, None)),
    (over_grpc, sys.argv[2], (None,)),
):
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("anamnesis")
    told = client.get_model_metadata("anamnesis")
    named = told["inputs"] if isinstance(told, dict) else [{"name": entry.name} for entry in told.inputs]
    assert [entry["name"] for entry in named] == list(kinds)
    for way in ways:
        inputs = []
        for name, kind in kinds.items():
            entry = module.InferInput(name, held[name].shape, kind)
            entry.set_data_from_numpy(held[name], **(way or {}))
            inputs.append(entry)
        asked = None if way is None else [module.InferRequestedOutput(name, **way) for name in ("logit", "probability")]
        answer = client.infer("anamnesis", inputs, outputs=asked, request_id="7")
        for name in ("logit", "probability"):
            worst = max(worst, float(np.abs(answer.as_numpy(name) - held[name]).max()))
    client.close()
print(worst)
"""
REQUESTS, WARM, LINES, GROWTH_BYTES = 100_000, 5_000, 8, 16 * 2**20


@pytest.fixture
def python():
    """Return the interpreter that has tritonclient, or skip with the reason."""
    if not PYTHON.is_file():
        pytest.skip("needs tritonclient in runs/clients: make test-clients")
    return PYTHON


@pytest.mark.slow
def test_tritonclient_gets_the_numbers_of_onnxruntime(chain, python, tmp_path):
    release = open_release(chain.release, trusted=True)
    given = questions.arrays(release, 6, 40)
    np.savez(tmp_path / "held.npz", **given, **questions.expected(release, given))
    with serving(chain.release, tmp_path, "--grpc-port", 0) as server:
        words = [python, "-c", CLIENT, str(server.port), str(server.grpc_port), str(tmp_path / "held.npz")]
        found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) <= 1e-6


@pytest.mark.slow
def test_the_compiled_messages_are_those_of_the_source(python, tmp_path):
    target = tmp_path / "made.binpb"
    words = [python, "-m", "grpc_tools.protoc", "-I", SOURCE.parent, f"--descriptor_set_out={target}", SOURCE.name]
    found = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0, found.stderr
    assert target.read_bytes() == messages.COMPILED.read_bytes()


@pytest.mark.slow
def test_memory_is_flat_over_100_000_requests(chain, tmp_path):
    """After a warm-up of 5,000, 95,000 more cost no memory: answered ones, and one in ten that is refused."""
    release = open_release(chain.release, trusted=True)
    body, headers = questions.as_bytes(questions.arrays(release, 1, 20))
    right, torn = (load.http(questions.INFER, part, headers) for part in (body, body[:-1]))

    async def ask(server, numbers, seen):
        process, line = psutil.Process(server.process.pid), load.Line(server.port)
        for at in numbers:
            status = (await line.ask(torn if at % 10 == 9 else right))[0]
            assert status == (400 if at % 10 == 9 else 200)
            if at in {WARM, REQUESTS - 1}:
                seen.append(process.memory_info().rss)
        line.close()

    async def all_of_them(server):
        numbers, seen = iter(range(REQUESTS)), []
        await asyncio.gather(*(ask(server, numbers, seen) for _ in range(LINES)))
        return seen

    with serving(chain.release, tmp_path) as server:
        seen = asyncio.run(all_of_them(server))
    print(
        f"{seen[0] / 2**20:.1f} MiB after {WARM:,} requests, {seen[1] / 2**20:.1f} after {REQUESTS:,}", file=sys.stderr
    )
    assert seen[1] - seen[0] < GROWTH_BYTES
