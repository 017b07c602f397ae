"""FHIR R4 out: a RiskAssessment of one patient, and an OperationOutcome of a refusal."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from starlette.responses import JSONResponse, Response

from pipelines.release import Release
from pipelines.serve.question import Question, iso
from pipelines.serve.refusals import Refusal

MEDIA = "application/fhir+json"
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Issue types of FHIR by the status of the answer; all others are of processing.
ISSUES: Mapping[int, str] = {400: "invalid", 413: "too-long", 422: "business-rule", 503: "transient"}


def risk_assessment(question: Question, table: pl.DataFrame, release: Release) -> dict[str, Any]:
    """Return a RiskAssessment: a prediction an outcome and horizon, each a fraction from 0 to 1.

    Args:
        question: what was asked.
        table: PREDICTIONS of one patient.
        release: opened.
    """
    time = int(table["prediction_time"].to_physical()[0])
    gaps = {outcome.name: outcome.gap_days for outcome in release.registry.outcomes}
    found = table.select("outcome", "horizon_days", "probability").iter_rows()
    told = f"{question.codes:,} coded events of the records sent, up to the time of this assessment"
    return {
        "resourceType": "RiskAssessment",
        "status": "final",
        "method": {
            "coding": [{"system": "urn:ietf:rfc:3986", "code": f"urn:sha256:{release.model}"}],
            "text": "Anamnesis, a statistical model of coded records; the code is the digest of its file",
        },
        "subject": {"reference": f"Patient/{question.patient}"},
        "occurrenceDateTime": iso(time),
        "basis": [{"display": told}],
        "prediction": [
            {
                "outcome": {"text": outcome},
                "probabilityDecimal": probability,
                **window(time, gaps[outcome], days),
            }
            for outcome, days, probability in found
            if outcome not in release.manifest.get("disabled", ())
        ],
    }


def window(time: int, gap_days: float, horizon_days: int) -> dict[str, Any]:
    """Return the period in which an outcome is predicted, none where the horizon is not told (0)."""
    if horizon_days == 0:
        return {}
    start = EPOCH + timedelta(microseconds=time) + gap_days * DAY
    ends = (start, start + horizon_days * DAY)
    return {"whenPeriod": dict(zip(("start", "end"), (moment.isoformat() for moment in ends), strict=True))}


def outcome(refused: Refusal) -> Response:
    """Return a refusal as an OperationOutcome."""
    issue = {"severity": "error", "code": ISSUES.get(refused.status, "processing"), "diagnostics": refused.message}
    content = {"resourceType": "OperationOutcome", "issue": [issue]}
    return JSONResponse(content, refused.status, refused.headers, media_type=MEDIA)


def resource(content: Mapping[str, Any]) -> Response:
    """Return a resource."""
    return JSONResponse(content, media_type=MEDIA)
