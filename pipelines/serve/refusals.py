"""Why a request is not answered: a status and one line that repeats nothing of the request."""

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818  the client is refused; nothing of ours went wrong
    """A request that is not answered.

    Args:
        status: of HTTP; gRPC has its own words for the same.
        message: what was got, what was expected; names, shapes and types, never a value of the request.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep status, message and headers."""
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def busy(seconds: float = 1.0, message: str = "too much is waiting; try again later") -> Refusal:
    """Return the refusal of a server that has no room: 503, and when to come back."""
    return Refusal(503, message, {"Retry-After": str(max(1, round(seconds)))})
