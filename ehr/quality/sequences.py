"""Gates on what was made of the records: timelines, labels and predictions, counted without Great Expectations."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.quality.thresholds import Measure

Ints = npt.NDArray[np.int64]
SAMPLE = ("subject_id", "prediction_time")


class Sequences(NamedTuple):
    """Counts of one shard of timelines and its labels; shards add up (`total`)."""

    events: int = 0
    unknown_codes: int = 0
    patients: int = 0
    empty_patients: int = 0
    long_patients: int = 0
    tokens: int = 0
    visits_fall: int = 0
    times_fall: int = 0
    samples: int = 0
    label_before_input: int = 0
    labels: int = 0
    event_before_prediction: int = 0


# What each gate's count is a share of.
OF = {
    "unknown_codes": "events",
    "empty_patients": "patients",
    "long_patients": "patients",
    "visits_fall": "tokens",
    "times_fall": "tokens",
    "label_before_input": "samples",
    "event_before_prediction": "labels",
}
# Those that hang on the labels alone.
LABEL_GATES = ("label_before_input", "event_before_prediction")


def total(shards: Iterable[Sequences]) -> Sequences:
    """Add up shards."""
    rows = list(shards)
    return Sequences(*(sum(column) for column in zip(*rows, strict=True))) if rows else Sequences()


def measures(shards: Iterable[Sequences]) -> dict[str, Measure]:
    """Return for each gate how many, of how many."""
    found = total(shards)._asdict()
    return {gate: Measure(found[gate], found[of]) for gate, of in OF.items()}


def measure_timelines(
    offsets: Ints, visit: npt.NDArray[np.int32], time: Ints, *, longest_tokens: int
) -> dict[str, int]:
    """Count in one shard of timelines.

    Args:
        offsets: first token of each patient, and the end, i64 [P + 1].
        visit: visit number by token, i32 [N].
        time: microseconds since 1970 by token, i64 [N].
        longest_tokens: more tokens make a patient a long one.

    Returns:
        patients, empty_patients, long_patients, tokens, visits_fall, times_fall.
    """
    lengths = np.diff(offsets)
    inside = np.ones(max(len(visit) - 1, 0), dtype=bool)
    starts = offsets[1:-1]
    inside[starts[(starts > 0) & (starts < len(visit))] - 1] = False
    return {
        "patients": len(lengths),
        "empty_patients": int((lengths == 0).sum()),
        "long_patients": int((lengths > longest_tokens).sum()),
        "tokens": int(lengths.sum()),
        "visits_fall": int(((visit[1:] < visit[:-1]) & inside).sum()),
        "times_fall": int(((time[1:] < time[:-1]) & inside).sum()),
    }


def measure_labels(labels: pl.DataFrame, events: pl.DataFrame) -> dict[str, int]:
    """Count in the labels of one shard.

    Args:
        labels: LABELS.
        events: EVENTS of the same subjects.

    Returns:
        samples, label_before_input, labels, event_before_prediction.
    """
    if labels.is_empty():
        return {"samples": 0, "label_before_input": 0, "labels": 0, "event_before_prediction": 0}
    first = events.lazy().filter(pl.col("time").is_not_null()).group_by("subject_id").agg(pl.col("time").min())
    samples = labels.lazy().select(SAMPLE).unique()
    early = samples.join(first, on="subject_id", how="left").filter(
        pl.col("time").is_null() | (pl.col("time") > pl.col("prediction_time"))
    )
    positive = pl.col("boolean_value").fill_null(value=False)
    return {
        "samples": int(samples.select(pl.len()).collect().item()),
        "label_before_input": int(early.select(pl.len()).collect().item()),
        "labels": len(labels),
        "event_before_prediction": int(labels.select((positive & (pl.col("time_to_event_days") <= 0)).sum()).item()),
    }


def measure_predictions(predictions: pl.DataFrame) -> dict[str, Measure]:
    """Count in predictions.

    Args:
        predictions: PREDICTIONS: subject_id, prediction_time, outcome, horizon_days, probability.
    """
    rows = len(predictions)
    probability = pl.col("probability")
    unusable = probability.is_null() | probability.is_nan()
    outside = ((probability < 0) | (probability > 1)) & ~unusable
    one = (*SAMPLE, "outcome")
    by_horizon = predictions.lazy().filter(~unusable).sort(*one, "horizon_days")
    # Calibration is in float32: a last bit is no fall.
    falls = by_horizon.select((probability.diff().over(one) < -1e-6).sum())
    return {
        "null_probability": Measure(int(predictions.select(unusable.sum()).item()), rows),
        "outside_unit_interval": Measure(int(predictions.select(outside.sum()).item()), rows),
        "repeated": Measure(rows - predictions.select(*one, "horizon_days").n_unique(), rows),
        "falls_with_horizon": Measure(int(falls.collect().item()), rows),
    }
