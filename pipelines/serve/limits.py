"""What a server takes: sizes, numbers and seconds."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one server; beyond them a request is refused and the next one is answered."""

    batch: int = 128
    """Samples of a request, at most."""
    body_bytes: int = 8 * 2**20
    """Bytes of a request's body, at most."""
    queue_rows: int = 1024
    """Samples that wait for the model, at most."""
    connections: int = 1024
    """Open connections and unanswered requests, at most."""
    header_seconds: float = 10.0
    """From the first byte of a connection or request to the end of its headers."""
    body_seconds: float = 20.0
    """From the end of the headers to the end of the body."""
    wait_seconds: float = 30.0
    """In the queue and in the model."""
    idle_seconds: float = 30.0
    """A connection without a request."""
    linger_seconds: float = 1.0
    """After SIGTERM: connections are still taken, each answer closes its own, and readiness says no. Then the same time
    again, in which who is connected may still ask."""
    drain_seconds: float = 30.0
    """After that: for what was accepted to be answered."""

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through.

        Raises:
            ValueError: one is zero or negative, or a request of the largest batch could never be queued.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0 and not (item.name == "linger_seconds" and value == 0):
                raise ValueError(f"{item.name} is {value}; expected a number above 0")
        if self.queue_rows < self.batch:
            raise ValueError(f"queue_rows is {self.queue_rows}; expected at least the {self.batch} samples of a batch")
