"""What is retrieved for a patient: similar training patients, and how often windows held each step, theirs and her own.

Nothing of it lies at or after the prediction time: neighbours come from training patients and what followed their own
prediction times, never from the patient, and her own windows end before hers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.model import Anamnesis
from ehr.timelines import Sample, Timelines, cut
from pipelines.rethink.neighbours import nearest, unit
from pipelines.rethink.patients.asking import Asked
from pipelines.rethink.patients.embedding import alike, embed
from pipelines.rethink.patients.steps import Windows, own

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NEIGHBOURS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "rank": pl.Int32(),
        "neighbour_id": pl.Int64(),
        "neighbour_time": pl.Datetime("us"),
        "similarity": pl.Float32(),
    }
)


class Evidence(NamedTuple):
    """What speaks for steps of one patient's futures.

    Attributes:
        place: rows of the pool, nearest first, i64 [k].
        near: neighbours whose window holds each step, f64 [V].
        past: windows of the patient's own past that hold it, f64 [V].
        windows: how many of those there are.
        outcome: neighbours with each outcome, f64 [S].
        known: neighbours of whom that is known, f64 [S].
    """

    place: Ints
    near: Floats
    past: Floats
    windows: int
    outcome: Floats
    known: Floats

    @property
    def holding(self) -> Floats:
        """Windows that hold each step, f64 [V]."""
        return self.near + self.past

    @property
    def total(self) -> float:
        """Windows, whatever they hold."""
        return float(len(self.place) + self.windows)


class Pool(NamedTuple):
    """Training patients who may be neighbours, and what followed their prediction times.

    Attributes:
        asked: who, when, and with which outcomes; P.
        ahead: steps in the window after each.
    """

    asked: Asked
    ahead: Windows


def neighbours(
    network: Anamnesis, samples: Sequence[Sample], pool: Asked, source: Timelines, k: int, max_length: int
) -> pl.DataFrame:
    """Return NEIGHBOURS: the k most similar training patients of each of Q records, exactly, never the patient."""
    held = [
        cut(source.record(subject), time, max_length=max_length)
        for subject, time in zip(pool.subject.tolist(), pool.time.tolist(), strict=True)
    ]
    query, base = alike(embed(network, samples), embed(network, held))
    subject = np.array([one.subject for one in samples], dtype=np.int64)
    place = np.searchsorted(pool.subject, subject)
    there = np.minimum(place, len(pool.subject) - 1)
    mine = np.where(pool.subject[there] == subject, there, -1)
    found = nearest(unit(query), unit(base), k, own=mine)
    row, rank = np.nonzero(found.place >= 0)
    at = found.place[row, rank]
    time = pl.Series(np.array([one.prediction_time for one in samples], dtype=np.int64)[row])
    columns = {
        "subject_id": subject[row],
        "prediction_time": time.cast(pl.Datetime("us")),
        "rank": rank.astype(np.int32),
        "neighbour_id": pool.subject[at],
        "neighbour_time": pl.Series(pool.time[at]).cast(pl.Datetime("us")),
        "similarity": found.similarity[row, rank],
    }
    return pl.DataFrame(columns, schema=NEIGHBOURS)


def evidence_of(
    asked: Asked, table: pl.DataFrame, pool: Pool, source: Timelines, step: Ints, days: float, most: int
) -> list[Evidence]:
    """Return the evidence of each of Q patients from retrieved rows alone.

    Args:
        asked: who and when, Q.
        table: NEIGHBOURS.
        pool: what they are rows of.
        source: timelines.
        step: of each token, i64 [V].
        days: length of windows.
        most: windows of the own past, at most.

    Raises:
        ValueError: the table cites who is not in the pool.
    """
    subject, time = table["subject_id"].to_numpy(), table["prediction_time"].to_physical().to_numpy()
    near = table["neighbour_id"].to_numpy()
    place = np.minimum(np.searchsorted(pool.asked.subject, near), len(pool.asked.subject) - 1)
    when = table["neighbour_time"].to_physical().to_numpy()
    if (pool.asked.subject[place] != near).any() or (pool.asked.time[place] != when).any():
        raise ValueError("neighbours: a patient is not in the training split as it stands; use the cohort it is of")
    rows: dict[tuple[int, int], list[int]] = {}
    for at, key in enumerate(zip(subject.tolist(), time.tolist(), strict=True)):
        rows.setdefault(key, []).append(at)
    made: list[Evidence] = []
    for key in zip(asked.subject.tolist(), asked.time.tolist(), strict=True):
        mine = place[rows.get(key, [])]
        past, windows = own(source.record(key[0]), key[1], step, days, most)
        label = pool.asked.label[mine]
        made.append(
            Evidence(
                mine,
                pool.ahead.tally(mine, len(step)),
                past,
                windows,
                np.nansum(label, axis=0),
                (~np.isnan(label)).sum(axis=0).astype(np.float64),
            )
        )
    return made
