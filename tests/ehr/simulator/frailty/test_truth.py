"""True risks of the frailty mechanism: against continuations of the same patients, and against what came true."""

import itertools

import numpy as np
import polars as pl
import pytest

from ehr.outcomes.labels import label
from ehr.simulator.frailty import law, traces
from ehr.simulator.frailty.law import DISEASES, LEVELS, MONTH
from ehr.simulator.frailty.lives import State, chosen, lived, lives
from ehr.simulator.frailty.truth import ahead, filtered, months, moved, truth
from ehr.simulator.records import microseconds
from ehr.simulator.truth import INDEX_DAY, TRUTH
from tests.ehr.simulator.realised import KEYS, errors, registry

CONTINUATIONS = 4_096
DAYS = (30.0, 395.0, 1_125.0)


@pytest.fixture(scope="module")
def drawn():
    """Return some blocks, and what they wrote."""
    found = []
    for number in range(4):
        block, numbers = lives(5, number)
        found.append((block, traces.write(block, numbers)))
    return found


@pytest.fixture(scope="module")
def both(drawn):
    """Return true risks beside labels of those whose follow-up would cover the window."""
    asked = registry()
    gaps = pl.DataFrame({"outcome": asked.names, "gap": [int(outcome.gap_days) for outcome in asked.outcomes]})
    found = []
    for block, written in drawn:
        labels, _ = label(traces.events(block, written), asked)
        leave = pl.Series(microseconds(block.people.leave)).cast(pl.Datetime("us"))
        held = labels.join(truth(block, written), on=KEYS, how="inner").join(gaps, on="outcome")
        held = held.join(pl.DataFrame({"subject_id": block.people.subject, "leave": leave}), on="subject_id")
        ends = pl.col("prediction_time") + pl.duration(days=pl.col("gap") + pl.col("horizon_days"))
        found.append(held.filter(ends <= pl.col("leave")))
    return pl.concat(found).drop_nulls("boolean_value")


def test_risks_are_calibrated(both):
    table = errors(both, "outcome", "horizon_days")
    assert table.height == 2 * len(DISEASES) + 3
    assert table["z"].abs().max() < 4, table.sort("z")
    assert 0.5 < np.sqrt((table["z"] ** 2).mean()) < 1.5
    fifth = both.with_columns(band=(pl.col("risk").rank() / pl.len() * 5).floor().over("outcome", "horizon_days"))
    assert errors(fifth, "band")["z"].abs().max() < 4
    wrong = both.with_columns(pl.col("risk") * 1.3)
    assert errors(wrong, "outcome", "horizon_days")["z"].abs().max() > 4


@pytest.mark.parametrize("row", [3, 200, 555])
def test_risks_are_those_of_continuations(drawn, row):
    """A patient goes on 4,096 times from what the filter believes, by the code that drew her."""
    block, written = drawn[0]
    belief = filtered(block, written)
    patient = int(belief.patient[row])
    draw = np.random.default_rng(row)
    one = np.full(CONTINUATIONS, patient)
    who = block.people.take(one)
    level = chosen(np.repeat(belief.level[[row]], CONTINUATIONS, axis=0), draw)
    none = np.full((CONTINUATIONS, len(DISEASES)), np.inf)
    state = State(level, np.full(CONTINUATIONS, belief.excited[row]), none, np.full(CONTINUATIONS, np.inf))
    admitted = np.full(CONTINUATIONS, np.inf)
    for month in range(38):
        state, seen = lived(who, state, month, state.death > law.edge(month), draw)
        np.minimum.at(admitted, seen.patient[seen.inpatient], seen.day[seen.inpatient])
    some = belief.take(slice(row, row + 1))
    held = months(block.people, some, DAYS[-1])
    when = np.column_stack([state.diagnosis, admitted])
    for number in range(len(DISEASES) + 1):
        event, _ = ahead(held, some, number, DAYS)
        share = np.array([(when[:, number] <= INDEX_DAY + day).mean() for day in DAYS])
        spread = np.sqrt(np.maximum(event[0] * (1 - event[0]), 1e-3) / CONTINUATIONS)
        assert (np.abs(share - event[0]) < 4.5 * spread).all(), (number, share, event)
    _, living = ahead(held, some, None, DAYS)
    share = np.array([(state.death > INDEX_DAY + day).mean() for day in DAYS])
    assert np.abs(share - living[0]).max() < 4.5 * 0.5 / np.sqrt(CONTINUATIONS)


def test_the_filter_is_the_sum_over_all_paths():
    """Three months by recursion, and by summing over every path of levels."""
    draw = np.random.default_rng(0)
    start = draw.dirichlet(np.ones(LEVELS))
    log = draw.normal(size=(3, LEVELS)) * 2
    belief = start[None]
    for month in range(3):
        belief = moved(belief, log[month][None], law.DRIFT[[month]])
    total = np.zeros(LEVELS)
    for path in itertools.product(range(LEVELS), repeat=4):
        chance = start[path[0]]
        for month in range(3):
            chance *= np.exp(log[month, path[month]]) * law.DRIFT[month, path[month], path[month + 1]]
        total[path[3]] += chance
    assert np.allclose(belief[0], total / total.sum(), atol=1e-12)


def test_the_table_is_whole(drawn):
    for block, written in drawn[:1]:
        table = truth(block, written)
        assert table.schema == TRUTH
        assert table.equals(table.sort(KEYS))
        assert table["risk"].is_between(0, 1).all()
        assert not table.select(KEYS).is_duplicated().any()
        wide = table.filter(pl.col("outcome") != "admission")
        wide = wide.pivot(on="horizon_days", index=["subject_id", "outcome"], values="risk")
        assert (wide["1095"] >= wide["365"]).all()


def test_the_level_drifts_and_chances_are_chances():
    assert np.allclose(law.DRIFT.sum(axis=2), 1)
    assert law.DRIFT.min() >= 0
    assert edge_days() == MONTH


def edge_days():
    return law.edge(1) - law.edge(0)
