"""Gates on timelines, labels and predictions: counts of loops, and one crafted fault for each."""

import itertools
import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.events import EVENTS
from ehr.outcomes.labels import LABELS
from ehr.predictions import PREDICTIONS
from ehr.quality import sequences as s
from ehr.quality.sequences import Sequences
from ehr.quality.thresholds import Measure, Thresholds, hold

DAY = datetime(2020, 1, 1)
PATIENTS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6), max_size=6)


@given(PATIENTS, st.integers(0, 6))
def test_timelines_are_counted_as_loops_count(patients, longest):
    tokens = [token for own in patients for token in own]
    offsets = np.cumsum([0, *map(len, patients)])
    visit, time = (np.array([token[at] for token in tokens], dtype=kind) for at, kind in ((0, np.int32), (1, np.int64)))
    pairs = [(a, b) for own in patients for a, b in itertools.pairwise(own)]
    assert s.measure_timelines(offsets, visit, time, longest_tokens=longest) == {
        "patients": len(patients),
        "empty_patients": sum(not own for own in patients),
        "long_patients": sum(len(own) > longest for own in patients),
        "tokens": len(tokens),
        "visits_fall": sum(b[0] < a[0] for a, b in pairs),
        "times_fall": sum(b[1] < a[1] for a, b in pairs),
    }


def labels(*rows):
    """Return LABELS of (subject, day, value, days to event)."""
    held = [(n, DAY + timedelta(days=at), "x", 30, value, days, value is True) for n, at, value, days in rows]
    return pl.DataFrame(held, schema=LABELS, orient="row")


def events(*rows):
    """Return EVENTS of (subject, day or None)."""
    held = [(n, None if at is None else DAY + timedelta(days=at), "A", None, None) for n, at in rows]
    return pl.DataFrame(held, schema=EVENTS, orient="row")


def test_labels_before_the_first_event_and_events_before_the_label():
    held = labels((1, 3, True, 2.0), (1, 3, False, 30.0), (1, 0, None, 1.0), (2, 5, True, 0.0), (3, 1, True, None))
    found = s.measure_labels(held, events((1, None), (1, 1), (2, 5), (3, None)))
    # Patient 1 on day 0 and patient 3, who has no dated event; a sample of two labels is one.
    assert found == {"samples": 4, "label_before_input": 2, "labels": 5, "event_before_prediction": 1}
    assert set(s.measure_labels(held.clear(), events()).values()) == {0}


SLOTS = st.tuples(st.integers(1, 3), st.sampled_from(["x", "y"]), st.sampled_from([30, 90, 365]))
RISKS = st.sampled_from([None, float("nan"), -0.5, 0.0, 0.25, 0.25 + 5e-7, 0.5, 1.0, 1.5])


@given(st.lists(st.tuples(SLOTS, RISKS), max_size=12))
def test_predictions_are_counted_as_loops_count(rows):
    held = [(n, str(n), DAY, outcome, days, risk, "m") for (n, outcome, days), risk in rows]
    found = s.measure_predictions(pl.DataFrame(held, schema=PREDICTIONS, orient="row"))
    usable = [(slot, np.float32(risk)) for slot, risk in rows if risk is not None and not math.isnan(risk)]
    assert found["null_probability"] == Measure(len(rows) - len(usable), len(rows))
    assert found["outside_unit_interval"].found == sum(not 0 <= risk <= 1 for _, risk in usable)
    assert found["repeated"].found == len(rows) - len({slot for slot, _ in rows})
    if not found["repeated"].found:
        falls = 0
        for one in {slot[:2] for slot, _ in usable}:
            by_days = [risk for slot, risk in sorted(usable, key=lambda row: row[0]) if slot[:2] == one]
            falls += sum(b - a < -1e-6 for a, b in itertools.pairwise(by_days))
        assert found["falls_with_horizon"].found == falls


def test_shards_add_up():
    one = Sequences(events=10, unknown_codes=2, patients=3, tokens=9, samples=4, labels=8, event_before_prediction=1)
    assert s.total([one, one])._asdict() == {name: 2 * value for name, value in one._asdict().items()}
    assert s.total([]) == Sequences()
    found = s.measures([one, one])
    assert list(found) == list(s.OF)
    assert found["unknown_codes"] == Measure(4, 20)
    assert found["event_before_prediction"] == Measure(2, 16)
    assert found["label_before_input"] == Measure(0, 8)


@pytest.mark.parametrize("gate", s.OF)
def test_each_gate_fails_just_above_its_default_and_holds_at_it(gate):
    of = 1_000
    most = int(Thresholds().bound(gate) * of)
    for number, held in ((most, True), (most + 1, False)):
        counts = Sequences(**{gate: number, s.OF[gate]: of})
        failed = hold(s.measures([counts]), Thresholds())
        assert [violation.expectation for violation in failed] == ([] if held else [gate])
