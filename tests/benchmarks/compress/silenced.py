"""What the network adds to the linear part of its summary: `python -m tests.benchmarks.compress.silenced`.

The head's weights are set to 0, so that the linear part answers alone; where little changes then, compression of the
network has little to lose.
"""

import argparse

import torch

from pipelines.cohort import open_cohort
from pipelines.export import read_run
from pipelines.predict import logits
from pipelines.samples import samples_and_labels
from tests.benchmarks.compress.models import NAMES, trained
from tests.benchmarks.compress.sweep import macro, sigmoid
from tests.benchmarks.harness import Figure

COMMAND = "python -m tests.benchmarks.compress.silenced"


def main() -> int:
    """Ask a network with and without its head, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=NAMES, default="physionet2012")
    name = parser.parse_args().model
    torch.set_num_threads(1)
    model = trained(name)
    cohort, run = open_cohort(model.cohort), read_run(model.run)
    asked, samples = samples_and_labels(cohort, "held_out", int(run.manifest["max_length"]))
    whole = logits(run.network, samples)
    with torch.no_grad():
        run.network.heads.weight.zero_()
    alone = logits(run.network, samples)
    auroc = macro(cohort, asked, {"whole": sigmoid(whole), "alone": sigmoid(alone)})
    Figure(
        name=f"compress.quality.{name}.network_auroc", value=auroc["whole"] - auroc["alone"], unit="AUROC",
        rival="without what the head adds", rival_value=auroc["alone"], count=len(samples), seeds=(0,),
        command=f"{COMMAND} --model {name}",
        note=f"macro {auroc['whole']:.4f} against {auroc['alone']:.4f}, logits of the network before calibration; the "
        f"head's part of them has a standard deviation of {float((whole - alone).std()):.4f}, the rest "
        f"{float(alone.std()):.4f}",
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
