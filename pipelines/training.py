"""What both training verbs share: reading settings, the run's folder, training to its end or to a stop."""

import argparse
import logging
import math
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as lightning
import safetensors.torch
from jsonargparse import ArgumentError
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # pyright: ignore[reportPrivateImportUsage]
from transformers.utils.logging import disable_progress_bar

from ehr.model import Anamnesis
from pipelines import artefacts
from pipelines.callbacks.checkpoints import LAST, AtomicCheckpoints, Resume, Stopped
from pipelines.callbacks.curves import Curves
from pipelines.callbacks.progress import Progress
from pipelines.callbacks.weights import BEST, Best
from pipelines.data import PackedData
from pipelines.estimate import estimate
from pipelines.modules import Training
from pipelines.progress import say

STOPPED = 75
DEFAULTS: dict[str, Any] = {
    "max_epochs": 10,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "logger": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
# What Lightning says to everyone, whether it applies or not.
QUIET = (
    "(?s).*JSONARGPARSE_DEPRECATION.*",
    "(?s).*instantiate_classes.* was deprecated.*",
    ".*LightningCLI.s args parameter is intended.*",
    ".*does not have many workers.*",
    ".*no overlap in the fields.*",
    ".*smaller than the logging interval.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*torch.jit.*deprecated.*",
    ".*[Cc]heckpoint directory .* exists.*",
    ".*this process.* is multi-threaded, use of fork.*",
)


class Settings(NamedTuple):
    """What the command line and the configuration say, as objects."""

    module: Training
    data: PackedData
    trainer: lightning.Trainer
    seed: int
    text: str


class Cli(LightningCLI):
    """LightningCLI with one seed for everything."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let the order and the noise follow seed_everything, and name the run's own settings."""
        parser.link_arguments("seed_everything", "data.seed")


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
    if not config.is_file():
        raise ValueError(f"{config}: no such file; expected settings in YAML, such as those under configs/")
    try:
        with quiet():
            cli = Cli(
                module,
                data,
                run=False,
                args=["--config", str(config), *rest],
                save_config_callback=None,
                seed_everything_default=0,
                trainer_defaults=DEFAULTS,
                parser_kwargs={"exit_on_error": False, "dump_header": None},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
    except (ArgumentError, MisconfigurationException, TypeError) as error:
        raise ValueError(f"{config}: {' '.join(str(error).split())[:400]}; mend it there or in the command") from None
    if not isinstance(cli.config.seed_everything, int) or isinstance(cli.config.seed_everything, bool):
        raise ValueError(f"{config}: seed_everything is {cli.config.seed_everything}; expected a whole number")
    text = cli.parser.dump(cli.config, skip_link_targets=True)
    return Settings(cli.model, cli.datamodule, cli.trainer, cli.config.seed_everything, text)  # pyright: ignore[reportArgumentType]


@contextmanager
def run_folder(output: Path, made: Settings, *, overwrite: bool) -> Generator[Path]:
    """Yield the run's folder under its partial name; the first process renames it when all is done.

    Raises:
        ValueError: an interrupted run of other settings stands there.
    """
    if made.trainer.global_rank > 0:
        yield artefacts.partial(output)
        return
    with artefacts.build(output, overwrite=overwrite, resume=True) as folder:
        kept = folder / "config.yaml"
        if kept.is_file() and kept.read_text(encoding="utf-8") != made.text:
            raise ValueError(
                f"{folder}: an interrupted run with other settings; give its settings to go on, or delete the folder"
            )
        artefacts.write_bytes(kept, made.text.encode())
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
    if not arguments.no_estimate and trainer.is_global_zero:
        device = trainer.strategy.root_device.type
        for line in estimate(module, data, batches, timed=device == "cpu").lines(device):
            say(line)
    checkpoints = folder / "checkpoints"
    progress = Progress(arguments.verb, batches)
    trainer.callbacks += [progress, best, Resume(checkpoints, every=max(1, arguments.checkpoint_steps))]  # pyright: ignore[reportAttributeAccessIssue]
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
    if trainer.is_global_zero and progress.tokens:
        say(f"{progress.rate:,.0f} tokens a second")


@contextmanager
def quiet() -> Generator[None]:
    """Leave out what Lightning says to everyone."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings():
            for pattern in QUIET:
                warnings.filterwarnings("ignore", pattern)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def finished(made: Settings, folder: Path) -> Anamnesis:
    """Return the network with the best weights, in eval mode on the CPU, and save it as model/."""
    network = made.module.network.cpu().eval()
    best = folder / "checkpoints" / BEST
    if best.is_file():
        network.load_state_dict(safetensors.torch.load(best.read_bytes()))
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
    try:
        with run_folder(arguments.output, made, overwrite=arguments.overwrite) as folder:
            fit(made, folder, arguments, best(folder / "checkpoints"))
            if made.trainer.is_global_zero:
                finish(folder)
    except Stopped:
        # What is done stays under the partial name.
        say(f"stopped at step {made.trainer.global_step:,}; run the same command again to go on")
        return STOPPED
    if made.trainer.is_global_zero:
        say(f"wrote {arguments.output}")
    return 0
