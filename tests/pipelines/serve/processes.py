"""A server in a process of its own, on loopback, stopped by its own id."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

READY = re.compile(r"ready: (?P<address>https?://[\d.]+:\d+)")


@contextlib.contextmanager
def server(release, *arguments, seconds=120):
    """Run `anamnesis serve` on a free port until the block ends; SIGTERM then ends it with exit code 0.

    Yields:
        Its address, its process, and the lines that it has said so far.
    """
    words = [sys.executable, "-m", "pipelines.cli", "serve", str(release), "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, ready = [], threading.Event()

    def follow():
        for line in process.stdout:
            lines.append(line)
            if READY.search(line):
                ready.set()
        ready.set()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    try:
        assert ready.wait(seconds), "no word of a ready server"
        found = READY.search("".join(lines))
        assert found, "".join(lines)
        yield SimpleNamespace(address=found["address"], process=process, lines=lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "".join(lines)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(10)
        process.stdout.close()
