"""PREDICTIONS: the table of probabilities, its file, and its form for meds-evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import events
from ehr.outcomes.registry import Registry

PREDICTIONS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "patient": pl.String(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "probability": pl.Float32(),
        "model": pl.String(),
    }
)
KEY = ("subject_id", "prediction_time", "outcome", "horizon_days")
MEDS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "boolean_value": pl.Boolean(),
        "predicted_boolean_value": pl.Boolean(),
        "predicted_boolean_probability": pl.Float64(),
    }
)


def tabulate(
    subject: npt.NDArray[np.int64],
    patient: pl.Series,
    prediction_time: npt.NDArray[np.int64],
    probability: npt.NDArray[np.floating[Any]],
    registry: Registry,
    *,
    model: str,
) -> pl.DataFrame:
    """Turn probabilities of samples into rows, sample by sample, outcomes and horizons in the registry's order.

    Args:
        subject: i64 [N].
        patient: the source's own id, str [N].
        prediction_time: microseconds since 1970, i64 [N].
        probability: f32 [N, K, H]; horizons that an outcome does not have are left out.
        registry: outcomes and horizons, the axes K and H.
        model: digest of the model.

    Returns:
        PREDICTIONS.
    """
    horizons = registry.horizons
    outcome, slot = np.nonzero(horizons >= 0)
    samples = len(subject)
    names = pl.Series(registry.names, dtype=pl.Enum(registry.names))
    rows = pl.DataFrame(
        {
            "subject_id": np.repeat(subject, len(outcome)),
            "patient": patient.cast(pl.String).gather(np.repeat(np.arange(samples), len(outcome))),
            "prediction_time": pl.Series(np.repeat(prediction_time, len(outcome))).cast(pl.Datetime("us")),
            "outcome": names.gather(np.tile(outcome, samples)).cast(pl.String),
            "horizon_days": np.tile(horizons[outcome, slot], samples).astype(np.int32),
            "probability": np.ascontiguousarray(probability[:, outcome, slot]).ravel().astype(np.float32),
        }
    )
    return rows.with_columns(pl.lit(model).alias("model")).select(PREDICTIONS.names())


def write(predictions: pl.DataFrame, path: Path) -> None:
    """Write a parquet file whole or not at all; equal frames give equal bytes.

    Raises:
        ValueError: the frame is no PREDICTIONS.
    """
    conform(predictions, path.name)
    events.write(predictions, path)


def read(path: Path) -> pl.DataFrame:
    """Read a file, or all parquet files of a folder in the order of their names.

    Raises:
        ValueError: there is none, one is damaged, or a column is missing or of another type.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{path}: holds no predictions; expected parquet files made by anamnesis score or evaluate")
    frames: list[pl.DataFrame] = []
    for file in files:
        try:
            frames.append(conform(pl.read_parquet(file), str(file)))
        except (pl.exceptions.PolarsError, OSError):
            raise ValueError(f"{file}: not a whole parquet file; copy it again") from None
    return pl.concat(frames)


def conform(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the columns of PREDICTIONS.

    Raises:
        ValueError: a column is missing or of another type.
    """
    for column, kind in PREDICTIONS.items():
        if column not in frame.columns:
            found = ", ".join(frame.columns)
            raise ValueError(f"{name}: no column {column}; found {found}; expected predictions of anamnesis")
        if frame.schema[column] != kind:
            raise ValueError(f"{name}: column {column} is {frame.schema[column]}; expected {kind}; convert it first")
    return frame.select(PREDICTIONS.names())


def to_meds(predictions: pl.DataFrame, labels: pl.DataFrame, folder: Path, *, threshold: float = 0.5) -> list[Path]:
    """Write predictions with their labels as meds-evaluation reads them, OUTCOME/HORIZON.parquet.

    Args:
        predictions: PREDICTIONS.
        labels: LABELS; samples that are censored or not labelled are left out, since that format has no null.
        folder: to be filled.
        threshold: of predicted_boolean_value.

    Returns:
        The files, sorted.
    """
    known = labels.filter(pl.col("boolean_value").is_not_null()).select(*KEY, "boolean_value")
    joined = predictions.join(known, on=KEY).with_columns(
        (pl.col("probability") >= threshold).alias("predicted_boolean_value"),
        pl.col("probability").cast(pl.Float64).alias("predicted_boolean_probability"),
    )
    written: list[Path] = []
    for (outcome, horizon), rows in joined.partition_by("outcome", "horizon_days", as_dict=True).items():
        path = folder / str(outcome) / f"{horizon}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        events.write(rows.sort("subject_id", "prediction_time").select(MEDS.names()), path)
        written.append(path)
    return sorted(written)
