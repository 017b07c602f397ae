"""From one patient's records to what the model is asked, by the steps and the gates of `anamnesis score`, and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import predictions
from ehr.quality.profile import measures
from ehr.quality.sequences import measure_predictions
from ehr.quality.thresholds import Measure, hold
from ehr.timelines import Sample
from pipelines import moments, scoring
from pipelines.moments import LATEST, Moments
from pipelines.release import Release
from pipelines.serve.records import Records
from pipelines.serve.refusals import Refusal

NAME = "records"
"""What messages call the records of a request."""
FARTHEST = 7_000 * 365 * 86_400_000_000
"""Later times have no end of a window that a calendar of four digits can tell."""
Floats = npt.NDArray[np.float32]


class Question(NamedTuple):
    """What the model is asked about one patient.

    Attributes:
        sample: what it reads; None where the patient cannot be scored.
        reason: why not, None where it can.
        patient: the source's own id.
        subject: the same as a number.
        codes: events whose code the model may read.
        unknown: of those, the ones whose code it does not know.
        rejected: rows that could not be used: number and reason.
        found: what the gates on records and codes found.
    """

    sample: Sample | None
    reason: str | None
    patient: str
    subject: int
    codes: int
    unknown: int
    rejected: tuple[tuple[int, str], ...]
    found: Mapping[str, Measure]


def moment_of(text: str | None) -> Moments:
    """Return when a patient is scored: at the last event where nothing is stated.

    Raises:
        Refusal: 400, it is neither `latest` nor a date or time.
    """
    if text is None or text == LATEST:
        return Moments(LATEST)
    try:
        time = moments.parse(text)
    except (OverflowError, OSError):
        time = None
    if time is None or time > FARTHEST:
        raise Refusal(400, "at is no time that can be used; expected latest, or a date or time in ISO 8601")
    return Moments(text, time=time)


def ask(records: Records, when: Moments, release: Release) -> Question:
    """Return what the model is asked, and what the gates found, which are yet to be held (see `hold_gates`).

    Args:
        records: of one patient.
        when: at the last event, or at a time.
        release: opened.
    """
    thresholds = release.thresholds
    now = thresholds.end_of_now(records.format)
    held = scoring.gather(records.events, when, release, thresholds, name=NAME, now=now)
    codes, unknown = release.vocabulary.count_unknown(held.sifted.events["code"])
    found = {**measures(held.sifted.profile, held.sifted.rejected), "unknown_codes": Measure(unknown, codes)}
    reason = None if held.samples else scoring.NO_USABLE_ROW.split(" (")[0]
    if held.unscored:
        reason = held.unscored[0][2].split(" (")[0]
    rejected = tuple((int(row), str(why)) for _, row, why in held.sifted.rejected.iter_rows())
    subject = int(records.events["subject_id"].drop_nulls()[0])
    sample = held.samples[0] if held.samples else None
    return Question(sample, reason, records.patient, subject, codes, unknown, rejected, found)


def hold_gates(found: Mapping[str, Measure], release: Release) -> None:
    """Refuse what the release's thresholds do not bear.

    Raises:
        Refusal: 422, the gates that do not hold, with numbers of rows and never a value.
    """
    failed = hold(found, release.thresholds)
    if failed:
        first, *others = failed
        more = f"; neither hold {', '.join(gate.expectation for gate in others)}" if others else ""
        raise Refusal(
            422,
            f"gate {first.expectation}: {first.found:,} found, a share of {first.share:.2g} where {first.bound:.2g} "
            f"is borne{more}; mend the records",
        )


def scored(question: Question, probability: Floats, release: Release) -> pl.DataFrame:
    """Return the PREDICTIONS of one patient; the gates on predictions are held.

    Args:
        question: with a sample.
        probability: f32 [K, H].
        release: opened.

    Raises:
        Refusal: 422, a gate does not hold.
    """
    assert question.sample is not None
    table = predictions.tabulate(
        np.array([question.subject], dtype=np.int64),
        pl.Series([question.patient]),
        np.array([question.sample.prediction_time], dtype=np.int64),
        probability[None],
        release.registry,
        model=release.model,
    )
    hold_gates(measure_predictions(table), release)
    return table


def shown(question: Question, table: pl.DataFrame, release: Release) -> dict[str, Any]:
    """Return an answer as JSON shows it; probabilities are those of float32, to the last bit.

    Args:
        question: what was asked.
        table: PREDICTIONS of one patient.
        release: opened.
    """
    return {
        "model": release.model,
        "patient": question.patient,
        "subject_id": question.subject,
        "prediction_time": iso(table["prediction_time"].to_physical()[0]),
        "codes": {"read": question.codes, "unknown": question.unknown},
        "rejected": [{"row": row, "reason": reason} for row, reason in question.rejected],
        "not_learnt": list(release.manifest.get("disabled", ())),
        "predictions": table.select("outcome", "horizon_days", "probability").to_dicts(),
    }


def iso(time: int) -> str:
    """Return microseconds since 1970 in ISO 8601, UTC."""
    return f"{np.datetime64(time, 'us').astype(str)}Z"
