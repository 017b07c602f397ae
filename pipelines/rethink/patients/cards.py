"""Evidence cards: what was retrieved for the futures that carry an outcome, templated, with the rows it stands in.

A card cites rows of the patient's own record by patient and number of the row among her events, and neighbours as
counts. Nothing on it is generated but the futures themselves, which it calls so.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.vocabulary import Vocabulary
from pipelines.cohort import Cohort, events
from pipelines.rethink.patients.asking import Slot
from pipelines.rethink.patients.fitting import Answer
from pipelines.rethink.patients.settings import Rethinking
from pipelines.rethink.patients.weighing import backed

Ints = npt.NDArray[np.int64]
Json = dict[str, Any]
FUTURES_SHOWN, STEPS_SHOWN, ROWS_SHOWN = 3, 12, 3
FEWEST = 10
"""Neighbours below this number are told as fewer than it."""
SUPPORTS, DOES_NOT = "supports", "does not support"


class Rows(NamedTuple):
    """A patient's dated events: number of the row, microseconds since 1970, code and bare token."""

    number: Ints
    time: Ints
    code: list[str]
    token: Ints


class Shown(NamedTuple):
    """What cards are made from.

    Attributes:
        rows: of each patient.
        vocabulary: names of tokens, and ancestors.
        step: of each token, i64 [V].
        category: nearest ancestor of each token, -1 where it has none, i64 [V].
        slots: S windows.
        settings: prior of the evidence.
        pool: subject of each row of the pool, i64 [P].
        ids: whether neighbours are named.
    """

    rows: Mapping[int, Rows]
    vocabulary: Vocabulary
    step: Ints
    category: Ints
    slots: Sequence[Slot]
    settings: Rethinking
    pool: Ints
    ids: bool


def categories(vocabulary: Vocabulary) -> Ints:
    """Return the nearest ancestor of each token, -1 where it has none, i64 [V]."""
    return np.array([chain[0] if chain else -1 for chain in vocabulary.ancestors], dtype=np.int64)


def rows_of(cohort: Cohort, subjects: Sequence[int]) -> dict[int, Rows]:
    """Return the dated events of some patients, each numbered among all events of hers, from 0."""
    wanted = pl.DataFrame({"subject_id": sorted(set(subjects))}, schema={"subject_id": pl.Int64})
    parts = [
        frame.join(wanted.lazy(), on="subject_id", how="semi", maintain_order="left").collect()
        for frame in events(cohort)
    ]
    held = pl.concat(parts)
    held = held.with_columns(number=pl.int_range(pl.len()).over("subject_id")).filter(pl.col("time").is_not_null())
    held = held.with_columns(pl.col("code").cast(pl.String))
    token = cohort.vocabulary.bare()[cohort.vocabulary.encode(held["code"], held["numeric_value"])]
    held = held.with_columns(token=pl.Series(token))
    made: dict[int, Rows] = {}
    for (subject,), own in held.group_by(["subject_id"], maintain_order=True):
        time = own["time"].to_physical().to_numpy()
        made[int(str(subject))] = Rows(own["number"].to_numpy(), time, own["code"].to_list(), own["token"].to_numpy())
    return made


def moment(time: int) -> str:
    """Return microseconds since 1970 as a time; records have no zone."""
    return datetime.fromtimestamp(time / 1e6, UTC).replace(tzinfo=None).isoformat(timespec="minutes")


def few(count: float) -> int | str:
    """Return a count of neighbours, small ones blurred."""
    return int(count) if count >= FEWEST or count == 0 else f"fewer than {FEWEST}"


def cards(answer: Answer, shown: Shown) -> list[Json]:
    """Return the cards of one patient, one a window."""
    case = answer.case
    sample, held = case.sample, answer.weights
    evidence = backed(case.futures, case.evidence, shown.settings)
    made: list[Json] = []
    for at, slot in enumerate(shown.slots):
        reached = case.reached[:, at] & (held.weight > 0)
        card: Json = {
            "subject_id": sample.subject,
            "prediction_time": moment(sample.prediction_time),
            "outcome": slot.outcome,
            "window_days": [slot.gap_days, slot.gap_days + slot.horizon_days],
            "probability": float(answer.probability[at]),
            "interval": [float(answer.lower[at]), float(answer.upper[at])],
            "monte_carlo": float(answer.monte_carlo[at]),
            "abstain": answer.abstain,
            "futures": {
                "drawn": len(held.weight),
                "with_event": int(case.reached[:, at].sum()),
                "weight_with_event": float(held.weight[case.reached[:, at]].sum()),
                "contradicted": int((~case.futures.allowed).sum()),
                "effective_size": held.size,
                "temper": held.temper,
                "temper_lowered": held.lowered,
            },
            "neighbours": neighbours(answer, at, shown),
            "own_windows": case.evidence.windows,
            "supporting": [],
        }
        order = np.argsort(-np.where(reached, held.weight, -1.0), kind="stable")[: min(FUTURES_SHOWN, reached.sum())]
        for number in order.tolist():
            steps = future_steps(answer, number, slot, evidence, shown)
            card["supporting"].append({"future": number, "weight": float(held.weight[number]), "steps": steps})
        made.append(card)
    return made


def neighbours(answer: Answer, at: int, shown: Shown) -> Json:
    """Return how many similar patients there were, and how many had the event."""
    evidence = answer.case.evidence
    told: Json = {
        "compared": len(evidence.place),
        "followed": few(evidence.known[at]),
        "with_event": few(evidence.outcome[at]),
    }
    return told | ({"ids": shown.pool[evidence.place].tolist()} if shown.ids else {})


def future_steps(
    answer: Answer, number: int, slot: Slot, evidence: npt.NDArray[np.float64], shown: Shown
) -> list[Json]:
    """Return the steps of one future up to the event, each with what was retrieved for it."""
    case = answer.case
    end = slot.gap_days + slot.horizon_days
    mine = np.flatnonzero((case.steps.future == number) & (case.steps.days <= end))
    rows = shown.rows.get(case.sample.subject)
    made: list[Json] = []
    told: set[int] = set()
    for row in mine.tolist():
        token, days = int(case.steps.token[row]), float(case.steps.days[row])
        step = int(shown.step[token])
        event = token in slot.tokens and days > slot.gap_days
        if step >= 0 and step not in told and (len(made) < STEPS_SHOWN or event):
            told.add(step)
            place = int(np.searchsorted(case.futures.step, step))
            model, backing = float(case.futures.model[place]), float(evidence[place])
            made.append(
                {
                    "days": round(days, 1),
                    "code": shown.vocabulary.codes[step],
                    "is_event": event,
                    "model": model,
                    "evidence": backing,
                    "verdict": SUPPORTS if backing >= model else DOES_NOT,
                    "neighbours_with": few(case.evidence.near[step]),
                    "own_windows_with": int(case.evidence.past[step]),
                    "own_record": own_rows(rows, step, case.sample.subject, case.sample.prediction_time, shown),
                }
            )
        if event:
            break
    return made


def own_rows(rows: Rows | None, step: int, subject: int, time: int, shown: Shown) -> Json:
    """Return the rows before the prediction time that hold a step's code, and those of its category."""
    if rows is None:
        return {"same_code": [], "same_code_count": 0, "category": None, "same_category": [], "same_category_count": 0}
    before = rows.time < time
    same = np.flatnonzero(before & (shown.step[rows.token] == step))
    chain = shown.vocabulary.ancestors[step]
    category = chain[0] if chain else None
    near = np.zeros(0, dtype=np.int64)
    if category is not None:
        kin = (rows.token == category) | (shown.category[rows.token] == category)
        near = np.flatnonzero(before & kin & (shown.step[rows.token] != step))
    return {
        "same_code": cited(rows, same, subject),
        "same_code_count": len(same),
        "category": shown.vocabulary.codes[category] if category is not None else None,
        "same_category": cited(rows, near, subject),
        "same_category_count": len(near),
    }


def cited(rows: Rows, places: Ints, subject: int) -> list[Json]:
    """Return the latest of some rows, as they are cited."""
    return [
        {"row": f"{subject}/{rows.number[at]}", "time": moment(int(rows.time[at])), "code": rows.code[at]}
        for at in places[-ROWS_SHOWN:].tolist()
    ]
