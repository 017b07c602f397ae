"""Reading a cohort: what prepare left on disk."""

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ehr.outcomes.labels import LABELS
from ehr.outcomes.registry import Registry, dump, load
from ehr.timelines import Timelines
from ehr.vocabulary import Vocabulary
from pipelines.artefacts import read_manifest


class Cohort(NamedTuple):
    """A cohort on disk, opened: nothing of its size is in memory yet."""

    path: Path
    manifest: dict[str, Any]
    vocabulary: Vocabulary
    registry: Registry

    @property
    def shards(self) -> list[str]:
        """Names of shards in order."""
        return [f"{i:05d}" for i in range(self.manifest["shards"])]


def open_cohort(path: Path) -> Cohort:
    """Open a cohort.

    Raises:
        ValueError: the folder is not a whole cohort.
    """
    manifest = read_manifest(path, "cohort")
    return Cohort(path, manifest, Vocabulary.load(path / "vocabulary.json"), registry(path / "outcomes.yaml"))


def registry(path: Path) -> Registry:
    """Read a cohort's outcomes: none, where it was prepared to pretrain on alone (a user's own file has one at least).

    Raises:
        ValueError: it is damaged.
    """
    none = Registry(())
    return none if path.is_file() and path.read_bytes() == dump(none).encode() else load(path)


def timelines(cohort: Cohort) -> Timelines:
    """Memory-map the timelines."""
    return Timelines.open([cohort.path / "timelines" / f"{name}.arrow" for name in cohort.shards])


def splits(cohort: Cohort) -> pl.DataFrame:
    """Return subject_id and split, sorted by subject."""
    return pl.read_parquet(cohort.path / "splits.parquet")


def events(cohort: Cohort) -> list[pl.LazyFrame]:
    """Return the checked events, one lazy frame a shard."""
    return [pl.scan_parquet(cohort.path / "events" / f"{name}.parquet") for name in cohort.shards]


def labels(cohort: Cohort, split: str | None = None) -> pl.DataFrame:
    """Return LABELS of a split, or of all, sorted by subject, time, outcome and horizon.

    Raises:
        ValueError: the cohort has no such split.
    """
    files = [cohort.path / "labels" / f"{name}.parquet" for name in cohort.shards]
    frame = pl.concat([pl.scan_parquet(file) for file in files]) if files else pl.LazyFrame(schema=LABELS)
    if split is not None:
        held = splits(cohort)
        if split not in held["split"].unique():
            known = ", ".join(held["split"].unique().sort())
            raise ValueError(f"{cohort.path}: no split {split}; expected one of {known}")
        subjects = held.filter(pl.col("split") == split).lazy().select("subject_id")
        frame = frame.join(subjects, on="subject_id", how="semi")
    place = pl.col("outcome").replace_strict(
        list(cohort.registry.names), list(range(len(cohort.registry.names))), return_dtype=pl.Int32
    )
    return frame.sort("subject_id", "prediction_time", place, "horizon_days").collect()
