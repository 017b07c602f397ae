"""`anamnesis serve`: a release behind HTTP and gRPC, beside the record, without torch."""

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from pipelines.serve.limits import Limits
from pipelines.serve.options import Address, Options

EXAMPLES = """examples:
  anamnesis serve release/
  anamnesis serve release/ --grpc-port 8081 --audit audit.jsonl --audit-key site.key
  anamnesis serve release/ --host 0.0.0.0 --token-file tokens --tls-certificate server.pem --tls-key server.key
"""
NEEDED = ("starlette", "uvicorn", "prometheus_client", "grpc", "google")
OPTIONS = {
    "batch": "samples of a request, at most",
    "body_bytes": "bytes of a request's body, at most",
    "queue_rows": "samples that wait for the model, at most; beyond them: 503",
    "connections": "open connections, at most",
    "header_seconds": "for a request's headers to come",
    "body_seconds": "for a request's body to come",
    "wait_seconds": "in the queue and in the model; beyond them: 503",
    "idle_seconds": "of a connection without a request",
    "linger_seconds": "after SIGTERM in which requests are still taken",
    "drain_seconds": "after that, for what was taken to be answered",
}


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis serve",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("release", type=Path, help="made by anamnesis export")
    made.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    made.add_argument("--port", type=int, default=8080, help="of HTTP; 0: a free one (default: 8080)")
    made.add_argument("--grpc-port", type=int, help="of gRPC; 0: a free one (default: no gRPC)")
    made.add_argument("--audit", type=Path, help="file to which a JSON line is added a request")
    made.add_argument("--audit-key", type=Path, help="file of random bytes, the key under which patient ids are hashed")
    made.add_argument("--token-file", type=Path, help="who may ask: NAME TOKEN a line")
    made.add_argument("--no-token", action="store_true", help="let everyone ask who reaches another host than loopback")
    made.add_argument(
        "--thresholds", type=Path, help="probabilities from which CDS cards are shown, YAML (default: none)"
    )
    made.add_argument("--tls-certificate", type=Path, help="PEM")
    made.add_argument("--tls-key", type=Path, help="PEM")
    made.add_argument("--key", type=Path, help="public key, PEM; a release that is not signed with it is refused")
    made.add_argument(
        "--folded", type=Path, help="folder that keeps the model decoded, so that later starts take less memory"
    )
    made.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    made.add_argument("--workers", type=int, help="calls of the model at a time (default: all cores / --threads)")
    made.add_argument("--threads", type=int, default=1, help="threads of one call (default: 1)")
    limits = made.add_argument_group("limits")
    for item in fields(Limits):
        words = f"{OPTIONS[item.name]} (default: {item.default})"
        kind = int if isinstance(item.default, int) else float
        limits.add_argument(f"--{item.name.replace('_', '-')}", type=kind, default=item.default, help=words)
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb until it is told to stop; 0 when all that was accepted is answered."""
    given = parser().parse_args(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"serving needs {', '.join(missing)}; install anamnesis[serve]")
    # What listens is loaded only now, so that --help needs none of it.
    from pipelines.serve.running import run

    run(
        given.release,
        Options(
            address=Address(host=given.host, port=given.port, certificate=given.tls_certificate, key=given.tls_key),
            grpc_port=given.grpc_port,
            audit=given.audit,
            audit_key=given.audit_key,
            tokens=given.token_file,
            anyone=given.no_token,
            thresholds=given.thresholds,
            signed=given.key,
            folded=given.folded,
            device=given.device,
            workers=given.workers,
            threads=given.threads,
        ),
        Limits(**{item.name: getattr(given, item.name) for item in fields(Limits)}),
    )
    return 0
