"""digest.json: what the patients learnt from, or those scored, look like to the model. Counts alone; no torch."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics import drift
from ehr.metrics.drift import Performance
from ehr.outcomes.registry import Registry
from ehr.quality import digest
from ehr.quality.digest import Digest
from ehr.timelines import Sample, cut
from ehr.vocabulary import UNK, Vocabulary
from pipelines import artefacts, cohort
from pipelines.cohort import Cohort
from pipelines.moments import LATEST, parse
from pipelines.samples import Questions
from pipelines.scoring import last_and_death, reading

FILE = "digest.json"
INDEX, DATE = "index", "date"
"""Moments: the times of labels or of a table, and one date for all; `latest` is each patient's last event."""
APART = ("tuning", "calibration")
"""Splits whose patients no vocabulary or weight was fitted to."""
MOST, ASKED = 20_000, 5_000
"""Patients who are counted, and who are scored for it, at most: more would sharpen no comparison with thousands."""
TIMES = ("subject_id", "prediction_time")
Floats = npt.NDArray[np.float32]


class Digests(NamedTuple):
    """What digest.json holds.

    Attributes:
        vocabulary: digest of the vocabulary that events were read with.
        moments: by when patients were looked at.
        performance: of labelled samples, by outcome and horizon; empty where there are none.
    """

    vocabulary: str
    moments: Mapping[str, Digest]
    performance: Mapping[tuple[str, int], Performance]


def moment_of(at: str) -> str:
    """Return which moments a setting of `--at` stands for."""
    return LATEST if at == LATEST else DATE if parse(at) is not None else INDEX


def of_cohort(
    held: Cohort,
    ask: Callable[[Sequence[Sample]], Floats],
    max_length: int,
    answered: tuple[Questions, Floats] | None = None,
) -> Digests:
    """Return the digest of a cohort: training patients, and for what is fitted to them patients apart.

    Codes, feeds, values and histories are those of training patients. Unknown codes and probabilities are those of
    tuning and calibration patients, since a vocabulary knows its own patients' codes and a model its own patients.

    Args:
        held: the cohort.
        ask: calibrated probabilities f32 [N, K, H] of samples.
        max_length: tokens of a sample.
        answered: labelled samples of the calibration split and their probabilities, for performance.
    """
    found: dict[str, Digest] = {}
    for name, times in {LATEST: latest(held), INDEX: index(held)}.items():
        train, apart = (chosen(held, times, splits) for splits in (("train",), APART))
        if len(train):
            tables = dict(tallied(held, train).tables)
            tables = {key: counts for key, counts in tables.items() if key[0] != "unknown"}
            if len(apart):
                beside = tallied(held, apart).tables
                tables |= {key: counts for key, counts in beside.items() if key[0] == "unknown"}
                tables |= probabilities(held, apart.head(ASKED), ask, max_length)
            found[name] = digest.suppressed(Digest(tables, len(train)))
    measured = performance(*answered, held.registry) if answered is not None else {}
    return Digests(held.vocabulary.digest, found, measured)


def of_scored(tally: pl.DataFrame, vocabulary: Vocabulary, at: str) -> Digests:
    """Return the digest of scored patients, each at the latest time she was scored at.

    Args:
        tally: TALLY of all of them.
        vocabulary: of the release.
        at: the setting they were scored with.
    """
    found = digest.digest(tally, vocabulary.cuts)
    kept = digest.without_rare(found, reading(vocabulary).known)
    return Digests(vocabulary.digest, {moment_of(at): kept}, {})


def latest(held: Cohort) -> pl.DataFrame:
    """Return the last event of every patient who is then alive, as scoring takes it."""
    edges = pl.concat([last_and_death(events.collect()) for events in cohort.events(held)])
    alive = edges.filter(pl.col("last").is_not_null(), pl.col("death").is_null() | (pl.col("death") > pl.col("last")))
    return alive.select("subject_id", pl.col("last").alias("prediction_time"))


def index(held: Cohort) -> pl.DataFrame:
    """Return the last labelled time of every patient who has one."""
    times = cohort.labels(held).lazy().group_by("subject_id").agg(pl.col("prediction_time").max())
    return times.sort("subject_id").collect()


def chosen(held: Cohort, times: pl.DataFrame, names: Sequence[str], most: int = MOST) -> pl.DataFrame:
    """Return the times of patients of some splits, sorted; of too many a draw that hangs on nothing else."""
    subjects = cohort.splits(held).filter(pl.col("split").is_in(names))
    found = times.join(subjects, on="subject_id", how="semi").sort("subject_id")
    if len(found) <= most:
        return found
    rows = np.random.Generator(np.random.Philox(0)).choice(len(found), most, replace=False)
    return found[np.sort(rows)]


def tallied(held: Cohort, times: pl.DataFrame) -> Digest:
    """Return the digest of patients of a cohort at given times, shard by shard."""
    how = reading(held.vocabulary)
    tallies = [digest.count(digest.features(events, times, how)) for events in of_patients(held, times)]
    return digest.digest(digest.add(tallies), held.vocabulary.cuts)


def of_patients(held: Cohort, times: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the events of some patients, a shard at a time."""
    subjects = times["subject_id"].to_list()
    for events in cohort.events(held):
        yield events.filter(pl.col("subject_id").is_in(subjects)).collect()


def probabilities(
    held: Cohort, times: pl.DataFrame, ask: Callable[[Sequence[Sample]], Floats], max_length: int
) -> dict[tuple[str, str], digest.Counts]:
    """Return the distribution of each outcome's probability."""
    lines = cohort.timelines(held)
    samples = [
        cut(lines.record(subject), time, max_length=max_length)
        for subject, time in times.select("subject_id", pl.col("prediction_time").to_physical()).iter_rows()
    ]
    found = ask([sample for sample in samples if (sample.token != UNK).any()])
    return {("probability", name): digest.spread(found[:, k, h]) for name, k, h in slots(held.registry)}


def slots(registry: Registry) -> list[tuple[str, int, int]]:
    """Return outcome@days with its place on the axes K and H."""
    return [
        (f"{name}@{int(days)}", k, h)
        for k, name in enumerate(registry.names)
        for h, days in enumerate(registry.horizons[k])
        if days >= 0
    ]


def performance(asked: Questions, probability: Floats, registry: Registry) -> dict[tuple[str, int], Performance]:
    """Measure every outcome and horizon."""
    return {
        (name.rpartition("@")[0], int(name.rpartition("@")[2])): drift.performance(
            asked.subject, asked.label[:, k, h], probability[:, k, h]
        )
        for name, k, h in slots(registry)
    }


def write(path: Path, held: Digests) -> None:
    """Write digest.json; equal digests give equal bytes."""
    content = {
        "format": 1,
        "vocabulary": held.vocabulary,
        "moments": {name: digest.to_json(found) for name, found in held.moments.items()},
        "performance": drift.to_json(held.performance),
    }
    artefacts.write_bytes(path, (json.dumps(content, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read(folder: Path) -> Digests:
    """Read the digest of a release or of predictions.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(
            f"{folder}: holds no {FILE}, so it was made before there was one; "
            "export the run with --cohort, or score, again"
        )
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        moments = {str(name): digest.from_json(found) for name, found in content["moments"].items()}
        return Digests(str(content["vocabulary"]), moments, drift.from_json(content["performance"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: not a digest of anamnesis; copy it again from where it was made") from None
