"""A small cohort with something to learn, written the way prepare writes it."""

from pathlib import Path

import numpy as np
import polars as pl

from ehr import timelines
from ehr.events import EVENTS
from ehr.outcomes.labels import label
from ehr.outcomes.registry import dump, load
from ehr.quality.thresholds import Thresholds
from ehr.splits import by_hash
from ehr.vocabulary import Settings, Vocabulary, count, merge
from pipelines import artefacts

OUTCOMES = """outcomes:
  failure:
    event: {any_of: ["ICD10CM//I50*"]}
    index: {at: visit_end}
    horizons_days: [365, 1095]
  kidney:
    event: {any_of: ["ICD10CM//N18*"]}
    index: {at: visit_end, every: first_per_year}
    horizons_days: [730]
    incident_only: false
  never:
    event: {any_of: ["ICD10CM//Z99*"]}
    horizons_days: [365]
"""
DAY = 86_400_000_000


def patient(subject, draw):
    """Yield the events of one patient: a frail one has more visits, and failure after hypertension."""
    frail = draw.random() < 0.4
    birth = int(draw.integers(-15_000, -3_000)) * DAY
    yield subject, None, f"SEX//{'F' if draw.random() < 0.5 else 'M'}", None
    yield subject, birth, "MEDS_BIRTH", None
    time = int(draw.integers(10_000, 12_000)) * DAY
    for _ in range(int(draw.integers(2, 9 if frail else 6))):
        kind = "IP" if draw.random() < 0.3 else "OP"
        yield subject, time, f"VISIT//{kind}//START", None
        codes = ["ICD10CM//Z00.0", "ICD10CM//J06.9", "ICD10CM//M54.5", "ICD10CM//R05"]
        codes += ["ICD10CM//I10", "ICD10CM//E11.9", "ICD10CM//N18.3"] * 2 * frail
        codes += ["ICD10CM//I50.9", "ICD10CM//I50.1"] * frail
        for code in draw.choice(codes, size=int(draw.integers(1, 4)), replace=False):
            yield subject, time + DAY // 8, str(code), None
        yield subject, time + DAY // 4, "LOINC//718-7", float(draw.normal(11 if frail else 14))
        yield subject, time + DAY // 2, f"VISIT//{kind}//END", None
        time += int(draw.integers(20, 500)) * DAY


def events(patients, seed=0):
    """Return EVENTS of a number of patients."""
    draw = np.random.default_rng(seed)
    rows = [row for subject in range(1, patients + 1) for row in patient(subject, draw)]
    frame = pl.DataFrame(rows, schema=["subject_id", "time", "code", "numeric_value"], orient="row")
    frame = frame.with_columns(pl.col("time").cast(pl.Datetime("us")), text_value=pl.lit(None, pl.String))
    return frame.select(pl.col(name).cast(kind) for name, kind in EVENTS.items())


def write(folder: Path, patients: int = 120, *, seed: int = 0, outcomes: str = OUTCOMES, shards: int = 2) -> Path:
    """Write a cohort and return its folder."""
    frame = events(patients, seed)
    for part in ("events", "timelines", "labels"):
        (folder / part).mkdir(parents=True)
    (folder / "outcomes.yaml").write_text(outcomes)
    registry = load(folder / "outcomes.yaml")
    (folder / "outcomes.yaml").write_text(dump(registry))
    subjects = frame["subject_id"].unique().sort()
    split = by_hash(subjects.to_numpy(), fractions=(0.6, 0.15, 0.15, 0.1))
    pl.DataFrame({"subject_id": subjects, "split": split}).write_parquet(folder / "splits.parquet")
    train = frame.filter(pl.col("subject_id").is_in(subjects.filter(pl.Series(split) == "train").to_list()))
    vocabulary = Vocabulary.fit(merge([count(train)]), Settings(min_patients=2, bins=3, min_rows=20))
    vocabulary.save(folder / "vocabulary.json")
    for at in range(shards):
        part = frame.filter(pl.col("subject_id") % shards == at)
        part.write_parquet(folder / "events" / f"{at:05d}.parquet")
        timelines.write(timelines.build(part, vocabulary), folder / "timelines" / f"{at:05d}.arrow")
        label(part, registry)[0].write_parquet(folder / "labels" / f"{at:05d}.parquet")
    Thresholds().save(folder / "quality.json")
    artefacts.write_manifest(folder, "cohort", shards=shards, vocabulary=vocabulary.digest)
    return folder
