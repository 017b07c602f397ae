"""A Ray cluster of three nodes on this machine, of which a worker and then a node are lost in the middle of work."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import psutil

KEYS = ["subject_id", "prediction_time", "outcome", "horizon_days"]
BUSY = "ray::call"
SECONDS = 300


@contextmanager
def nodes(number: int, processors: int = 1) -> Generator[Any]:
    """Yield a cluster of so many nodes, the first of which holds its state, with this process as its driver."""
    import ray
    from ray.cluster_utils import Cluster

    from pipelines.cluster import SETTINGS

    # Ray makes its workers yield to all else on a machine, which on a busy one measures the others.
    with settings({**SETTINGS, "RAY_worker_niceness": "0"}):
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": processors, "include_dashboard": False})
        try:
            for _ in range(number - 1):
                made.add_node(num_cpus=processors)
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            made.wait_for_nodes()
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@contextmanager
def settings(values: dict[str, str]) -> Generator[None]:
    """Hold environment variables for a while."""
    import os

    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def busy(node: Any) -> list[psutil.Process]:
    """Return the workers of a node that are at a task."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [child for child in raylet.children(recursive=True) if (child.cmdline() or [""])[0].startswith(BUSY)]


class Losses(threading.Thread):
    """Kills a worker at its task once some parts are done, and a whole node once more are."""

    def __init__(self, cluster: Any, done: Callable[[], int], first: int, second: int) -> None:
        """Set up; `done` counts finished parts."""
        super().__init__(daemon=True)
        self.cluster, self.done, self.first, self.second = cluster, done, first, second
        self.lost: list[str] = []

    def run(self) -> None:
        """Wait, kill, wait, kill."""
        one, other = sorted(self.cluster.worker_nodes, key=lambda node: node.node_id)
        self.when(self.first, lambda: self.kill_worker(one))
        self.when(self.second, lambda: self.kill_node(other))

    def when(self, number: int, action: Callable[[], bool]) -> None:
        """Do something, again until it works, once so many parts are done."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if self.done() >= number and action():
                return
            time.sleep(0.01)

    def kill_worker(self, node: Any) -> bool:
        """Kill a worker at its task; tell whether there was one."""
        for worker in busy(node):
            worker.kill()
            self.lost.append("worker")
            return True
        return False

    def kill_node(self, node: Any) -> bool:
        """Take a node away while it works; tell whether it did."""
        if not busy(node):
            return False
        self.cluster.remove_node(node, allow_graceful=False)
        self.lost.append("node")
        return True


def parts_in(folder: Path) -> Callable[[], int]:
    """Return what counts the finished parquet files of a folder."""
    return lambda: sum(1 for path in folder.glob("*.parquet") if not path.name.startswith("."))


def read(folder: Path) -> pl.DataFrame:
    """Return the keys of all predictions."""
    return pl.concat([pl.read_parquet(path, columns=KEYS) for path in sorted((folder / "predictions").glob("*"))])


def lost_and_doubled(whole: Path, other: Path) -> tuple[int, int]:
    """Return how many rows of one folder of predictions another lacks, and how many it holds more than once."""
    expected, found = read(whole), read(other)
    return len(expected.join(found, on=KEYS, how="anti")), len(found) - found.n_unique(KEYS)
