"""SparseGPT's errors and times on single layers: `python -m tests.benchmarks.compress.sparsegpt`."""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from compress.sparsity.hessians import Hessian, error
from compress.sparsity.matrix import compress_matrix
from compress.sparsity.settings import SparseGPT
from compress.sparsity.sparsegpt import factored, prune_group, prune_matrix
from tests.benchmarks.compress.inputs import Inputs, draw
from tests.benchmarks.harness import FIGURES, ROOT, Figure, in_turn, ratio_of

COMMAND = "python -m tests.benchmarks.compress.sparsegpt"
RIVAL = ROOT / "runs" / "llmcompressor" / "venv" / "bin" / "python"
PARTS = FIGURES / "parts"
CASES = (
    ("768x3072", "50", {"sparsity": 0.5}),
    ("768x3072", "70", {"sparsity": 0.7}),
    ("768x3072", "2of4", {"pattern": "2:4"}),
    ("1024x4096", "50", {"sparsity": 0.5}),
    ("1024x4096", "2of4", {"pattern": "2:4"}),
    ("3072x768", "50", {"sparsity": 0.5}),
    ("3072x768", "2of4", {"pattern": "2:4"}),
)
METHODS = ("magnitude", "wanda", "wanda+refit", "sparsegpt alone", "sparsegpt")
SEED, ROUNDS = 0, 7


def errors(layer: Inputs, chosen: dict[str, object]) -> dict[str, float]:
    """Return the held-out error of each method."""
    hessian = Hessian(layer.weight.shape[1], held_out=0.1)
    hessian.update(layer.calibration)
    factor = factored(hessian, SparseGPT())
    gram = layer.held_out.T @ layer.held_out
    found: dict[str, float] = {}
    for name in METHODS:
        steps = 0 if name == "sparsegpt alone" else 20
        settings = SparseGPT(method=name.split()[0], refit_steps=steps, **chosen)
        made = compress_matrix(layer.weight, hessian, factor, settings)
        found[name] = error(layer.weight, made.weight, gram)
    return found


def kept(part: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return a part that an earlier run left, or measure and leave it."""
    if not part.is_file():
        found = measure()
        part.parent.mkdir(parents=True, exist_ok=True)
        temporary = part.with_suffix(".partial")
        temporary.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.rename(part)
    return json.loads(part.read_text(encoding="utf-8"))


def measure_errors(*, anew: bool) -> None:
    """Measure the layers one by one."""
    for shape, pattern, chosen in CASES:
        name = f"compress.sparsegpt.error_ratio.{shape}.{pattern}"
        part = PARTS / f"{name}-{SEED}.json"
        if anew:
            part.unlink(missing_ok=True)

        def measure(shape: str = shape, chosen: dict[str, object] = chosen) -> dict[str, float]:
            columns, rows = map(int, shape.split("x"))
            return errors(draw(columns, rows, seed=SEED), chosen)

        found = kept(part, measure)
        told = ", ".join(f"{method} {value:.4f}" for method, value in found.items())
        Figure(
            name=name, value=found["sparsegpt"] / found["sparsegpt alone"], unit="ratio",
            rival="SparseGPT without refit", rival_value=1.0, seeds=(SEED,), count=8192, command=COMMAND,
            note=f"held-out error ||X(W-W')||^2 / ||XW||^2: {told}; Gaussian weights, power-law inputs, 4 loud "
            "channels, 8,192 calibration and 2,048 held-out tokens; a tenth of the 8,192 chooses how many steps",
        ).write()  # fmt: skip


def measure_sharing() -> None:
    """Time q, k and v from activations to pruned weights, together and one by one."""
    layer = draw(768, 3 * 768, seed=SEED, held_out=1)
    parts, settings = layer.weight.split(768), SparseGPT(refit_steps=0)

    def hessian() -> Hessian:
        made = Hessian(768)
        made.update(layer.calibration)
        return made

    def timed(work: Callable[[], object]) -> Callable[[int], float]:
        def run(_: int) -> float:
            begun = time.process_time()
            work()
            return time.process_time() - begun

        return run

    arms = {
        "shared": timed(lambda: prune_group(parts, factored(hessian(), settings), settings)),
        "alone": timed(lambda: [prune_matrix(part, hessian(), settings) for part in parts]),
    }
    in_turn(arms, 1)
    found = in_turn(arms, ROUNDS)
    ratio = ratio_of(found["shared"], found["alone"])
    Figure(
        name="compress.sparsegpt.qkv_time_ratio", value=ratio.value, lower=ratio.lower, upper=ratio.upper,
        unit="ratio", rival="each of the three alone", rival_value=1.0, count=8192, seeds=(SEED,), command=COMMAND,
        note="768 x 768 three times, 8,192 tokens, 50 %; processor time of one thread, interleaved",
    ).write()  # fmt: skip


def measure_rival(shapes: tuple[str, ...] = ("768x3072", "3072x768")) -> None:
    """Time the prune step beside llm-compressor's, and hold weights and masks against its own."""
    command = [str(RIVAL), "-m", "tests.benchmarks.compress.rival"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ratios, told = [], []
    for shape in shapes:
        words = [*command, shape, "--rounds", str(ROUNDS)]
        output = subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])  # above it the package says what it has to say
        for pattern, held in found["agreement"].items():
            if not held["equal"] or held["masks"] < 0.999:
                raise RuntimeError(f"{shape} {pattern}: not llm-compressor's weights or masks: {held}")
        for pattern, times in found["seconds"].items():
            ratio = ratio_of(times["ours"], times["theirs"])
            ratios.append(ratio)
            told.append(f"{shape} {pattern} {ratio.value:.2f} ({ratio.lower:.2f} to {ratio.upper:.2f})")
    worst = max(ratios)
    Figure(
        name="compress.sparsegpt.time_ratio", value=worst.value, lower=worst.lower, upper=worst.upper, unit="ratio",
        rival="llm-compressor 0.14.0", rival_value=1.0, count=8192, seeds=(SEED,), command=COMMAND,
        note=f"from a Hessian to pruned weights, the worst of {', '.join(told)}; processor time of one thread, "
        "interleaved, in one interpreter; its weights are met bit for bit in reference mode",
    ).write()  # fmt: skip


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anew", action="store_true", help="measure errors again that an earlier run left")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measure_errors(anew=given.anew)
    measure_sharing()
    if not RIVAL.is_file():
        parser.error("llm-compressor is not there to be timed; run `make runs/llmcompressor` first")
    measure_rival()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
