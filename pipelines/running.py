"""What every verb that trains by Lightning shares: its settings from YAML, its folder, and quiet."""

import logging
import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import yaml
from jsonargparse import ArgumentError
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # pyright: ignore[reportPrivateImportUsage]

from pipelines import artefacts

CONFIG = "config.yaml"
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
    ".*returned a view tensor. An in-place op.*",
)


# What may be another machine's when a run goes on: batches and losses do not hang on it.
MACHINE = {
    "trainer": {"accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar"},
    "data": {"workers"},
    "model": {"compile", "activation_checkpointing"},
}


class Cli(LightningCLI):
    """LightningCLI with one seed for everything."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let the order and the noise follow seed_everything, and name the run's own settings."""
        parser.link_arguments("seed_everything", "data.seed")

    def before_instantiate_classes(self) -> None:
        """Refuse what Lightning would refuse in the middle of the first step.

        Raises:
            ValueError: its older FSDP was asked for.
        """
        strategy: Any = self.config.trainer.strategy
        if isinstance(strategy, str) and strategy.startswith("fsdp") and strategy != "fsdp2":
            raise ValueError(
                f"trainer.strategy is {strategy}, which cannot clip gradients by their norm; expected fsdp2 or ddp"
            )


def configured(
    module: type[lightning.LightningModule],
    data: type[lightning.LightningDataModule],
    config: Path,
    rest: Sequence[str],
) -> tuple[LightningCLI, str]:
    """Read the configuration and make what it describes; return it with the resolved text.

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
    return cli, cli.parser.dump(cli.config, skip_link_targets=True)


@contextmanager
def run_folder(output: Path, text: str, *, overwrite: bool) -> Generator[Path]:
    """Yield the run's folder under its partial name, with the settings in it; renamed when all is done.

    Raises:
        ValueError: an interrupted run of other settings stands there.
    """
    with artefacts.build(output, overwrite=overwrite, resume=True) as folder:
        refuse_other(folder, text)
        artefacts.write_bytes(folder / CONFIG, text.encode())
        yield folder


def refuse_other(folder: Path, text: str) -> None:
    """Refuse to go on from a run of other settings.

    Raises:
        ValueError: such a run was interrupted in this folder.
    """
    kept = folder / CONFIG
    if kept.is_file() and task_of(kept.read_text(encoding="utf-8")) != task_of(text):
        raise ValueError(
            f"{folder}: an interrupted run with other settings; give its settings to go on, or delete the folder"
        )


def task_of(text: str) -> dict[str, Any]:
    """Return settings in YAML without those of the machine."""
    content: dict[str, Any] = yaml.safe_load(text) or {}
    return {
        part: {key: value for key, value in held.items() if key not in MACHINE.get(part, ())}
        if isinstance(held, dict)
        else held
        for part, held in content.items()
    }


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
