"""The demo scored by another interpreter, one that has no torch: `python -m tests.environments PYTHON`."""

import argparse
import subprocess
import sys
from pathlib import Path

import polars as pl

from tests import docs

DEMO = docs.ROOT / "runs" / "demo"
ABSENT = ("torch", "pytorch_lightning", "transformers", "great_expectations", "sklearn", "onnx")
KEYS = ["subject_id", "prediction_time", "outcome", "horizon_days"]


def read(folder: Path) -> pl.DataFrame:
    """Return predictions in the order of their keys."""
    return pl.concat([pl.read_parquet(path) for path in sorted((folder / "predictions").glob("*.parquet"))]).sort(KEYS)


def main() -> int:
    """Score, and compare with what this environment's own interpreter left; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path, help="interpreter of the other environment")
    python = parser.parse_args().python.absolute()
    if not (DEMO / "predictions").is_dir():
        parser.error("no predictions of the demo; run `make demo` first")
    look = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"
    found = subprocess.run([python, "-c", look], capture_output=True, text=True, check=True, cwd="/").stdout.strip()
    if found != "[]":
        print(f"expected none of {', '.join(ABSENT)}, found {found}", file=sys.stderr)
        return 1
    target = docs.ROOT / "runs" / "cpu-predictions"
    words = ["score", DEMO / "release", DEMO / "records", target, "--overwrite"]
    # Away from the sources, so that the installed package is what runs. 3: the dead are listed as not scored.
    code = subprocess.run([python, "-m", "pipelines.cli", *words], check=False, cwd="/").returncode
    if code not in (0, 3):
        return 1
    ours, theirs = read(DEMO / "predictions"), read(target)
    same = ours.select(KEYS).equals(theirs.select(KEYS))
    apart = float((ours["probability"] - theirs["probability"]).abs().max()) if same else float("inf")  # pyright: ignore[reportArgumentType]
    print(f"{theirs['subject_id'].n_unique():,} patients without torch; probabilities differ by at most {apart:.2g}")
    return int(not apart < 1e-5)


if __name__ == "__main__":
    raise SystemExit(main())
