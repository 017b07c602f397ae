"""Futures as tables: FUTURES, their steps, and VALUES, what each makes of each outcome; all else is worked out of them.

Three estimators of one probability (arXiv 2602.03730): whether a future reaches the outcome (Monte-Carlo); SCOPE, the
sum of the probabilities of the outcome's tokens up to the outcome or the end; and REACH, 1 - prod(1 - p) over the steps
of a future in which they were suppressed. Each is unbiased, as a mean over futures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from ehr.batches import Batch, collate
from ehr.generation import Futures, sample
from ehr.grammar import CODE, ENDS
from ehr.model import Anamnesis
from ehr.timelines import DAY, Sample
from pipelines.progress import Track
from pipelines.rethink.patients.asking import Slot
from pipelines.rethink.patients.settings import Rethinking

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FUTURES = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "suppressed": pl.String(),
        "future": pl.Int32(),
        "days": pl.Float64(),
        "visit": pl.Int32(),
        "token": pl.Int32(),
        "log_probability": pl.Float32(),
    }
)
VALUES = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "future": pl.Int32(),
        "at_risk": pl.Boolean(),
        "reached": pl.Boolean(),
        "scope": pl.Float64(),
        "reach": pl.Float64(),
    }
)
AT_ONCE = 64
"""Patients that are drawn for together."""


class Made(NamedTuple):
    """What a set of futures makes of S windows, each [futures, S]."""

    at_risk: Bools
    reached: Bools
    scope: Floats
    reach: Floats


def drawn(
    network: Anamnesis, samples: Sequence[Sample], slots: Sequence[Slot], days: float, settings: Rethinking
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw futures of Q records; return FUTURES and VALUES.

    Args:
        network: trained to generate.
        samples: Q records, each of one token at least.
        slots: S windows.
        days: how far ahead.
        settings: number of futures, seed, and whether REACH is wanted.
    """
    outcomes = {slot.outcome: slot.tokens for slot in slots}
    barred: list[str | None] = [None, *(outcomes if settings.reach else ())]
    kept = np.append(np.isin(network.rules().kind, (CODE, ENDS)), [False] * network.config.time_bins)
    futures: list[pl.DataFrame] = []
    values: list[pl.DataFrame] = []
    with Track("drawing futures, patients", len(samples)) as bar:
        for begin in range(0, len(samples), AT_ONCE):
            some = samples[begin : begin + AT_ONCE]
            made: dict[str | None, Made] = {}
            for name in barred:
                found = sample(
                    network,
                    as_batch(some),
                    horizon_days=days,
                    samples=settings.samples,
                    seed=settings.seed,
                    followed=list(outcomes.values()),
                    suppressed=outcomes[name] if name is not None else (),
                    max_tokens=settings.max_tokens,
                )
                made[name] = valued(found, some, slots, list(outcomes), settings.samples)
                futures.append(steps_table(found, some, settings.samples, name, kept))
            values.append(values_table(some, slots, made, settings.samples))
            bar.advance(len(some))
    return pl.concat(futures), pl.concat(values)


def as_batch(samples: Sequence[Sample]) -> Batch[torch.Tensor]:
    """Return records one a row, as tensors."""
    width = max(len(one.token) for one in samples)
    return Batch(*(torch.from_numpy(part) for part in collate([[one] for one in samples], width)))


def valued(
    found: Futures, samples: Sequence[Sample], slots: Sequence[Slot], outcomes: Sequence[str], number: int
) -> Made:
    """Return what futures make of each window.

    Args:
        found: futures of the samples, in their order.
        samples: Q records.
        slots: S windows.
        outcomes: names in the order in which they were followed.
        number: N futures a record.
    """
    total = len(samples) * number
    start = np.array([one.prediction_time for one in samples], dtype=np.int64)
    now = (found.time - start[found.future // number]) / DAY
    # A token's chance was told before it was drawn: at the day of the step before it, or of the record's end.
    before = np.where(np.diff(found.future, prepend=-1) != 0, 0.0, np.concatenate([[0.0], now[:-1]]))
    # The step that left the horizon stands behind the others of its future, at the day of the last one.
    last = np.zeros(total)
    last[found.future] = now
    future = np.concatenate([found.future, np.arange(total)])
    order = np.argsort(future, kind="stable")
    future, day = future[order], np.concatenate([before, last])[order]
    token = np.concatenate([found.token, np.full(total, -1)])[order]
    chance = np.concatenate([found.followed, found.beyond])[order].astype(np.float64)
    shape = (total, len(slots))
    made = Made(np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool), np.zeros(shape), np.zeros(shape))
    for at, slot in enumerate(slots):
        hit = np.isin(token, slot.tokens)
        # Ages are in single precision: a first step may round to day 0, which no gap leaves out.
        early_day = (day <= slot.gap_days) & (slot.gap_days > 0)
        inside = ~early_day & (day <= slot.gap_days + slot.horizon_days)
        early = hit & early_day
        made.at_risk[:, at] = np.bincount(future, early, minlength=total) == 0 if slot.incident else True
        met = np.cumsum(hit & inside)
        # Steps up to the first event of the window, which is itself the last of them.
        opening = np.flatnonzero(np.diff(future, prepend=-1) != 0)
        already = met - np.repeat(met[opening] - (hit & inside)[opening], np.diff(np.append(opening, len(future))))
        open_ = inside & (already - (hit & inside) == 0)
        p = np.where(open_, chance[:, outcomes.index(slot.outcome)], 0.0)
        made.reached[:, at] = np.bincount(future, hit & inside, minlength=total) > 0
        made.scope[:, at] = np.bincount(future, p, minlength=total)
        # A chance of 1 by rounding would be minus infinity, and its exponential exactly 0, as it should be.
        with np.errstate(divide="ignore"):
            made.reach[:, at] = -np.expm1(np.bincount(future, np.log1p(-np.minimum(p, 1.0)), minlength=total))
    return made


def steps_table(
    found: Futures, samples: Sequence[Sample], number: int, suppressed: str | None, kept: Bools
) -> pl.DataFrame:
    """Return FUTURES: the codes of futures, in order, without what opens and closes visits and without time tokens."""
    there = np.flatnonzero(kept[found.token])
    row = found.future[there] // number
    start = np.array([one.prediction_time for one in samples], dtype=np.int64)[row]
    columns = {
        "subject_id": np.array([one.subject for one in samples], dtype=np.int64)[row],
        "prediction_time": pl.Series(start).cast(pl.Datetime("us")),
        "suppressed": pl.Series([suppressed], dtype=pl.String).new_from_index(0, len(there)),
        "future": (found.future[there] % number).astype(np.int32),
        "days": (found.time[there] - start) / DAY,
        "visit": found.visit[there].astype(np.int32),
        "token": found.token[there].astype(np.int32),
        "log_probability": found.log_probability[there],
    }
    return pl.DataFrame(columns, schema=FUTURES)


def values_table(
    samples: Sequence[Sample], slots: Sequence[Slot], made: dict[str | None, Made], number: int
) -> pl.DataFrame:
    """Return VALUES: a row a record, window and future."""
    plain = made[None]
    subject = np.repeat([one.subject for one in samples], number).astype(np.int64)
    time = pl.Series(np.repeat([one.prediction_time for one in samples], number).astype(np.int64))
    frames: list[pl.DataFrame] = []
    for at, slot in enumerate(slots):
        own = made.get(slot.outcome)
        columns = {
            "subject_id": subject,
            "prediction_time": time.cast(pl.Datetime("us")),
            "outcome": pl.Series([slot.outcome], dtype=pl.String).new_from_index(0, len(subject)),
            "horizon_days": pl.Series([slot.horizon_days], dtype=pl.Int32).new_from_index(0, len(subject)),
            "future": np.tile(np.arange(number, dtype=np.int32), len(samples)),
            "at_risk": plain.at_risk[:, at],
            "reached": plain.reached[:, at],
            "scope": plain.scope[:, at],
            "reach": own.reach[:, at] if own else pl.Series([None], dtype=pl.Float64).new_from_index(0, len(subject)),
        }
        frames.append(pl.DataFrame(columns, schema=VALUES))
    return pl.concat(frames)
