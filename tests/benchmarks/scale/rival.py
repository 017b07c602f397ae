"""MLServer with the same model file, in an environment of its own."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.harness import ROOT, RUNS

PYTHON = ROOT / "runs" / "mlserver" / "bin" / "python"
START_SECONDS = 90
RUNTIME = '''"""onnxruntime behind MLServer."""

import os

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = int(os.environ["RIVAL_THREADS"]), 1
        self.session = onnxruntime.InferenceSession(
            os.environ["RIVAL_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload):
        given = {entry.name: NumpyCodec.decode_input(entry) for entry in payload.inputs}
        found = self.session.run(["logit", "probability"], given)
        outputs = [NumpyCodec.encode_output(name, part) for name, part in zip(("logit", "probability"), found)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
'''


class Rival(NamedTuple):
    """A running MLServer."""

    port: int
    grpc_port: int


def free() -> int:
    """Return a port that is free now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@contextlib.contextmanager
def serving(model: Path, *, workers: int, threads: int) -> Generator[Rival]:
    """Yield MLServer with a model; it ends when the block ends.

    Args:
        model: an ONNX file.
        workers: processes that run the model; 0: the server's own.
        threads: of one call.
    """
    folder = RUNS / f"mlserver-{workers}-{threads}"
    folder.mkdir(parents=True, exist_ok=True)
    ports = free(), free(), free()
    named = ("http_port", "grpc_port", "metrics_port")
    settings = {"host": "127.0.0.1", "parallel_workers": workers, **dict(zip(named, ports, strict=True))}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps({"name": "anamnesis", "implementation": "rival.Onnx"}))
    (folder / "rival.py").write_text(RUNTIME)
    told = {"RIVAL_MODEL": str(model), "RIVAL_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("wb") as log:
        command = [str(PYTHON.parent / "mlserver"), "start", str(folder)]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **told})
    try:
        wait(ports[0], process, folder / "log.txt")
        yield Rival(ports[0], ports[1])
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the model is ready.

    Raises:
        RuntimeError: the server ended, or is not ready in time.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            url = f"http://127.0.0.1:{port}/v2/models/anamnesis/ready"
            if urllib.request.urlopen(url, timeout=2).status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"MLServer is not ready:\n{log.read_text()[-2000:]}")


def version() -> str:
    """Return the versions that were measured."""
    code = "from importlib.metadata import version as v; print('MLServer', v('mlserver'), 'on', v('onnxruntime'))"
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
