"""What is compared with what, and what of it is more than chance."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from ehr.metrics import drift
from ehr.metrics.drift import Change, Performance
from ehr.predictions import KEY
from ehr.quality import digest, noise
from ehr.quality.digest import Counts, Digest
from ehr.quality.noise import Finding
from pipelines.digests import DATE, Digests
from pipelines.moments import LATEST
from pipelines.monitor.sources import Seen

FAMILIES: Mapping[str, str] = {
    "history": "records",
    "feed": "records",
    "code": "codes",
    "value": "values",
    "unknown": "unknown codes",
    "probability": "probabilities",
}
"""The family of each kind of table: families share the bearable chance evenly."""


class Watched(NamedTuple):
    """What was found.

    Attributes:
        reference: counts compared with.
        seen: counts of those scored, probabilities among them.
        asked: questions by family.
        findings: tables, the least likely first.
        changes: metrics, where there are labels.
        before: performance compared with.
        now: performance on the labels.
        alpha: chances up to it are alarms.
        notes: what a reader must know.
    """

    reference: Digest
    seen: Digest
    asked: Mapping[str, int]
    findings: list[Finding]
    changes: list[Change]
    before: Mapping[tuple[str, int], Performance]
    now: Mapping[tuple[str, int], Performance]
    alpha: float
    notes: list[str]

    @property
    def alarms(self) -> list[Finding]:
        """Tables that differ by more than chance."""
        return [found for found in self.findings if found.chance <= self.alpha]

    @property
    def worse(self) -> list[Change]:
        """Metrics that differ by more than chance."""
        return [found for found in self.changes if found.chance <= self.alpha]


def watch(
    reference: Digests,
    seen: Seen,
    labels: pl.DataFrame | None = None,
    *,
    alpha: float = noise.ALPHA,
) -> Watched:
    """Compare who was scored with whom the model learnt from.

    Args:
        reference: of a release, or of predictions taken as one.
        seen: who was scored.
        labels: what came after, as the columns of LABELLED; None while they are not known.
        alpha: the chance of any alarm, at most, where nothing changed.
    """
    notes = list(seen.notes)
    against = matching(reference, seen.moment, notes)
    now = measured(seen, labels) if labels is not None else {}
    held = Digest({**seen.digest.tables, **probabilities(seen.answers, against)}, seen.digest.everyone)
    asked = noise.questions(against, held)
    if seen.predictions is None:
        asked = [question for question in asked if question.kind == "probability"]
    families = [FAMILIES[question.kind] for question in asked]
    sizes = {name: families.count(name) for name in dict.fromkeys(FAMILIES.values()) if name in families}
    found = noise.findings(asked, FAMILIES, others=bool(now))
    changed = drift.changes(reference.performance, now, families=len(sizes) + 1) if now else []
    if now and not changed:
        notes.append("No outcome has labels enough on both sides to compare ranking and calibration.")
    return Watched(against, held, sizes, found, changed, reference.performance, now, alpha, notes)


def matching(reference: Digests, moment: str, notes: list[str]) -> Digest:
    """Return the reference at the same kind of times, else at each patient's last event, with a note.

    Raises:
        ValueError: the reference has none.
    """
    if moment in reference.moments:
        return reference.moments[moment]
    if not reference.moments:
        raise ValueError("the reference has no counts of patients; export the run with --cohort again")
    at = LATEST if LATEST in reference.moments else next(iter(reference.moments))
    how = "one date for all" if moment == DATE else f"other times ({moment})"
    notes.append(
        f"Patients were scored at {how}, the reference is counted at times of the kind {at}: ages and the ends of "
        "records may differ for that alone. An earlier scoring of the same kind as --reference compares like with like."
    )
    return reference.moments[at]


def probabilities(answers: pl.DataFrame, reference: Digest) -> dict[tuple[str, str], Counts]:
    """Count answers over the reference's cuts."""
    found: dict[tuple[str, str], Counts] = {}
    for (outcome, days), rows in answers.group_by(["outcome", "horizon_days"], maintain_order=True):
        held = reference.tables.get(("probability", f"{outcome}@{days}"))
        if held is not None:
            found["probability", f"{outcome}@{days}"] = digest.over(rows["probability"].to_numpy(), held.cuts)
    return found


def as_reference(seen: Seen, held: Digests) -> Digests:
    """Return earlier predictions as a reference: their counts and probabilities, the release's performance."""
    spreads = {
        ("probability", f"{outcome}@{days}"): digest.spread(rows["probability"].to_numpy())
        for (outcome, days), rows in seen.answers.group_by(["outcome", "horizon_days"], maintain_order=True)
    }
    counted = Digest({**seen.digest.tables, **spreads}, seen.digest.everyone)
    return Digests(held.vocabulary, {seen.moment: counted}, held.performance)


def measured(seen: Seen, labels: pl.DataFrame) -> dict[tuple[str, int], Performance]:
    """Measure the predictions that have a label.

    Raises:
        ValueError: there are no predictions to join, or none has a label.
    """
    joined = with_labels(seen, labels)
    return {
        (str(outcome), int(str(days))): drift.performance(
            rows["subject_id"].to_numpy(),
            rows["boolean_value"].cast(pl.Float32).to_numpy(),
            rows["probability"].to_numpy().astype(np.float64),
        )
        for (outcome, days), rows in joined.group_by(["outcome", "horizon_days"], maintain_order=True)
    }


def with_labels(seen: Seen, labels: pl.DataFrame) -> pl.DataFrame:
    """Return predictions with boolean_value, sorted.

    Raises:
        ValueError: there are no predictions to join, or none has a label.
    """
    if seen.predictions is None:
        raise ValueError("--labels: an audit names no patient to join labels to; give predictions of anamnesis score")
    joined = seen.predictions.join(labels, on=KEY, how="inner").sort(KEY)
    if joined.is_empty():
        raise ValueError("--labels: none is of a prediction; expected the same subject_id, prediction_time and horizon")
    return joined
