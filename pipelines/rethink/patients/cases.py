"""Patients with their futures, values and evidence put together from stored tables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.timelines import Sample, Timelines
from pipelines.rethink.patients.asking import Asked, Slot
from pipelines.rethink.patients.contradictions import Rules, contradicted
from pipelines.rethink.patients.evidence import Evidence, Pool, evidence_of
from pipelines.rethink.patients.settings import Rethinking
from pipelines.rethink.patients.weighing import Held, held_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
KEY = ("subject_id", "prediction_time")


class Stored(NamedTuple):
    """What was drawn and retrieved: FUTURES, VALUES, NEIGHBOURS."""

    futures: pl.DataFrame
    values: pl.DataFrame
    neighbours: pl.DataFrame

    def first(self, samples: int) -> "Stored":
        """Return the same with the first futures alone, of N."""
        few = pl.col("future") < samples
        return Stored(self.futures.filter(few), self.values.filter(few), self.neighbours)


class Steps(NamedTuple):
    """Steps of one set of futures, M of them, in order: number of the future, days, visit, token."""

    future: Ints
    days: Floats
    visit: Ints
    token: Ints


class Case(NamedTuple):
    """One patient at one time.

    Attributes:
        sample: the record.
        steps: of the futures.
        futures: as steps that they hold.
        suppressed: the same, by outcome, of futures in which it was suppressed; empty without REACH.
        at_risk: bool [N, S].
        reached: bool [N, S].
        scope: f64 [N, S].
        reach: f64 [N, S]; NaN without REACH.
        evidence: what was retrieved.
    """

    sample: Sample
    steps: Steps
    futures: Held
    suppressed: Mapping[str, Held]
    at_risk: Bools
    reached: Bools
    scope: Floats
    reach: Floats
    evidence: Evidence


class World(NamedTuple):
    """What all cases share.

    Attributes:
        source: timelines.
        pool: who may be a neighbour.
        step: of each token, i64 [V].
        rules: of contradictions.
        slots: S windows.
        days: length of the window of evidence.
    """

    source: Timelines
    pool: Pool
    step: Ints
    rules: Rules
    slots: Sequence[Slot]
    days: float


def cases_of(asked: Asked, samples: Sequence[Sample], stored: Stored, world: World, settings: Rethinking) -> list[Case]:
    """Put Q patients together.

    Args:
        asked: who and when.
        samples: their records, in the same order.
        stored: tables of them, and maybe of others.
        world: what they share.
        settings: N, and how evidence is counted.

    Raises:
        ValueError: a table lacks a patient.
    """
    number = settings.samples
    evidence = evidence_of(
        asked, stored.neighbours, world.pool, world.source, world.step, world.days, settings.own_windows
    )
    steps = steps_by_case(stored.futures)
    values = values_by_case(stored.values, world.slots, number)
    none = Steps(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    outcomes = dict.fromkeys(slot.outcome for slot in world.slots) if settings.reach else {}
    made: list[Case] = []
    for sample, own in zip(samples, evidence, strict=True):
        key = (sample.subject, sample.prediction_time)
        if key not in values:
            raise ValueError("values: a patient asked is not among them; draw futures again, without --stored")
        plain = steps.get((*key, None), none)
        made.append(
            Case(
                sample,
                plain,
                held(plain, sample, world, number),
                {name: held(steps.get((*key, name), none), sample, world, number) for name in outcomes},
                *values[key],
                own,
            )
        )
    return made


def held(steps: Steps, sample: Sample, world: World, number: int) -> Held:
    """Return futures as the steps they hold, and which nothing rules out."""
    wrong = contradicted(world.rules, sample, steps.future, steps.token, steps.days, number)
    return held_of(steps.future, world.step[steps.token], number, ~wrong)


def steps_by_case(table: pl.DataFrame) -> dict[tuple[int, int, str | None], Steps]:
    """Return the steps of each patient, time and suppressed outcome, in the order of futures, then as they stand."""
    made: dict[tuple[int, int, str | None], Steps] = {}
    held = table.with_columns(pl.col("prediction_time").to_physical())
    for key, own in held.group_by([*KEY, "suppressed"], maintain_order=True):
        subject, time, suppressed = key
        rows = own.sort("future", maintain_order=True)
        future, visit, token = (rows[name].cast(pl.Int64).to_numpy() for name in ("future", "visit", "token"))
        name = None if suppressed is None else str(suppressed)
        made[int(str(subject)), int(str(time)), name] = Steps(future, rows["days"].to_numpy(), visit, token)
    return made


def values_by_case(
    table: pl.DataFrame, slots: Sequence[Slot], number: int
) -> dict[tuple[int, int], tuple[Bools, Bools, Floats, Floats]]:
    """Return at risk, reached, SCOPE and REACH of each patient and time, [N, S] each.

    Raises:
        ValueError: a window or a future is missing.
    """
    numbered = pl.DataFrame(
        [(slot.outcome, slot.horizon_days, at) for at, slot in enumerate(slots)],
        schema={"outcome": pl.String, "horizon_days": pl.Int32, "slot": pl.Int64},
        orient="row",
    )
    rows = table.join(numbered, on=["outcome", "horizon_days"]).sort(*KEY, "future", "slot")
    keys = rows.select(*KEY).unique(maintain_order=True)
    if len(rows) != len(keys) * number * len(slots):
        raise ValueError("values: a window or a future is missing; draw futures again, without --stored")
    shape = (len(keys), number, len(slots))
    columns = [rows[name].to_numpy().reshape(shape) for name in ("at_risk", "reached", "scope")]
    columns.append(rows["reach"].fill_null(np.nan).to_numpy().reshape(shape))
    names = keys.select("subject_id", pl.col("prediction_time").to_physical()).rows()
    return {key: tuple(column[at] for column in columns) for at, key in enumerate(names)}  # pyright: ignore[reportReturnType]
