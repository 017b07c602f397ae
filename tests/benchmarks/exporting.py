"""Torch against the exported file, every patient of the demo: `python -m tests.benchmarks.exporting`."""

import argparse
from collections.abc import Iterator

from compress.onnx.parity import parity
from ehr.timelines import Record, Timelines, cut
from pipelines.cohort import open_cohort, splits, timelines
from pipelines.predict import load_network, logits
from pipelines.release import answer, open_release
from pipelines.samples import samples_and_labels
from tests.benchmarks.harness import ROOT, Figure

COMMAND = "python -m tests.benchmarks.exporting"
DEMO = ROOT / "runs" / "demo"


def records(held: Timelines) -> Iterator[Record]:
    """Yield the records that hold a token."""
    for subject in held.subjects.tolist():
        record = held.record(subject)
        if len(record.token):
            yield record


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
    held = timelines(cohort)
    # Everybody at the last event, the dead too, beside every labelled prediction time.
    samples = [cut(record, int(record.time[-1]), max_length=release.max_tokens) for record in records(held)]
    patients = len(samples)
    for split in splits(cohort)["split"].unique().sort():
        samples += samples_and_labels(cohort, split, release.max_tokens)[1]
    torch_says, file_says = logits(network, samples), answer(release, samples)[0]
    found = parity(torch_says, file_says)
    Figure(
        name="export.parity_max_abs", value=found.max_abs, unit="logit", rival="torch, eager, f32",
        count=len(torch_says), command=COMMAND,
        note=f"all {patients:,} patients at their last event and all labelled samples, before calibration",
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
