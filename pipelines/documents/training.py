"""`anamnesis documents train`: fine-tune an encoder for all questions of a corpus, or a reader a question."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as lightning
import safetensors.torch
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # pyright: ignore[reportPrivateImportUsage]

from pipelines import artefacts, running
from pipelines.callbacks.checkpoints import LAST, AtomicCheckpoints, Resume, Stopped
from pipelines.callbacks.curves import Curves
from pipelines.callbacks.weights import BEST, Best
from pipelines.documents import temperature
from pipelines.documents.batches import Collator, Words
from pipelines.documents.catalogue import Catalogue, checked
from pipelines.documents.chunks import Window
from pipelines.documents.corpus import TRAIN, TUNING, Corpus, open_corpus, rows_of, write_catalogue
from pipelines.documents.model import DocumentReader, new_encoder, save
from pipelines.documents.modules import DocumentData, ReaderTraining, Step
from pipelines.documents.passages import gather
from pipelines.documents.reading import answers
from pipelines.documents.temperature import Calibration
from pipelines.documents.tokens import FILE as TOKENIZER
from pipelines.documents.tokens import Tokens, of_words
from pipelines.progress import Track, say

EXAMPLES = """examples:
  anamnesis documents train --config configs/documents/documents.yaml --corpus corpus/ --output run/
  anamnesis documents train --config configs/documents/maud.yaml --corpus corpus/ --output run/ \\
      --model.encoder encoder/ --trainer.max_epochs 4
  anamnesis documents train --config configs/documents/maud.yaml --corpus corpus/ --output runs/ --single --shard 3/16
"""
STOPPED = 75


class Made(NamedTuple):
    """What command line and configuration describe."""

    module: ReaderTraining
    data: DocumentData
    trainer: lightning.Trainer
    seed: int
    text: str


class Progress(lightning.Callback):
    """A bar on a terminal, a line every ten seconds in a log."""

    def __init__(self, label: str, total: int) -> None:
        """Set up; `total` counts batches."""
        self.track, self.total = Track(label, total), total

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Show the bar, at where training stands."""
        self.track.__enter__()
        self.track.advance(trainer.fit_loop.epoch_loop.total_batch_idx + 1)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ANN401, ARG002
        batch: Step,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count."""
        self.track.advance()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Close the bar."""
        self.track.__exit__(None, None, None)


def settings(config: Path, rest: Sequence[str]) -> Made:
    """Read the configuration and make what it describes.

    Raises:
        ValueError: a key or a value is not known, or two do not go together.
    """
    cli, text = running.configured(ReaderTraining, DocumentData, config, rest)
    made = Made(cli.model, cli.datamodule, cli.trainer, cli.config.seed_everything, text)  # pyright: ignore[reportArgumentType]
    made.module.by = made.data.sampling.by
    if made.module.last_only and made.module.by != "tasks":
        raise ValueError("model.legacy_last_task_loss is of training by questions; set data.sampling.by to tasks")
    if made.module.shape.pooling == "first_token" and made.data.window.max_chunks != 1:
        raise ValueError("model.reader.pooling first_token reads one window; set data.window.max_chunks to 1")
    if made.trainer.world_size > 1:
        raise ValueError(f"trainer.devices: {made.trainer.world_size} processes; documents train on one device")
    return made


def tokenizer(module: ReaderTraining, data: DocumentData, texts: Sequence[str]) -> Tokens:
    """Return the encoder's own tokenizer, or one of the words of the training texts."""
    return Tokens.load(module.source) if module.source else of_words(texts, data.words)


def words_of(catalogue: Catalogue, tokens: Tokens) -> Words:
    """Return a catalogue in words; a sub-question is asked in its own."""
    named = [
        question.question if not question.multi else f"{question.question} {question.subquestion}"
        for question in catalogue.questions
    ]
    return Words(named, [question.options for question in catalogue.questions], tokens)


def build(made: Made, corpus: Corpus) -> Tokens:
    """Open the corpus for training and make the network; weights follow the global seed.

    Raises:
        ValueError: nothing is left to train on, or the encoder does not fit.
    """
    module, data = made.module, made.data
    choice: dict[str, Any] = {"data_types": data.data_types, "share": data.share, "seed": made.seed}
    rows = rows_of(corpus.documents, corpus.catalogue, TRAIN, **choice)
    if not len(rows.text):
        raise ValueError(f"{corpus.path}: no labelled rows in split {TRAIN} with data.data_types; nothing to train on")
    held = rows_of(corpus.documents, corpus.catalogue, TUNING)
    tokens = tokenizer(module, data, list(dict.fromkeys(rows.text)))
    options = corpus.catalogue.num_options.tolist()
    words = words_of(corpus.catalogue, tokens) if module.shape.head == "description" else None
    train = Collator(gather(rows, tokens), tokens, data.window, options, words)
    tuning = Collator(gather(held, tokens), tokens, data.window, options, words) if len(held.text) else None
    data.open(train, tuning)
    lightning.seed_everything(made.seed, verbose=False)
    encoder = new_encoder(module.source, module.config, tokens.size, data.window.length)
    module.network = DocumentReader(encoder, module.shape, len(options), max(options))
    module.kinds = kinds_of(corpus.catalogue)
    cut = sum(windows == data.window.max_chunks for windows, _ in data.shapes(train))
    whole = len(train.passages.texts)
    say(f"train: {len(rows.text):,} answers on {whole:,} passages, {len(options)} questions")
    if cut:
        over = sum(longer(train, at) for at in range(whole))
        if over:
            say(f"note: {over:,} of {whole:,} passages ({over / whole:.1%}) are cut at data.window.max_chunks")
    return tokens


def kinds_of(catalogue: Catalogue) -> torch.Tensor:
    """Return the number of the text type of each question, i64 [T]."""
    number = {kind: at for at, kind in enumerate(catalogue.text_types)}
    return torch.tensor([number[question.text_type] for question in catalogue.questions])


def longer(collator: Collator, at: int) -> bool:
    """Tell whether a passage has more windows than training reads."""
    window = collator.window
    content = window.length - len(collator.tokens.first) - len(collator.tokens.last)
    most = content + ((window.max_chunks or 1) - 1) * (content - window.overlap)
    return window.max_chunks is not None and len(collator.passages.texts[at].token) > most


def batches_of(made: Made) -> int:
    """Return the batches of all epochs."""
    trainer = made.trainer
    number = sum(1 for _ in made.data.layouts(0))
    if isinstance(trainer.limit_train_batches, int):
        number = min(number, trainer.limit_train_batches)
    total = number * trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
    if trainer.max_steps > 0:
        total = min(total, trainer.max_steps * trainer.accumulate_grad_batches)
    if total == math.inf:
        raise ValueError("trainer.max_epochs and trainer.max_steps are both without end; set one of them")
    return int(total)


def fit(made: Made, folder: Path, *, every: int, patience: int, label: str = "train") -> None:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        made: with network and data.
        folder: of the run, under its partial name.
        every: steps between checkpoints.
        patience: validations without a better one; 0: go on.
        label: of the progress.

    Raises:
        Stopped: a signal stopped training; running again goes on.
    """
    trainer, module, data = made.trainer, made.module, made.data
    total = batches_of(made)
    module.seed, module.steps = made.seed, max(1, math.ceil(total / trainer.accumulate_grad_batches))
    checkpoints = folder / "checkpoints"
    best = Best(checkpoints, monitor="tuning/loss", mode="min", patience=patience)
    trainer.callbacks += [Progress(label, total), Resume(checkpoints, every=max(1, every))]  # pyright: ignore[reportAttributeAccessIssue]
    trainer.strategy.checkpoint_io = AtomicCheckpoints()
    curves = Curves(folder)
    trainer.loggers = [curves, *trainer.loggers]
    if data.tuning is None:
        say(f"note: the corpus has no split {TUNING}; the last weights are kept, not the best")
        trainer.limit_val_batches = 0
    else:
        trainer.callbacks.append(best)  # pyright: ignore[reportAttributeAccessIssue]
    last = checkpoints / LAST
    resumed = last if last.is_file() else None
    if resumed:
        step = AtomicCheckpoints().load_checkpoint(resumed)["global_step"]
        say(f"going on from step {step:,}")
        curves.rewind(step)
    try:
        with running.quiet():
            trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())[:300]}") from None
    module.network = module.network.cpu().eval()
    if (checkpoints / BEST).is_file():
        module.network.load_state_dict(safetensors.torch.load((checkpoints / BEST).read_bytes()))


def calibrate(made: Made, *, target: float) -> Calibration:
    """Fit temperatures and the threshold on the tuning split, every passage read whole."""
    held = made.data.tuning
    questions = made.module.network.questions
    if held is None:
        return temperature.fit(np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0, np.int64), questions, target=target)
    found = answers(made.module.network, uncapped(held, made.module), positions=made.data.sampling.positions)
    own = held.passages
    return temperature.fit(found.logits, own.task, own.label, questions, target=target)


def uncapped(collator: Collator, module: ReaderTraining) -> Collator:
    """Return the same passages without a limit of windows, but for a reader of one window."""
    window = collator.window
    if module.shape.pooling == "question":
        window = Window(length=window.length, overlap=window.overlap, max_chunks=None)
    return Collator(collator.passages, collator.tokens, window, collator.num_options.tolist(), collator.words)


def finish(made: Made, corpus: Corpus, tokens: Tokens, folder: Path, *, target: float) -> None:
    """Write what belongs to the run beside the curves, the manifest last."""
    module, data = made.module, made.data
    save(module.network, folder / "model")
    tokens.save(folder)
    write_catalogue(corpus.catalogue, folder)
    artefacts.write_json(folder / "calibration.json", calibrate(made, target=target).to_json())
    artefacts.write_manifest(
        folder,
        "reader",
        corpus=artefacts.digest(corpus.path / artefacts.MANIFEST),
        catalogue=corpus.catalogue.digest,
        tokenizer=artefacts.digest(folder / TOKENIZER),
        questions=len(corpus.catalogue.questions),
        options=module.network.options,
        window={"length": data.window.length, "overlap": data.window.overlap},
        truncating=module.shape.pooling == "first_token",
        parameters=sum(parameter.numel() for parameter in module.network.parameters()),
        answers=len(data.train.passages.label),
        passages=len(data.train.passages.texts),
    )


def train(config: Path, rest: Sequence[str], corpus: Corpus, output: Path, **options: Any) -> int:  # noqa: ANN401
    """Train one reader; return the exit code.

    Args:
        config: settings in YAML.
        rest: settings in the command.
        corpus: opened.
        output: run to be made.
        options: overwrite, every (steps between checkpoints), patience, target and label.
    """
    made = settings(config, rest)
    try:
        with running.run_folder(output, made.text, overwrite=options["overwrite"]) as folder:
            tokens = build(made, corpus)
            fit(made, folder, every=options["every"], patience=options["patience"], label=options["label"])
            finish(made, corpus, tokens, folder, target=options["target"])
    except Stopped:
        say(f"stopped at step {made.trainer.global_step:,}; run the same command again to go on")
        return STOPPED
    say(f"wrote {output}")
    return 0


def single(given: argparse.Namespace, rest: Sequence[str], corpus: Corpus, options: dict[str, Any]) -> int:
    """Train a reader a question, those of one shard; what is done is not done again."""
    shard, of = shard_of(given.shard)
    for at, question in enumerate(corpus.catalogue.questions):
        folder = given.output / f"{at:03d}-{question.id}".replace("/", "_")
        if at % of != shard or (folder / artefacts.MANIFEST).is_file():
            continue
        own = corpus._replace(
            catalogue=checked([question]),
            documents=corpus.documents.filter(corpus.documents["id"] == question.id),
        )
        if code := train(given.config, rest, own, folder, **{**options, "label": f"train {question.id}"}):
            return code
    return 0


def shard_of(text: str) -> tuple[int, int]:
    """Return I and N of `I/N`.

    Raises:
        ValueError: it is not of that form, or I is not below N.
    """
    head, _, tail = text.partition("/")
    if not (head.isdigit() and tail.isdigit() and int(head) < int(tail)):
        raise ValueError(f"--shard {text}: expected I/N with I from 0 to N - 1, such as 0/16")
    return int(head), int(tail)


def parser() -> argparse.ArgumentParser:
    """Return the command's own arguments; what it does not know goes to Lightning."""
    made = argparse.ArgumentParser(
        "anamnesis documents train",
        description=f"{__doc__} Any key of the configuration can be given here too, as --model.KEY, --data.KEY or "
        "--trainer.KEY. Run again after an interruption, the same command goes on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--config", type=Path, required=True, help="settings, such as configs/documents/documents.yaml")
    made.add_argument("--corpus", type=Path, required=True, help="what anamnesis documents prepare made")
    made.add_argument("--output", type=Path, required=True, help="run to be made")
    made.add_argument("--single", action="store_true", help="a reader a question, in folders under the output")
    made.add_argument("--shard", default="0/1", help="with --single: the questions of shard I of N (default: 0/1)")
    made.add_argument(
        "--target", type=float, default=0.9, help="accuracy that answers given should reach; else abstain"
    )
    made.add_argument("--patience", type=int, default=5, help="validations without a better one; 0: go on (default: 5)")
    made.add_argument("--checkpoint-steps", type=int, default=100, help="steps between checkpoints (default: 100)")
    made.add_argument("--overwrite", action="store_true", help="replace a run that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Train; exit code 75 where a signal stopped it."""
    given, rest = parser().parse_known_args(argv)
    if not 0 < given.target <= 1:
        raise ValueError(f"--target is {given.target}; expected above 0, at most 1")
    corpus = open_corpus(given.corpus)
    options = {
        "overwrite": given.overwrite,
        "every": given.checkpoint_steps,
        "patience": given.patience,
        "target": given.target,
        "label": "train",
    }
    if given.single:
        return single(given, rest, corpus, options)
    return train(given.config, rest, corpus, given.output, **options)
