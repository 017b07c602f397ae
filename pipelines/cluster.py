"""Work on many shards at once on a Ray cluster: a task a shard, done again where its worker or machine is lost."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pipelines.pool import THREADS, cores

ATTEMPTS = 6
# Ray's own habits: telephoning home, and hiding accelerators from tasks that ask for none.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
Task = TypeVar("Task")
Result = TypeVar("Result")


def call(work: bytes) -> Any:  # noqa: ANN401  what the function returns
    """Do a task in a worker: one thread, settled before the libraries that ask are loaded."""
    from ray import cloudpickle

    os.environ.update(dict.fromkeys(THREADS, "1"))
    function, task = cloudpickle.loads(work)
    return function(task)


class Cluster:
    """Maps functions over tasks on the machines of a Ray cluster, which share a file system."""

    def __init__(self, workers: int | None) -> None:
        """Set up; `workers` bounds the tasks that run at a time, all processors of the cluster where None."""
        self.workers = workers

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield function(task) in the order of tasks.

        Raises:
            ValueError: what a task raised; or its worker was lost again and again, for lack of memory as a rule.
        """
        import ray
        from ray import cloudpickle
        from ray.exceptions import RayError, RayTaskError

        pickle: Any = cloudpickle
        remote: Any = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(call)
        waiting: list[Any] = []
        at = 0
        try:
            while waiting or at < len(tasks):
                while at < len(tasks) and len(waiting) < self.ahead():
                    waiting.append(remote.remote(pickle.dumps((function, tasks[at]))))
                    at += 1
                yield ray.get(waiting.pop(0))
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise ValueError(
                f"a shard was lost {ATTEMPTS} times with its worker ({type(error).__name__}), for lack of memory as a "
                "rule; use fewer --workers, or machines with more memory"
            ) from None
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def ahead(self) -> int:
        """Return how many tasks are out at a time: a few more than run, so that no processor waits."""
        import ray

        if self.workers:
            return self.workers
        return 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))


@contextmanager
def cluster(workers: int | None) -> Generator[Cluster]:
    """Yield the cluster of RAY_ADDRESS, else that of this machine, else one made for the moment.

    Raises:
        ValueError: Ray is not installed.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ValueError("--engine ray: Ray is not installed; install the extra cluster, or leave it out") from None
    if ray.is_initialized():
        yield Cluster(workers)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(address="local", num_cpus=workers or cores(), include_dashboard=False, **quiet)
    try:
        yield Cluster(workers)
    finally:
        ray.shutdown()
