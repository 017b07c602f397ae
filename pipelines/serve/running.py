"""One server from its start to its end: checked before it listens, drained before it goes."""

import asyncio
import ipaddress
import ssl
from pathlib import Path

from pipelines.pool import cores
from pipelines.progress import say
from pipelines.release import Release, open_release
from pipelines.serve import access, alerts, app
from pipelines.serve.audit import Audit
from pipelines.serve.engine import Engine
from pipelines.serve.limits import Limits
from pipelines.serve.options import Address, Options
from pipelines.serve.rpc import Rpc
from pipelines.serve.server import Server, bind, files
from pipelines.serve.service import Service

SPARE_FILES = 64


def run(path: Path, options: Options, limits: Limits) -> None:
    """Serve a release until SIGTERM or SIGINT; return when all that was accepted is answered.

    Args:
        path: the release.
        options: how.
        limits: of requests.

    Raises:
        ValueError: the release is not whole, a setting does not hold, or a port cannot be had.
    """
    tokens = access.load(options.tokens) if options.tokens else None
    guard(options.address, tokens, anyone=options.anyone)
    workers = options.workers or max(1, cores() // options.threads)
    # Signature, checksums and the golden pair come before anything listens.
    release = open_release(
        path, device=options.device, threads=options.threads, key=options.signed, folded=options.folded
    )
    held = alerts.load(options.thresholds, release.registry) if options.thresholds else alerts.NONE
    audit = audit_of(options, release)
    engine = Engine(release, limits, workers=workers)
    try:
        asyncio.run(serve(Service(release, engine, limits, audit, held), options, tokens))
    finally:
        engine.close()
        if audit is not None:
            audit.close()
    say("stopped; what was accepted is answered")


def guard(address: Address, tokens: access.Tokens | None, *, anyone: bool) -> None:
    """Refuse to listen where strangers could ask, and certificates that cannot be used.

    Raises:
        ValueError: no token for a host beyond loopback, or half a certificate, or one that does not fit its key.
    """
    if (address.certificate is None) != (address.key is None):
        raise ValueError("--tls-certificate and --tls-key belong together; give both, or neither")
    if address.certificate is not None and address.key is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(address.certificate, address.key)
        except ssl.SSLError:
            raise ValueError(f"{address.certificate}: no PEM certificate with this key; give both anew") from None
    if tokens is None and not anyone and not loopback(address.host):
        raise ValueError(
            f"--host {address.host} lets other machines ask; give --token-file, or --no-token where a proxy guards it"
        )


def loopback(host: str) -> bool:
    """Tell whether a host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def audit_of(options: Options, release: Release) -> Audit | None:
    """Open the audit, None where none is asked for.

    Raises:
        ValueError: no key is given, or it is too short.
    """
    if options.audit is None:
        return None
    if options.audit_key is None:
        raise ValueError("--audit needs --audit-key: a file of at least 16 random bytes, made once for this site")
    registry, key = release.registry, options.audit_key.read_bytes()
    return Audit(options.audit, key, model=release.model, outcomes=registry.names, horizons=registry.horizons)


async def serve(service: Service, options: Options, tokens: access.Tokens | None) -> None:
    """Listen until told to stop.

    Raises:
        ValueError: a port cannot be had.
    """
    files(2 * service.limits.connections + SPARE_FILES)
    address = options.address
    listening = bind(address)
    rpc = None if options.grpc_port is None else Rpc(service, address, options.grpc_port, tokens)
    server = Server(app.build(service, tokens=tokens), service, address, beside=rpc.stop if rpc else None)
    running = asyncio.create_task(server.serve([listening]))
    while not (server.started or running.done()):
        await asyncio.sleep(0.01)
    if running.done():
        await running
        return
    if rpc is not None:
        await rpc.start()
    scheme = "https" if address.certificate else "http"
    beside = f", grpc at {address.host}:{rpc.port}" if rpc else ""
    say(f"ready: {scheme}://{address.host}:{listening.getsockname()[1]}{beside}; model {service.release.model[:12]}")
    await running
