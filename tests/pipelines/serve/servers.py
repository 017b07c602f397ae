"""A server in a process of its own, on loopback, ended by its own process id."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

READY = re.compile(rb"ready: (https?)://([\d.]+):(\d+)(?:, grpc at [\d.]+:(\d+))?")
START_SECONDS, STOP_SECONDS = 90, 40


@contextlib.contextmanager
def serving(release, folder, *arguments):
    """Yield address, ports, process and log of a server that is ready; end it when the block ends.

    Args:
        release: to be served.
        folder: for its log.
        arguments: further ones of the verb.
    """
    log = folder / f"server-{time.monotonic_ns()}.log"
    words = [sys.executable, "-m", "pipelines.cli", "serve", str(release), "--port", "0", *map(str, arguments)]
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        found = None
        end = time.monotonic() + START_SECONDS
        while found is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, "the server was not ready in time"
            time.sleep(0.05)
            found = READY.search(log.read_bytes())
        scheme, host, port, grpc_port = (part.decode() if part else None for part in found.groups())
        yield SimpleNamespace(
            url=f"{scheme}://{host}:{port}",
            port=int(port),
            grpc_port=int(grpc_port) if grpc_port else None,
            process=process,
            log=log,
        )
    finally:
        if process.poll() is None:
            stop(process)


def stop(process):
    """Ask a server to end and return its exit code; kill it where it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
