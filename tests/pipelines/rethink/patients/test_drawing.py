"""Values of futures: against loops over their steps, and unbiased in the law that they were drawn from."""

import numpy as np
import polars as pl
import pytest

from ehr.generation import sample
from pipelines.rethink.patients.asking import Slot
from pipelines.rethink.patients.cases import steps_by_case
from pipelines.rethink.patients.drawing import FUTURES, VALUES, drawn, valued
from pipelines.rethink.patients.settings import Rethinking
from tests.ehr import futures
from tests.ehr.futures import SIZE, batch_of

DAY = 86_400_000_000
DAYS = 1_500.0
SLOTS = (
    Slot("early", 400, 0.0, False, (9, 10)),
    Slot("early", 1_500, 0.0, False, (9, 10)),
    Slot("late", 1_000, 500.0, True, (12,)),
)


@pytest.fixture(scope="module")
def model():
    return futures.network()


def naive(found, given, slots, number):
    """Return what each future makes of each window, step by step."""
    made = {name: np.zeros((number, len(slots))) for name in ("at_risk", "reached", "scope", "reach")}
    for future in range(number):
        at = np.flatnonzero(found.future == future)
        for place, slot in enumerate(slots):
            column = 0 if slot.outcome == "early" else 1
            day, total, spared, reached, free = 0.0, 0.0, 1.0, False, True
            rows = [(found.followed[row, column], int(found.token[row]), float(found.time[row])) for row in at]
            rows.append((found.beyond[future, column], -1, None))
            for chance, token, time in rows:
                before = day <= slot.gap_days > 0
                inside = not before and day <= slot.gap_days + slot.horizon_days
                if inside and not reached:
                    total += float(chance)
                    spared *= 1 - float(chance)
                    reached = token in slot.tokens
                if token in slot.tokens and before:
                    free = False
                if time is not None:
                    day = (time - given.prediction_time) / DAY
            told = {"at_risk": free or not slot.incident, "reached": reached, "scope": total, "reach": 1 - spared}
            for name, value in told.items():
                made[name][future, place] = value
    return made


def test_values_are_those_of_loops(model):
    given = futures.sample(20, 3)
    how = {"horizon_days": DAYS, "samples": 50, "seed": 4, "max_tokens": 60}
    found = sample(model, batch_of([[given]]), followed=[[9, 10], [12]], **how)
    made = valued(found, [given], SLOTS, ["early", "late"], 50)
    expected = naive(found, given, SLOTS, 50)
    assert made.reached.any(axis=0).all()
    assert not made.at_risk.all()
    for name, value in expected.items():
        assert np.allclose(getattr(made, name), value, atol=1e-6), name


def test_tables_hold_codes_alone_and_every_future(model):
    given = [futures.sample(n, n, subject=n) for n in (3, 14)]
    table, values = drawn(model, given, SLOTS, DAYS, Rethinking(samples=5, max_tokens=40, reach=True))
    assert table.schema == FUTURES
    assert values.schema == VALUES
    assert len(values) == 2 * 5 * len(SLOTS)
    assert values["reach"].is_between(0, 1).all()
    kind = futures.rules().kind
    assert set(kind[table["token"].to_numpy()]) <= {1, 4}
    assert table["token"].max() < SIZE
    assert (table["days"] > -0.01).all()
    assert (table["days"] <= DAYS + 0.01).all()
    assert set(table["suppressed"].unique()) == {None, "early", "late"}
    assert not table.filter(pl.col("suppressed") == "early")["token"].is_in([9, 10]).any()
    assert table.filter(pl.col("suppressed").is_null())["token"].is_in([9, 10]).any()


def test_three_estimators_of_one_probability(model):
    """SCOPE and REACH have the mean of Monte-Carlo, and REACH no more variance."""
    number = 3_000
    slots = [Slot("early", 900, 0.0, False, (9, 10))]
    _, values = drawn(
        model, [futures.sample(20, 3)], slots, 900.0, Rethinking(samples=number, max_tokens=120, reach=True)
    )
    carlo, scope, reach = (values[name].cast(pl.Float64).to_numpy() for name in ("reached", "scope", "reach"))
    assert 0.05 < carlo.mean() < 0.95
    for other in (scope, reach):
        spread = np.sqrt((carlo.var() + other.var()) / number)
        assert abs(carlo.mean() - other.mean()) < 4 * spread, (carlo.mean(), other.mean(), spread)
    assert reach.var() < carlo.var()


def test_every_step_reaches_its_patient(model):
    """What is put together from the table is the whole table, of plain futures and of suppressed ones."""
    given = [futures.sample(n, n, subject=n) for n in (3, 14)]
    table, _ = drawn(model, given, SLOTS, DAYS, Rethinking(samples=5, max_tokens=40, reach=True))
    held = steps_by_case(table.sample(fraction=1.0, shuffle=True, seed=0).sort("days", maintain_order=True))
    assert sum(len(own.token) for own in held.values()) == len(table)
    for (subject, time, name), own in held.items():
        rows = table.filter(
            (pl.col("subject_id") == subject)
            & (pl.col("prediction_time").to_physical() == time)
            & pl.col("suppressed").eq_missing(pl.lit(name, pl.String))
        )
        assert len(rows) == len(own.token) > 1
        for number in range(5):
            mine = rows.filter(pl.col("future") == number)
            assert own.days[own.future == number].tolist() == mine["days"].to_list()
            assert sorted(own.token[own.future == number].tolist()) == sorted(mine["token"].to_list())
