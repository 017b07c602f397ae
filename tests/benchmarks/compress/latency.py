"""Packed ternary files against f32 and plain int8, one thread: `python -m tests.benchmarks.compress.latency`."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from compress.onnx.session import options_of
from tests.benchmarks.compress.graphs import CACHE, inputs, packed, ternary, write
from tests.benchmarks.harness import Figure, in_turn, ratio_of

COMMAND = "python -m tests.benchmarks.compress.latency"
GRID = ((1, 64), (1, 128), (8, 64), (8, 128))
OURS, FP32, INT8 = "ours", "fp32", "int8"


def files(width: int) -> dict[str, Path]:
    """Write the three files of a width."""
    reference = write(ternary(width), f"latency-{width}-fp32.onnx")
    plain = CACHE / f"latency-{width}-int8.onnx"
    quantize_dynamic(reference, plain, per_channel=True, weight_type=QuantType.QInt8)
    return {OURS: write(packed(width).model, f"latency-{width}-ours.onnx"), FP32: reference, INT8: plain}


def arm(path: Path, rows: int, length: int, calls: int) -> Callable[[int], float]:
    """Return what measures a file: the median processor seconds of a call."""
    runtime = onnxruntime.InferenceSession(path, options_of(threads=1), providers=["CPUExecutionProvider"])
    given = inputs(rows, length)
    runtime.run(None, given)

    def seconds(_: int) -> float:
        taken: list[float] = []
        for _call in range(calls):
            # Processor time: others on the machine do not count.
            started = time.process_time()
            runtime.run(None, given)
            taken.append(time.process_time() - started)
        return statistics.median(taken)

    return seconds


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2, help="of a round, of which the median counts")
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 768])
    given = parser.parse_args()
    for width in given.widths:
        paths = files(width)
        ratios = {}
        for rows, length in GRID:
            arms = {name: arm(path, rows, length, given.calls) for name, path in paths.items()}
            found = in_turn(arms, given.rounds)
            ratios[rows, length] = {rival: ratio_of(found[rival], found[OURS]) for rival in (FP32, INT8)}
        for name, rival, told in (
            (f"compress.latency_ratio.{width}", FP32, "the same weights in f32, onnxruntime"),
            (f"compress.latency_over_int8_ratio.{width}", INT8, "onnxruntime.quantization, dynamic, QInt8 by channel"),
        ):
            least = min(ratios, key=lambda at: ratios[at][rival].value)
            worst = ratios[least][rival]
            note = "; ".join(f"{r} x {n}: {ratios[r, n][rival].value:.2f}" for r, n in GRID)
            Figure(
                name=name, value=worst.value, unit="ratio", command=COMMAND, rival=told, ratio=worst.value,
                lower=worst.lower, upper=worst.upper, count=given.rounds, seeds=(0,),
                note=f"{note}; processor time of one thread, the least over the grid stands; weights are random, "
                "which speed does not hang on",
            ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
