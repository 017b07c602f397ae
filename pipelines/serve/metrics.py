"""What Prometheus reads: requests, latency, queue, calls, unknown codes and the distribution of scores."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from pipelines.release import Release

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Upper ends of the bins of probability."""


class Scores(Collector):
    """Probabilities by outcome and horizon, counted by whole arrays."""

    def __init__(self, release: Release) -> None:
        """Count nothing yet."""
        horizons = release.registry.horizons
        self.slots = np.nonzero(horizons >= 0)
        names = release.registry.names
        self.labels = [(names[k], str(horizons[k, h])) for k, h in zip(*self.slots, strict=True)]
        self.counts = np.zeros((len(self.labels), len(EDGES)), dtype=np.int64)
        self.sums = np.zeros(len(self.labels))

    def add(self, probability: npt.NDArray[np.float32]) -> None:
        """Count probabilities, f32 [rows, K, H]."""
        held = probability[:, self.slots[0], self.slots[1]]
        bins = np.minimum(np.searchsorted(EDGES, held, side="left"), len(EDGES) - 1)
        np.add.at(self.counts, (np.broadcast_to(np.arange(len(self.labels)), held.shape), bins), 1)
        self.sums += held.sum(axis=0)

    def collect(self) -> Iterable[Any]:
        """Yield the histogram."""
        name = "anamnesis_probability"
        family = HistogramMetricFamily(name, "Calibrated probabilities.", labels=["outcome", "horizon_days"])
        for at, labels in enumerate(self.labels):
            below = np.cumsum(self.counts[at]).tolist()
            edges = [*(str(edge) for edge in EDGES[:-1]), "+Inf"]
            family.add_metric(list(labels), list(zip(edges, below, strict=True)), float(self.sums[at]))
        yield family


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, release: Release, waiting: Callable[[], float], ready: Callable[[], bool]) -> None:
        """Make the counters.

        Args:
            release: gives outcomes and the model's digest.
            waiting: samples in the queue.
            ready: whether the server takes requests.
        """
        self.registry = CollectorRegistry()
        held = self.registry
        self.requests = Counter("anamnesis_requests", "Requests answered.", ["protocol", "status"], registry=held)
        self.seconds = Histogram(
            "anamnesis_request_seconds", "Time to answer.", ["protocol"], buckets=SECONDS, registry=held
        )
        self.rows = Histogram("anamnesis_call_rows", "Samples of one call of the model.", buckets=ROWS, registry=held)
        self.codes = Counter(
            "anamnesis_codes", "Codes read, by whether the model knows them.", ["known"], registry=held
        )
        Gauge("anamnesis_waiting_rows", "Samples that wait.", registry=held).set_function(waiting)
        Gauge("anamnesis_ready", "1 while requests are taken.", registry=held).set_function(lambda: float(ready()))
        Gauge("anamnesis_model", "1, with the digest.", ["sha256"], registry=held).labels(release.model).set(1)
        self.scores = Scores(release)
        self.registry.register(self.scores)

    def add_codes(self, known: int, unknown: int) -> None:
        """Count codes of records."""
        self.codes.labels("true").inc(known)
        self.codes.labels("false").inc(unknown)

    def page(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)
