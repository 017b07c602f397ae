"""Learning curves as a table."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from pipelines.artefacts import write_bytes

CURVES = "metrics.csv"


class Curves(Logger):
    """Learning curves as a table: step, epoch, metric, value. Holds no time of day, so equal runs have equal rows."""

    def __init__(self, folder: Path) -> None:
        """Set up."""
        super().__init__()
        self.path = folder / CURVES

    @property
    def name(self) -> str:
        """Name for Lightning."""
        return "curves"

    @property
    def version(self) -> str:
        """Version for Lightning."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Lightning's signature
        """Settings stand in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append rows."""
        epoch = int(metrics.get("epoch", 0))
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            if new:
                rows.writerow(("step", "epoch", "metric", "value"))
            rows.writerows(
                (step, epoch, name, f"{value:.9g}") for name, value in sorted(metrics.items()) if name != "epoch"
            )

    def rewind(self, step: int) -> None:
        """Drop rows at or behind a step, which training is about to write again, and a line cut short."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",", 1)[0]) < step]
        write_bytes(self.path, "".join([*lines[:1], *kept]).encode())
