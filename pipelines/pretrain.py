"""`anamnesis pretrain`: train the denoising encoder-decoder on a cohort."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from pipelines import artefacts, training
from pipelines.callbacks.weights import Best
from pipelines.cohort import open_cohort
from pipelines.data import PretrainingData, rates_of
from pipelines.modules import Pretraining
from pipelines.progress import say

EXAMPLES = """examples:
  anamnesis pretrain --config configs/pretrain.yaml --cohort cohort/ --output pretrained/
  anamnesis pretrain --config configs/pretrain.yaml --cohort cohort/ --output pretrained/ \\
      --trainer.max_epochs 3 --model.network.width 128 --trainer.precision bf16-mixed
  anamnesis pretrain --config configs/pretrain.yaml --cohort cohort/ --output pretrained/ \\
      --trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp
"""


def main(argv: Sequence[str]) -> int:
    """Pretrain; exit code 75 where a signal stopped it."""
    parser = training.parser("pretrain", "Train the denoising encoder-decoder on a cohort.", EXAMPLES)
    arguments, rest = parser.parse_known_args(argv)
    arguments.verb = "pretrain"
    cohort = open_cohort(arguments.cohort)
    made = training.settings(Pretraining, PretrainingData, arguments.config, rest)
    module, data = made.module, made.data
    assert isinstance(module, Pretraining)
    assert isinstance(data, PretrainingData)
    module.build(cohort.vocabulary, data.max_length)
    ahead = module.auxiliary.hazards > 0
    data.open(cohort, module.corruption, one_way=module.network.one_way, objective=module.objective, ahead=ahead)
    if ahead:
        module.network.hazards.set_rates(torch.from_numpy(rates_of(cohort)))
    if data.rules is not None:
        module.network.obey(data.rules)
    patients = len(data.train.lengths)
    say(f"pretrain: {patients:,} patients, {int(data.train.lengths.sum()):,} tokens, {cohort.vocabulary.size:,} codes")

    def finish(folder: Path) -> None:
        network = training.finished(made, folder)
        for name in ("vocabulary.json", "outcomes.yaml"):
            shutil.copyfile(cohort.path / name, folder / name)
        artefacts.write_manifest(
            folder,
            "run",
            stage="pretrain",
            cohort=artefacts.digest(cohort.path / artefacts.MANIFEST),
            vocabulary=cohort.vocabulary.digest,
            max_length=data.max_length,
            parameters=network.num_parameters(),
            patients=patients,
        )

    return training.train(made, arguments, partial(Best, monitor="tuning/loss", mode="min", patience=0), finish)
