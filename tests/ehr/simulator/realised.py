"""What came true: labels that the registry's own rules give, beside true risks."""

import numpy as np
import polars as pl

from ehr.outcomes.labels import label
from ehr.outcomes.registry import Index, Outcome, Registry
from ehr.simulator.graph import DISEASES
from ehr.simulator.records import microseconds
from ehr.simulator.truth import GAP_DAYS, HORIZONS_DAYS

KEYS = ["subject_id", "prediction_time", "outcome", "horizon_days"]


def registry():
    """Return every outcome of the truth, written down a second time."""
    at = Index(at="2020-01-01")
    window = {"index": at, "gap_days": GAP_DAYS, "horizons_days": HORIZONS_DAYS}
    diseases = [Outcome(name=disease.name, any_of=disease.codes, **window) for disease in DISEASES]
    admitted = {"any_of": ("VISIT//IP//START",), "incident_only": False}
    discharge = Index(at="visit_end", visit_type="IP", since="2016-01-01", until="2022-01-01")
    others = [
        Outcome(name="death", any_of=("MEDS_DEATH",), **window),
        Outcome(name="admission", index=at, horizons_days=(365,), **admitted),
        Outcome(name="readmission", index=discharge, horizons_days=(30,), **admitted),
    ]
    return Registry((*diseases, *others))


def realised(drawn, shards, truths):
    """Return true risks beside labels of those whose follow-up would cover the window had they lived.

    Follow-up ends at random, so leaving the others out changes no risk; keeping those who left early but had the
    event before would.
    """
    asked = registry()
    gaps = pl.DataFrame({"outcome": asked.names, "gap": [int(outcome.gap_days) for outcome in asked.outcomes]})
    found = []
    for block, events, risks in zip(drawn, shards, truths, strict=True):
        labels, _ = label(events, asked)
        people = block.course.people
        leave = pl.DataFrame({"subject_id": people.subject, "leave": pl.Series(microseconds(people.leave))})
        ends = pl.col("prediction_time") + pl.duration(days=pl.col("gap") + pl.col("horizon_days"))
        both = labels.join(risks, on=KEYS, how="full", coalesce=True).join(gaps, on="outcome")
        both = both.join(leave.with_columns(pl.col("leave").cast(pl.Datetime("us"))), on="subject_id")
        found.append(both.filter(ends <= pl.col("leave")))
    return pl.concat(found)


def errors(held, *by):
    """Return events, what the risks expect of them, and the difference in standard errors, by group."""
    risk = pl.col("risk").cast(pl.Float64)
    variance = (risk * (1 - risk)).sum()
    table = held.group_by(*by).agg(
        number=pl.len(), events=pl.col("boolean_value").sum(), expected=risk.sum(), error=variance.sqrt()
    )
    return table.with_columns(
        z=(pl.col("events") - pl.col("expected")) / pl.col("error").clip(lower_bound=np.finfo(np.float64).tiny)
    )
