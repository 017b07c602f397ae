"""What does the work on many shards, near or far: processes of this machine, or a Ray cluster."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from pipelines.cluster import cluster
from pipelines.pool import cores, pool

ENGINES = ("local", "ray")
Task = TypeVar("Task")
Result = TypeVar("Result")


class Hands(Protocol):
    """What does tasks, near or far."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield function(task) in the order of tasks."""
        ...


@contextmanager
def hands(engine: str, workers: int | None, *, most: int | None = None) -> Generator[Hands]:
    """Yield what does the tasks.

    Args:
        engine: local, processes of this machine; ray, a Ray cluster.
        workers: processes, or tasks at a time; all processors where None.
        most: local processes are no more than this.

    Raises:
        ValueError: there is no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine}: expected one of {', '.join(ENGINES)}")
    if engine == "ray":
        with cluster(workers) as found:
            yield found
        return
    number = workers or cores()
    with pool(number if most is None else min(number, max(1, most))) as found:
        yield found
