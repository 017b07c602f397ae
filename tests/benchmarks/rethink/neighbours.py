"""Exact nearest neighbours of patients among a million: `python -m tests.benchmarks.rethink.neighbours`."""

import argparse
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from pipelines.rethink.neighbours import nearest, unit
from tests.benchmarks.harness import Figure, mean_of

COMMAND = "python -m tests.benchmarks.rethink.neighbours"
POOL, WIDTH, K, BATCH, ROUNDS = 1_000_000, 256, 100, 512, 3


def main() -> int:
    """Measure wall and processor time, one thread."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    draw = np.random.default_rng(0)
    pool = np.empty((POOL, WIDTH), dtype=np.float32)
    for begin in range(0, POOL, 100_000):
        pool[begin : begin + 100_000] = unit(draw.standard_normal((100_000, WIDTH), dtype=np.float32))
    query = unit(draw.standard_normal((BATCH, WIDTH), dtype=np.float32))
    walls, processors = list[float](), list[float]()
    with threadpool_limits(1):
        for number in range(ROUNDS):
            wall, processor = time.perf_counter(), time.process_time()
            found = nearest(query, pool, K)
            walls.append(1000 * (time.perf_counter() - wall) / BATCH)
            processors.append(1000 * (time.process_time() - processor) / BATCH)
            print(f"round {number + 1}: wall {walls[-1]:.2f} ms, processor {processors[-1]:.2f} ms", file=sys.stderr)
    # What was found is what a full sort finds, on a few of the queries.
    for at in range(3):
        value = pool @ query[at]
        assert set(found.place[at].tolist()) == set(np.argpartition(-value, K)[:K].tolist())
    held = mean_of(processors)
    Figure(
        name="rethink.neighbours.ms_per_patient",
        value=held.value,
        unit="ms",
        command=COMMAND,
        lower=held.lower,
        upper=held.upper,
        count=BATCH,
        seeds=(0,),
        note=f"processor time of one thread a query, {POOL:,} x {WIDTH} float32, k = {K}, batches of {BATCH}; wall "
        f"time in the same rounds {', '.join(f'{value:.1f}' for value in walls)} ms, on a shared machine",
    ).write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
