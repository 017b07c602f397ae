"""A server's application asked in this process, without a socket."""

import asyncio
import time
from datetime import datetime
from types import SimpleNamespace

import httpx
import polars as pl

from pipelines.release import open_release
from pipelines.serve import alerts, app
from pipelines.serve.audit import Audit
from pipelines.serve.engine import Engine
from pipelines.serve.limits import Limits
from pipelines.serve.service import Service

KEY = b"a key of this test alone"


def clinic(release, audit, held=alerts.NONE):
    """Return a service and its application with everything that stands beside the tensors."""
    opened = open_release(release, trusted=True)
    registry = opened.registry
    kept = Audit(audit, KEY, model=opened.model, outcomes=registry.names, horizons=registry.horizons)
    limits = Limits()
    service = Service(opened, Engine(opened, limits), limits, kept, held)
    return SimpleNamespace(service=service, app=app.build(service))


def ask(application, method, path, **given):
    """Return the answer to one request."""

    async def once():
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, **given)

    return asyncio.run(once())


def close(made):
    """End the threads and close the audit."""
    made.service.engine.close()
    made.service.audit.close()


def told(folder):
    """Return what `anamnesis score` left, by patient: prediction time and probabilities in order."""
    parts = pl.concat([pl.read_parquet(path) for path in sorted((folder / "predictions").glob("*.parquet"))])
    found = {}
    for patient, moment, outcome, days, probability in parts.select(
        "patient", "prediction_time", "outcome", "horizon_days", "probability"
    ).iter_rows():
        found.setdefault(patient, (moment, []))[1].append((outcome, days, probability))
    return found


def answered(response):
    """Return an answer of /score in the same form."""
    held = response.json()
    moment = datetime.fromisoformat(held["prediction_time"]).replace(tzinfo=None)
    return moment, [(p["outcome"], p["horizon_days"], p["probability"]) for p in held["predictions"]]


def wait_for(condition, seconds=30.0):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
