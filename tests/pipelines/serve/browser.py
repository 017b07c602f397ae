"""Headless Chromium, spoken to over its debugging pipe: JSON messages that end in a zero byte."""

import base64
import json
import os
import signal
import subprocess
import time

SECONDS = 60.0


class Browser:
    """One page in a browser of its own."""

    def __init__(self, path, profile):
        """Start the browser with nothing of an earlier one."""
        ours, theirs = os.pipe(), os.pipe()
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
        words = [path, *flags, f"--user-data-dir={profile}", "--window-size=1200,1500", "about:blank"]
        # The browser reads at 3 and writes at 4.
        launch = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", launch, "browser", *words],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = ours[1], theirs[0]
        self._number, self._held, self._session, self._home = 0, b"", None, ""
        self.outside, self.errors = [], []

    def __enter__(self):
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self._to)
        os.close(self._from)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def send(self, method, **given):
        """Return the result of a command; events that come meanwhile are looked at."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self._number:
            self._look(found)
        assert "error" not in found, found
        return found["result"]

    def _next(self):
        while b"\0" not in self._held:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser is gone"
            self._held += part
        line, _, self._held = self._held.partition(b"\0")
        return json.loads(line)

    def _look(self, event):
        given = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            address = given["request"]["url"]
            if not address.startswith((self._home, "data:")):
                self.outside.append(address)
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(given["exceptionDetails"]["text"])
        elif event.get("method") == "Log.entryAdded" and given["entry"]["source"] != "network":
            # A refused request is told as an error of the network; what the page's policy stops is told here.
            self.errors.append(given["entry"]["text"])

    def open(self, address):
        """Go to an address."""
        self._home = address
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """Return what a script gives."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Wait until a script gives true."""
        end = time.monotonic() + SECONDS
        while not self.run(f"!!(document.body && ({script}))"):
            assert time.monotonic() < end, f"waited in vain for {script}"
            time.sleep(0.1)

    def picture(self, path):
        """Write a picture of the whole page."""
        held = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(held["data"]))
