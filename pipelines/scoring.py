"""Scoring one shard of raw records: checked, tokenised, cut at the prediction times, answered.  No torch."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import predictions
from ehr.events import BIRTH, DEATH, EVENTS, write
from ehr.quality import digest
from ehr.quality.digest import Reading
from ehr.quality.profile import Sifted, sift
from ehr.quality.sequences import measure_predictions
from ehr.quality.thresholds import Measure, Thresholds
from ehr.timelines import Sample, Timelines, build, cut
from ehr.timelines import Shard as TimelineShard
from ehr.vocabulary import UNK, Vocabulary
from pipelines import shards
from pipelines.moments import Moments
from pipelines.release import Release, answer, open_release

UNSCORED = pl.Schema(
    {"subject_id": pl.Int64(), "patient": pl.String(), "prediction_time": pl.Datetime("us"), "reason": pl.String()}
)
COUNTED = pl.Schema({"gate": pl.String(), "found": pl.Int64(), "of": pl.Int64()})
BESIDE = ("unscored", "rejected", "profile", "counted", "tally")
NO_USABLE_ROW = "no row of the patient can be used (see rejected.parquet)"
NO_EVENT = "no event at or before the prediction time"
DEAD = "dead at the prediction time"
UNKNOWN = "no code that the model knows"
ABSENT = "not in the records"
Ints = npt.NDArray[np.int64]


class ScoreTask(NamedTuple):
    """One shard to be scored.

    Attributes:
        shard: raw events.
        folder: the predictions being made.
        release: checked by whoever made the task.
        device: cpu or cuda.
        moments: when patients are scored.
        patients: parquet file of subject_id and patient, None where the two are the same.
        thresholds: what the gates bear.
        now: later rows lie in the future, microseconds since 1970.
    """

    shard: shards.Shard
    folder: Path
    release: Path
    device: str
    moments: Moments
    patients: Path | None
    thresholds: Thresholds
    now: int


class Gathered(NamedTuple):
    """What raw events give: samples by subject and time, who could not be asked about, and what the gates found."""

    samples: list[Sample]
    unscored: list[tuple[int, int | None, str]]
    sifted: Sifted


class Asked(NamedTuple):
    """Samples of one shard, and who could not be asked about: subject, time (None where unknown) and reason."""

    samples: list[Sample]
    unscored: list[tuple[int, int | None, str]]


@lru_cache(maxsize=1)
def held(path: Path, device: str) -> Release:
    """Open a release once a process."""
    return open_release(path, device=device, trusted=True)


def part(folder: Path, number: int) -> Path:
    """Return the file of one shard's predictions; it is written last."""
    return folder / "predictions" / f"{number:05d}.parquet"


def beside(folder: Path, number: int) -> dict[str, Path]:
    """Return the files that stand beside a shard's predictions until all are done."""
    return {name: folder / "work" / f"{number:05d}.{name}.parquet" for name in BESIDE}


def done(folder: Path, number: int) -> bool:
    """Tell whether an earlier run finished this shard: all files are there and whole, with as many rows as counted."""
    files = beside(folder, number)
    try:
        rows = pl.scan_parquet(part(folder, number)).select(pl.len()).collect().item()
        counts = [pl.read_parquet(files[name]) for name in BESIDE][BESIDE.index("counted")]
    except (OSError, pl.exceptions.PolarsError):
        return False
    return int(counts.filter(pl.col("gate") == "null_probability")["of"].sum()) == rows


def score(task: ScoreTask) -> int:
    """Score one shard and write its files, its predictions last; return the number of samples."""
    release = held(task.release, task.device)
    number = task.shard.number
    raw = numbered(task.shard, shards.load(task.shard))
    samples, unscored, sifted = gather(raw, task.moments, release, task.thresholds, name=task.shard.name, now=task.now)
    _, probability = answer(release, samples)
    subject = np.array([sample.subject for sample in samples], dtype=np.int64)
    time = np.array([sample.prediction_time for sample in samples], dtype=np.int64)
    named = patients_of(task.patients, subject)
    table = predictions.tabulate(subject, named, time, probability, release.registry, model=release.model)
    files = beside(task.folder, number)
    write(unscored_table(unscored, task.patients), files["unscored"])
    write(sifted.rejected, files["rejected"])
    write(sifted.profile, files["profile"])
    write(counted(sifted, release, table), files["counted"])
    write(tallied(sifted.events, samples, release.vocabulary), files["tally"])
    predictions.write(table, part(task.folder, number))
    return len(samples)


def gather(
    raw: pl.DataFrame, moments: Moments, release: Release, thresholds: Thresholds, *, name: str, now: int
) -> Gathered:
    """Return the samples of raw events, and what is told beside them.

    Args:
        raw: EVENTS in canonical order, with optional columns row, file and reject.
        moments: when patients are scored.
        release: gives vocabulary and length.
        thresholds: give plausible ranges.
        name: what to call the events in messages.
        now: later rows lie in the future, microseconds since 1970.
    """
    samples: list[Sample] = []
    unscored: list[tuple[int, int | None, str]] = []
    sifted: Sifted | None = None
    for events, times in rounds(raw, moments):
        # Each round knows what lies at or before its own times and nothing else.
        found = sift(events, name=name, now=now, ranges=thresholds.ranges)
        sifted = sifted or found
        asked = ask(found.events, events, times, release)
        samples += asked.samples
        unscored += asked.unscored
    assert sifted is not None
    samples.sort(key=lambda sample: (sample.subject, sample.prediction_time))
    return Gathered(samples, unscored, sifted)


def numbered(shard: shards.Shard, events: pl.DataFrame) -> pl.DataFrame:
    """Return events with the column row, so that rejected rows keep their number when others are left out."""
    if "row" in events.columns:
        return events
    return events.with_columns(pl.int_range(pl.len()).add(shard.first_row).cast(pl.Int64).alias("row"))


def rounds(events: pl.DataFrame, moments: Moments) -> Iterator[tuple[pl.DataFrame, pl.DataFrame | None]]:
    """Yield events with the times they are asked at: each patient's latest time first, then the one before, ...

    Yields:
        Events at or before those times, and subject_id and prediction_time; None where the last event is the time.
    """
    if moments.time is not None:
        known = events.filter(pl.col("time").is_null() | (pl.col("time").to_physical() <= moments.time))
        everyone = events["subject_id"].drop_nulls().unique(maintain_order=True)
        time = pl.Series([moments.time]).cast(pl.Datetime("us")).item()
        yield known, pl.DataFrame({"subject_id": everyone}).with_columns(pl.lit(time).alias("prediction_time"))
    elif moments.table is not None:
        subjects = events["subject_id"].drop_nulls().unique(maintain_order=True)
        asked = pl.scan_parquet(moments.table).filter(pl.col("subject_id").is_in(subjects.to_list())).collect()
        place = pl.col("prediction_time").rank("ordinal", descending=True).over("subject_id")
        asked = asked.with_columns(place.alias("place"))
        for at in range(1, int(asked["place"].max() or 0) + 1):  # pyright: ignore[reportArgumentType]
            times = asked.filter(pl.col("place") == at).drop("place")
            joined = events.join(times, on="subject_id", how="inner", maintain_order="left")
            known = joined.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time")))
            yield known.drop("prediction_time"), times
        if not len(asked):
            yield events.clear(), asked.drop("place")
    else:
        yield events, None


def ask(events: pl.DataFrame, raw: pl.DataFrame, times: pl.DataFrame | None, release: Release) -> Asked:
    """Return a sample a time, or why there is none.

    Args:
        events: EVENTS that can be used, in canonical order.
        raw: the same with rows that cannot.
        times: subject_id and prediction_time; None: each patient's last event.
        release: gives vocabulary and length.
    """
    edges = last_and_death(events)
    if times is None:
        everyone = raw["subject_id"].drop_nulls().unique(maintain_order=True)
        everyone = everyone.filter(everyone >= 0)
        times = pl.DataFrame({"subject_id": everyone}).join(edges, on="subject_id", how="left", maintain_order="left")
        times = times.select("subject_id", pl.col("last").alias("prediction_time"))
    facts = times.join(edges, on="subject_id", how="left", maintain_order="left")
    usable, there = (set(frame["subject_id"].drop_nulls().unique().to_list()) for frame in (events, raw))
    timelines = Timelines([TimelineShard(build(events.select(EVENTS.names()), release.vocabulary))])
    found = Asked([], [])
    columns = ("subject_id", "prediction_time", "last", "death")
    physical = [pl.col(name).to_physical() for name in columns[1:]]
    for subject, time, last, death in facts.select("subject_id", *physical).iter_rows():
        if last is None:
            lost = subject in there and subject not in usable
            found.unscored.append((subject, time, NO_USABLE_ROW if lost else NO_EVENT))
        elif death is not None and death <= time:
            found.unscored.append((subject, time, DEAD))
        else:
            sample = cut(timelines.record(subject), time, max_length=release.max_tokens)
            if (sample.token != UNK).any():
                found.samples.append(sample)
            else:
                found.unscored.append((subject, time, UNKNOWN))
    return found


def last_and_death(events: pl.DataFrame) -> pl.DataFrame:
    """Return each patient's last dated event, births apart, and the first death: subject_id, last, death."""
    time, code = pl.col("time"), pl.col("code")
    return (
        events.lazy()
        .group_by("subject_id", maintain_order=True)
        .agg(
            time.filter(code != BIRTH).max().alias("last"),
            time.filter(code == DEATH).min().alias("death"),
        )
        .collect()
    )


def counted(sifted: Sifted, release: Release, table: pl.DataFrame) -> pl.DataFrame:
    """Return what the gates on codes and predictions found in one shard."""
    events, unknown = release.vocabulary.count_unknown(sifted.events["code"])
    found = {"unknown_codes": Measure(unknown, events), **measure_predictions(table)}
    return pl.DataFrame([(gate, held.found, held.of) for gate, held in found.items()], schema=COUNTED, orient="row")


def reading(vocabulary: Vocabulary) -> Reading:
    """Return how a vocabulary reads events."""
    return Reading(lambda code: vocabulary.nearest(code) != UNK, vocabulary.settings.exclude, vocabulary.cuts)


def tallied(events: pl.DataFrame, samples: Sequence[Sample], vocabulary: Vocabulary) -> pl.DataFrame:
    """Count scored patients, each at her latest time: TALLY, for monitoring.

    Args:
        events: EVENTS that can be used, up to the latest time of each patient.
        samples: what was scored.
        vocabulary: what they were read with.
    """
    latest = {sample.subject: sample.prediction_time for sample in samples}
    times = pl.DataFrame(
        {"subject_id": list(latest), "prediction_time": list(latest.values())},
        schema={"subject_id": pl.Int64, "prediction_time": pl.Int64},
    ).with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))
    return digest.count(digest.features(events, times, reading(vocabulary)))


def patients_of(path: Path | None, subject: Ints) -> pl.Series:
    """Return the source's own patient ids."""
    if path is None:
        return pl.Series(subject).cast(pl.String)
    asked = pl.DataFrame({"subject_id": subject})
    names = pl.scan_parquet(path).filter(pl.col("subject_id").is_in(np.unique(subject).tolist())).collect()
    own = asked.join(names, on="subject_id", how="left", maintain_order="left")
    return own["patient"].fill_null(own["subject_id"].cast(pl.String))


def unscored_table(rows: list[tuple[int, int | None, str]], patients: Path | None) -> pl.DataFrame:
    """Return UNSCORED, sorted by subject and time."""
    ordered = sorted(rows, key=lambda row: (row[0], -(2**63) if row[1] is None else row[1]))
    subject = np.array([row[0] for row in ordered], dtype=np.int64)
    return pl.DataFrame(
        {
            "subject_id": subject,
            "patient": patients_of(patients, subject),
            "prediction_time": pl.Series([row[1] for row in ordered], dtype=pl.Int64).cast(pl.Datetime("us")),
            "reason": pl.Series([row[2] for row in ordered], dtype=pl.String),
        },
        schema=UNSCORED,
    )
