"""The audit: one JSON line a request, without codes, dates or identifiers of a patient."""

import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
DIGITS = 7


class Entry(NamedTuple):
    """What one request leaves.

    Attributes:
        request: our own id of the request.
        caller: name of the token, else the address.
        protocol: by which the request came.
        status: of the answer, in the numbers of HTTP.
        seconds: from the end of the headers to the answer.
        patient: the source's own id, kept as a keyed hash alone; None where the request names none.
        probability: f32 [rows, K, H], None where nothing was answered.
    """

    request: str
    caller: str
    protocol: str
    status: int
    seconds: float
    patient: str | None = None
    probability: npt.NDArray[np.float32] | None = None


class Audit:
    """An append-only file of JSON lines.

    Each line is one write to a file opened for appending. A file that was moved away is made anew, so that logs can be
    rotated by renaming.
    """

    def __init__(
        self, path: Path, key: bytes, *, model: str, outcomes: Sequence[str], horizons: npt.NDArray[np.int64]
    ) -> None:
        """Open the file, made where it is not there, readable by its owner alone.

        Args:
            path: the file.
            key: the site's own, at least 16 bytes.
            model: digest of the model.
            outcomes: K names.
            horizons: days [K, H], negative where an outcome has none.

        Raises:
            ValueError: the key is too short.
            OSError: the file cannot be written.
        """
        if len(key) < KEY_BYTES:
            raise ValueError(f"the audit's key has {len(key)} bytes; expected at least {KEY_BYTES} random ones")
        self.path, self.key, self.model = path, key, model
        self.slots = np.nonzero(horizons >= 0)
        outcome, slot = (part.tolist() for part in self.slots)
        self.names = [f"{outcomes[k]}@{int(horizons[k, h])}" for k, h in zip(outcome, slot, strict=True)]
        self.writable = True
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def hashed(self, patient: str) -> str:
        """Return HMAC-SHA256 of a patient's id under the site's key, hexadecimal."""
        return hmac.new(self.key, patient.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def line(self, entry: Entry) -> bytes:
        """Return one entry as it stands in the file."""
        content: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": entry.request,
            "caller": entry.caller,
            "protocol": entry.protocol,
            "status": entry.status,
            "milliseconds": round(entry.seconds * 1000, 3),
            "model": self.model,
            "patient": None if entry.patient is None else self.hashed(entry.patient),
        }
        if entry.probability is not None:
            found = entry.probability[:, self.slots[0], self.slots[1]].astype(np.float64).round(DIGITS)
            content |= {"outcomes": self.names, "probability": found.tolist()}
        return json.dumps(content, separators=(",", ":")).encode() + b"\n"

    def write(self, entry: Entry) -> None:
        """Append one entry.

        Raises:
            OSError: it cannot be written whole; the server answers 503 rather than unseen.
        """
        line = self.line(entry)
        try:
            self._follow()
            self._append(line)
        except OSError:
            self.writable = False
            raise
        self.writable = True

    def _append(self, line: bytes) -> None:
        """Write a line whole, or leave the file as it was."""
        before = os.fstat(self._file).st_size
        left = line
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise

    def _follow(self) -> None:
        """Make the file anew where it was moved or removed."""
        held = os.fstat(self._file)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            made = self._open()
            os.close(self._file)
            self._file = made

    def check(self) -> bool:
        """Tell whether the file can be written; after a failure this is tried, with a byte that is taken back."""
        try:
            self._follow()
            if not self.writable:
                before = os.fstat(self._file).st_size
                self._append(b"\n")
                os.ftruncate(self._file, before)
                self.writable = True
        except OSError:
            self.writable = False
        return self.writable

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
