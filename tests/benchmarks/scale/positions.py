"""What a position costs by the size of its call, in processor time: why the server's calls are as large as they are."""

import time

import numpy as np

from compress.onnx.session import open_session
from pipelines.release import MODEL, POSITIONS, open_release
from pipelines.serve.shapes import CALL_POSITIONS
from tests.benchmarks.harness import ROOT, Figure, in_turn, ratio_of
from tests.pipelines.serve import questions

COMMAND = "python -m tests.benchmarks.scale.positions"
DEMO = ROOT / "runs" / "demo" / "release"
LENGTH, ROUNDS = 64, 12
SIZES = (256, 512, CALL_POSITIONS, 2 * CALL_POSITIONS, POSITIONS)


def main() -> None:
    """Measure calls of every size in turn, and write the ratio of the largest to the server's."""
    release = open_release(DEMO, trusted=True)
    session = open_session(DEMO / MODEL, threads=1)
    calls = {size: tuple(questions.arrays(release, size // LENGTH, LENGTH).values()) for size in SIZES}

    def cost(size: int) -> float:
        started = time.process_time()
        for _ in range(POSITIONS // size):
            session.run(*calls[size])
        return (time.process_time() - started) / POSITIONS * 1e6

    for size in SIZES:
        cost(size)
    found = in_turn({str(size): lambda _, size=size: cost(size) for size in SIZES}, ROUNDS)
    ratio = ratio_of(found[str(POSITIONS)], found[str(CALL_POSITIONS)])
    told = ", ".join(f"{size}: {np.median(values):.1f}" for size, values in found.items())
    note = f"demo model, {LENGTH} tokens a sample; median microseconds a position, by positions of a call: {told}"
    Figure(
        name="serve.call_cost_ratio", value=ratio.value, unit="ratio", rival=f"calls of {CALL_POSITIONS:,} positions",
        rival_value=float(np.mean(found[str(CALL_POSITIONS)])), ratio=ratio.value, lower=ratio.lower,
        upper=ratio.upper, count=ROUNDS, command=COMMAND, note=note,
    ).write()  # fmt: skip


if __name__ == "__main__":
    main()
