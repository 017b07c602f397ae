"""What both training verbs share: reading settings, the run's folder, training to its end or to a stop."""

import argparse
import math
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as lightning
import safetensors.torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # pyright: ignore[reportPrivateImportUsage]
from transformers.utils.logging import disable_progress_bar

from ehr.model import Anamnesis
from pipelines import artefacts, running, sharding
from pipelines.acceleration import keep_little
from pipelines.callbacks.checkpoints import LAST, AtomicCheckpoints, Resume, Stopped
from pipelines.callbacks.curves import Curves
from pipelines.callbacks.progress import Progress
from pipelines.callbacks.speed import Speed
from pipelines.callbacks.weights import BEST, Best
from pipelines.data import PackedData
from pipelines.estimate import estimate
from pipelines.modules import Training
from pipelines.progress import say
from pipelines.running import quiet

STOPPED = 75


class Settings(NamedTuple):
    """What the command line and the configuration say, as objects."""

    module: Training
    data: PackedData
    trainer: lightning.Trainer
    seed: int
    text: str


def parser(verb: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Return the parser of a training verb's own arguments; what it does not know goes to Lightning."""
    found = argparse.ArgumentParser(
        f"anamnesis {verb}",
        description=f"{description} Any key of the configuration can be given here too, as --model.KEY, --data.KEY or "
        "--trainer.KEY (all of Lightning's Trainer). Run again after an interruption, the same command goes on.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("--config", type=Path, required=True, help=f"settings in YAML, such as configs/{verb}.yaml")
    found.add_argument("--cohort", type=Path, required=True, help="what anamnesis prepare made")
    found.add_argument("--output", type=Path, required=True, help="run to be made")
    found.add_argument("--overwrite", action="store_true", help="replace a run that stands there")
    found.add_argument("--checkpoint-steps", type=int, default=100, help="steps between checkpoints (default: 100)")
    found.add_argument("--no-estimate", action="store_true", help="do not measure memory and time on the first batch")
    return found


def settings(module: type[Training], data: type[PackedData], config: Path, rest: Sequence[str]) -> Settings:
    """Read the configuration and make what it describes.

    Raises:
        ValueError: a key or a value is not known.
    """
    sharding.register()
    cli, text = running.configured(module, data, config, rest)
    return Settings(cli.model, cli.datamodule, cli.trainer, cli.config.seed_everything, text)  # pyright: ignore[reportArgumentType]


@contextmanager
def run_folder(output: Path, made: Settings, *, overwrite: bool) -> Generator[Path]:
    """Yield the run's folder under its partial name; the first process renames it when all is done.

    Every process looks at the settings by itself: one that went on alone would wait for the others for long.

    Raises:
        ValueError: an interrupted run of other settings stands there.
    """
    if made.trainer.global_rank > 0:
        running.refuse_other(artefacts.partial(output), made.text)
        yield artefacts.partial(output)
        return
    with running.run_folder(output, made.text, overwrite=overwrite) as folder:
        yield folder


def batches_of(made: Settings) -> int:
    """Return the batches of all epochs, from the plan of the first."""
    trainer = made.trainer
    count = sum(1 for _ in made.data.places(made.data.train).layouts(0))
    if isinstance(trainer.limit_train_batches, int):
        count = min(count, trainer.limit_train_batches)
    total = count * trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf
    if trainer.max_steps > 0:
        total = min(total, trainer.max_steps * trainer.accumulate_grad_batches)
    if total == math.inf:
        raise ValueError("trainer.max_epochs and trainer.max_steps are both without end; set one of them")
    return int(total)


def fit(made: Settings, folder: Path, arguments: argparse.Namespace, best: Best) -> None:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        made: module, data and trainer; data is open and the network built.
        folder: of the run, under its partial name.
        arguments: of the verb.
        best: keeps the best weights.

    Raises:
        Stopped: a signal stopped training; running again goes on.
    """
    trainer, module, data = made.trainer, made.module, made.data
    batches = batches_of(made)
    module.seed, module.steps = made.seed, max(1, math.ceil(batches / trainer.accumulate_grad_batches))
    if module.keeps_little:
        keep_little(module.network)
    if not arguments.no_estimate and trainer.is_global_zero:
        device = trainer.strategy.root_device.type
        for line in estimate(module, data, batches, timed=device == "cpu").lines(device):
            say(line)
    checkpoints = folder / "checkpoints"
    speed = Speed(every=int(trainer.log_every_n_steps))  # pyright: ignore[reportAttributeAccessIssue]
    resume = Resume(checkpoints, every=max(1, arguments.checkpoint_steps))
    trainer.callbacks += [Progress(arguments.verb, batches, speed), best, resume, speed]  # pyright: ignore[reportAttributeAccessIssue]
    trainer.strategy.checkpoint_io = AtomicCheckpoints()
    curves = Curves(folder)
    if trainer.is_global_zero:
        trainer.loggers = [curves, TensorBoardLogger(folder, name="tensorboard", version=""), *trainer.loggers]
    if data.tuning is None:
        say("note: the cohort has no split tuning; the last weights are kept, not the best")
        trainer.limit_val_batches = 0
    last = checkpoints / LAST
    resumed = last if last.is_file() else None
    if resumed and trainer.is_global_zero:
        step = AtomicCheckpoints().load_checkpoint(resumed)["global_step"]
        say(f"going on from step {step:,}")
        curves.rewind(step)
    try:
        with quiet():
            trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())[:300]}") from None
    if trainer.is_global_zero and speed.line:
        say(speed.line)


def finished(made: Settings, folder: Path) -> Anamnesis:
    """Return a network with the best weights, in eval mode on the CPU, and save it as model/."""
    # Anew: what was trained may be compiled, and divided over processes.
    network = Anamnesis(made.module.network.config).eval()
    network.load_state_dict(safetensors.torch.load((folder / "checkpoints" / BEST).read_bytes()))
    disable_progress_bar()
    network.save_pretrained(folder / "model")
    return network


def train(
    made: Settings,
    arguments: argparse.Namespace,
    best: Callable[[Path], Best],
    finish: Callable[[Path], None],
) -> int:
    """Train in the run's folder and finish it; return the exit code.

    Args:
        made: module, data and trainer, ready.
        arguments: of the verb.
        best: makes the callback that keeps the best weights in a folder.
        finish: writes what belongs to the run beside the weights, the manifest last.
    """
    first, dry = made.trainer.is_global_zero, bool(getattr(made.trainer, "fast_dev_run", False))
    target = arguments.output.with_name(f".{arguments.output.name}.dry") if dry else arguments.output
    artefacts.refuse_existing(arguments.output, overwrite=arguments.overwrite)
    try:
        with run_folder(target, made, overwrite=arguments.overwrite) as folder:
            fit(made, folder, arguments, best(folder / "checkpoints"))
            if first:
                finish(folder)
    except Stopped:
        # What is done stays under the partial name.
        if first:
            say(f"stopped at step {made.trainer.global_step:,}; run the same command again to go on")
        # A launcher that sees one process fail kills the others, which may still be ending.
        return STOPPED if first else 0
    finally:
        if dry and first:
            for left in (target, artefacts.partial(target)):
                shutil.rmtree(left, ignore_errors=True)
    if first:
        say("dry run: these settings train to the end; nothing was kept" if dry else f"wrote {arguments.output}")
    return 0
