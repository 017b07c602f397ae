"""How one server is set up."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens, and under which certificate."""

    host: str = "127.0.0.1"
    """A name or address of this machine."""
    port: int = 8080
    """0 takes a free one."""
    certificate: Path | None = None
    """PEM; with it the server speaks TLS."""
    key: Path | None = None
    """PEM, of the certificate."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of one server, its limits apart."""

    address: Address = Address()
    """Of HTTP."""
    grpc_port: int | None = None
    """0 takes a free one; None: no gRPC."""
    audit: Path | None = None
    """File of JSON lines."""
    audit_key: Path | None = None
    """File of random bytes."""
    tokens: Path | None = None
    """File of names and tokens."""
    anyone: bool = False
    """Other machines may ask without a token."""
    thresholds: Path | None = None
    """File of probabilities above which CDS cards are shown; None: no cards."""
    signed: Path | None = None
    """Public key that the release has to be signed with; None: any release."""
    folded: Path | None = None
    """Folder of the model as this machine's runtime folds it; None: the release's own file."""
    device: str = "cpu"
    """cpu or cuda."""
    workers: int | None = None
    """Calls at a time; None: as many as there are cores for."""
    threads: int = 1
    """Of one call."""
