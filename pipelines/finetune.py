"""`anamnesis finetune`: train the pretrained network for all outcomes at once, and calibrate it."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ehr import calibration
from ehr.model import Anamnesis
from pipelines import artefacts, digests, training, wide
from pipelines.callbacks.weights import Best
from pipelines.cohort import Cohort, open_cohort
from pipelines.data import FinetuningData, OutcomeSource, has_split
from pipelines.modules import Finetuning, new_network
from pipelines.predict import load_network, logits, probabilities
from pipelines.progress import say
from pipelines.samples import samples_and_labels, without_positives

EXAMPLES = """examples:
  anamnesis finetune --config configs/finetune.yaml --cohort cohort/ --pretrained pretrained/ --output tuned/
  anamnesis finetune --config configs/finetune.yaml --cohort cohort/ --pretrained pretrained/ --output tuned/ \\
      --trainer.max_epochs 5 --model.optimizer.learning_rate 5e-4
  anamnesis finetune --config configs/finetune.yaml --cohort cohort/ --output scratch/ --model.network.width 128
"""


def main(argv: Sequence[str]) -> int:
    """Fine-tune; exit code 75 where a signal stopped it."""
    parser = training.parser("finetune", "Train the pretrained network for all outcomes of a cohort.", EXAMPLES)
    parser.add_argument("--pretrained", type=Path, help="run of anamnesis pretrain; without it, from scratch")
    parser.add_argument(
        "--patience", type=int, default=5, help="validations without a better one; 0: go on (default: 5)"
    )
    arguments, rest = parser.parse_known_args(argv)
    arguments.verb = "finetune"
    cohort = open_cohort(arguments.cohort)
    if not cohort.registry.outcomes:
        raise ValueError(f"{cohort.path}: has no outcomes; prepare the cohort with --outcomes or --labels")
    made = training.settings(Finetuning, FinetuningData, arguments.config, rest)
    module, data = made.module, made.data
    assert isinstance(module, Finetuning)
    assert isinstance(data, FinetuningData)
    start, origin = starting_point(arguments.pretrained, module, cohort, data.max_length)
    data.max_length = start.config.max_tokens
    asked = data.open(cohort, share=start.one_way)
    module.build(start, cohort.vocabulary, cohort.registry, asked)
    disabled = without_positives(asked, cohort.registry.names)
    for name in disabled:
        say(f"note: outcome {name} has no positive label in the training split; it is not learnt")
    if module.summary:
        assert isinstance(data.train, OutcomeSource)
        wide.fit(module.network, data.train, data.tuning if isinstance(data.tuning, OutcomeSource) else None)
    questions = len(asked.subject)
    say(f"finetune: {questions:,} samples read in {len(data.train.lengths):,}, {len(cohort.registry.names)} outcomes")

    def finish(folder: Path) -> None:
        network = training.finished(made, folder)
        for name in ("vocabulary.json", "outcomes.yaml", "quality.json"):
            shutil.copyfile(cohort.path / name, folder / name)
        calibrate(network, cohort, folder)
        artefacts.write_manifest(
            folder,
            "run",
            stage="finetune",
            cohort=artefacts.digest(cohort.path / artefacts.MANIFEST),
            pretrained=origin,
            vocabulary=cohort.vocabulary.digest,
            max_length=data.max_length,
            parameters=network.num_parameters(),
            outcomes=list(cohort.registry.names),
            disabled=disabled,
            samples=questions,
        )

    best = partial(Best, monitor="tuning/auroc", mode="max", patience=arguments.patience)
    return training.train(made, arguments, best, finish)


def starting_point(run: Path | None, module: Finetuning, cohort: Cohort, max_length: int) -> tuple[Anamnesis, str]:
    """Return the network to start from, and the digest of the pretrained run's manifest ("" from scratch).

    Raises:
        ValueError: the run is not a pretrained one, or knows another vocabulary.
    """
    if run is None:
        if module.shape is None:
            raise ValueError(
                "--pretrained is missing; give a run of anamnesis pretrain, or model.network to start anew"
            )
        return new_network(module.shape, cohort.vocabulary, max_length), ""
    manifest = artefacts.read_manifest(run, "run")
    if manifest["vocabulary"] != cohort.vocabulary.digest:
        raise ValueError(
            f"{run}: was trained with another vocabulary than {cohort.path} has; prepare the cohort with "
            f"--vocabulary {run}/vocabulary.json"
        )
    return load_network(run), artefacts.digest(run / artefacts.MANIFEST)


def calibrate(network: Anamnesis, cohort: Cohort, folder: Path) -> None:
    """Fit the calibration on the split of that name and write calibration.json; and digest.json, for monitoring."""
    asked = answered = None
    if has_split(cohort, "calibration"):
        asked, samples = samples_and_labels(cohort, "calibration", network.config.max_tokens)
        logit, label = logits(network, samples), asked.label
    else:
        say("note: the cohort has no split calibration; probabilities stay as the network gives them")
        logit = np.zeros((0, *network.heads.bias.shape), dtype=np.float32)
        label = np.zeros_like(logit)
    fitted = calibration.fit(logit, label)
    artefacts.write_json(folder / "calibration.json", calibration.to_json(fitted))
    if asked is not None:
        answered = asked, calibration.apply(fitted, logit)
    ask = partial(probabilities, network, fitted)
    digests.write(folder / digests.FILE, digests.of_cohort(cohort, ask, network.config.max_tokens, answered))
