"""Work on many shards at once: a pool of processes, each of one thread, or this process where that is enough."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

PR_SET_PDEATHSIG = 1
THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")
Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def die_with_parent() -> None:
    """Ask the kernel to end this worker when its parent ends, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Pool:
    """Maps functions over tasks, in processes that stay between one map and the next."""

    def __init__(self, executor: ProcessPoolExecutor | None, workers: int) -> None:
        """Take an executor, or None to work in this process."""
        self.executor, self.workers = executor, workers

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield function(task) in the order of tasks.

        Raises:
            ValueError: what a task raised; or a worker died, for lack of memory as a rule.
        """
        if self.executor is None:
            yield from map(function, tasks)
            return
        # At most two tasks a worker are out at a time, so that results do not pile up.
        waiting: list[Future[Result]] = []
        try:
            for at in range(len(tasks) + 2 * self.workers):
                if at < len(tasks):
                    waiting.append(self.executor.submit(function, tasks[at]))
                if waiting and (at >= len(tasks) or len(waiting) > 2 * self.workers):
                    yield waiting.pop(0).result()
        except BrokenProcessPool:
            raise ValueError("a worker process died, for lack of memory as a rule; use fewer --workers") from None


@contextmanager
def pool(workers: int) -> Generator[Pool]:
    """Yield a pool of so many processes; 1 works in this process.

    Processes are spawned when the first task comes, and end with this process, even where it is killed.
    """
    if workers <= 1:
        yield Pool(None, 1)
        return
    held = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=die_with_parent)
    try:
        yield Pool(executor, workers)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, value in held.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
