"""The same files in old and new runtimes, each in an environment: `python -m tests.benchmarks.compress.runtimes`."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.benchmarks.compress.graphs import EXACT, PLAN, inputs, packed, write
from tests.benchmarks.harness import ROOT, Figure

COMMAND = "make test-runtimes"
VERSIONS = ("1.20.1", "1.22.1", "1.24.4", "1.27.0", "newest")
ENVIRONMENTS = ROOT / "runs" / "runtimes"
WIDTH = 256
SHAPES = ((1, 1), (2, 40), (8, 128))
OUTPUTS = {"exact": "logit", "int8": "probability"}
# What runs there: numpy and onnxruntime are all that is installed.
ANSWER = """
import sys
import numpy as np, onnxruntime as o
options = o.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
given, held = np.load(sys.argv[1]), {"version": np.array(o.__version__)}
for path in sys.argv[3:]:
    session = o.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for at in sorted({name.split("/")[0] for name in given.files}):
        feed = {name.split("/")[1]: given[name] for name in given.files if name.startswith(at + "/")}
        for name, value in zip(("logit", "probability"), session.run(["logit", "probability"], feed)):
            held[f"{path}|{at}|{name}"] = value
np.savez(sys.argv[2], **held)
"""


def environment(version: str) -> Path:
    """Return the interpreter of an environment with one onnxruntime and numpy, made where it is missing."""
    folder = ENVIRONMENTS / version
    python = folder / "bin" / "python"
    if not (folder / "whole").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        wanted = "onnxruntime" if version == "newest" else f"onnxruntime=={version}"
        subprocess.run([python, "-m", "pip", "install", "--quiet", wanted, "numpy"], check=True)
        (folder / "whole").touch()
    return python


def main() -> int:
    """Ask every runtime and write the figures; 1 where one of them cannot open a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    paths = {"exact": write(packed(WIDTH, EXACT).model, "runtimes-exact.onnx")}
    paths["int8"] = write(packed(WIDTH, PLAN).model, "runtimes-int8.onnx")
    asked = {f"{at}/{name}": value for at, shape in enumerate(SHAPES) for name, value in inputs(*shape).items()}
    # A row of padding alone stands in the second batch.
    asked["1/token"][1] = 0
    np.savez(ENVIRONMENTS.parent / "compress" / "runtimes-asked.npz", **asked)
    answers, failed = {}, list[str]()
    for version in VERSIONS:
        answer = ENVIRONMENTS.parent / "compress" / f"runtimes-{version}.npz"
        words = [ENVIRONMENTS.parent / "compress" / "runtimes-asked.npz", answer, *paths.values()]
        found = subprocess.run(
            [environment(version), "-c", ANSWER, *words], check=False, capture_output=True, text=True
        )
        if found.returncode:
            failed.append(version)
            print(f"{version}: {found.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        answers[version] = dict(np.load(answer))
        print(f"{version}: onnxruntime {answers[version]['version']}")
    if failed:
        return 1
    told = ", ".join(str(held["version"]) for held in answers.values())
    for kind, output in OUTPUTS.items():
        names = [f"{paths[kind]}|{at}|{output}" for at in range(len(SHAPES))]
        first = answers[VERSIONS[0]]
        # Between any two of them: the spread over all.
        spread = [np.ptp(np.stack([held[name] for held in answers.values()]), axis=0) for name in names]
        assert all(np.isfinite(first[name]).all() for name in names)
        Figure(
            name=f"compress.runtimes.{kind}_max_abs", value=float(max(part.max() for part in spread)), unit=output,
            command=COMMAND, count=len(answers), seeds=(0,),
            note=f"largest spread over onnxruntime {told}; {WIDTH} wide, 2 + 2 layers, random ternary weights, batches "
            f"of {', '.join(f'{rows} x {length}' for rows, length in SHAPES)} with a row of padding alone",
        ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
