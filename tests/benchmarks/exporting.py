"""Torch against the exported file, every labelled patient of the demo: `python -m tests.benchmarks.exporting`."""

import argparse

import numpy as np

from compress.onnx.parity import parity
from pipelines.cohort import open_cohort, splits
from pipelines.predict import load_network, logits
from pipelines.release import answer, open_release
from pipelines.samples import samples_and_labels
from tests.benchmarks.harness import ROOT, Figure

COMMAND = "python -m tests.benchmarks.exporting"
DEMO = ROOT / "runs" / "demo"


def main() -> int:
    """Measure and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    if not (DEMO / "release").is_dir():
        parser.error("no release of the demo; run `make demo` first")
    cohort, release, network = (
        open_cohort(DEMO / "cohort"),
        open_release(DEMO / "release"),
        load_network(DEMO / "finetuned"),
    )
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    patients = set[int]()
    for split in splits(cohort)["split"].unique().sort():
        asked, samples = samples_and_labels(cohort, split, release.max_tokens)
        parts.append((logits(network, samples), answer(release, samples)[0]))
        patients |= set(asked.subject.tolist())
    torch_says, file_says = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = parity(torch_says, file_says)
    Figure(
        name="export.parity_max_abs", value=found.max_abs, unit="logit", rival="torch, eager, f32",
        count=len(torch_says), command=COMMAND,
        note=f"all labelled samples of {len(patients):,} patients, all outcomes and horizons, before calibration",
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
