"""Who is asked when: each index rule at its edges, and arrays against loops."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.outcomes.arrays import NEVER, Shard, earliest
from ehr.outcomes.eligibility import Samples, by_index, every
from ehr.outcomes.registry import Index
from tests.ehr.outcomes.naive import Event
from tests.ehr.outcomes.test_labels import frame

BIRTH = datetime(2000, 3, 1)
RECORD = [
    Event(1, None, "SEX//F"),
    Event(1, BIRTH, "MEDS_BIRTH"),
    Event(1, datetime(2018, 3, 1, 9), "VISIT//IP//START"),
    Event(1, datetime(2018, 3, 1, 9), "ICD10CM//I10"),
    Event(1, datetime(2018, 3, 2, 9), "VISIT//IP//END"),
    Event(1, datetime(2018, 12, 31, 8), "VISIT//OP//START"),
    Event(1, datetime(2018, 12, 31, 9), "VISIT//OP//END"),
    Event(1, datetime(2019, 1, 1, 9), "ICD10CM//I10"),
    Event(1, datetime(2019, 1, 1, 9), "VISIT//OP//END"),
    Event(1, datetime(2020, 1, 1), "MEDS_DEATH"),
]
OTHER = [Event(2, datetime(2018, 3, 2), "VISIT//OP//END"), Event(3, None, "SEX//M"), Event(4, BIRTH, "MEDS_BIRTH")]


def times(index, rows=RECORD):
    """Return subject and time of what an index rule leaves."""
    shard = Shard(frame(rows))
    samples = by_index(shard, index).samples
    found = samples.time.astype("datetime64[us]").tolist()
    return list(zip(shard.subject[samples.run].tolist(), found, strict=True))


def at(*days, subject=1):
    return [(subject, datetime.fromisoformat(day)) for day in days]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (Index(), at("2018-03-02 09:00", "2018-12-31 09:00", "2019-01-01 09:00")),
        (Index(visit_type="IP"), at("2018-03-02 09:00")),
        (Index(at="visit_start"), at("2018-03-01 09:00", "2018-12-31 08:00")),
        (Index(at="visit_start", visit_type="ED"), []),
        (Index(at="day_end"), at("2018-03-01 09:00", "2018-03-02 09:00", "2018-12-31 09:00", "2019-01-01 09:00")),
        (Index(at="last_event"), at("2019-01-01 09:00")),
        (Index(at="2018-06-01"), at("2018-06-01")),
        (Index(at="2018-06-01T12:30"), at("2018-06-01 12:30")),
        (Index(at="2018-03-01"), []),
        (Index(at="ICD10CM//I1*"), at("2018-03-01 09:00", "2019-01-01 09:00")),
        (Index(at="MEDS_DEATH"), []),
        (Index(at="MEDS_DEATH", alive=False), at("2020-01-01")),
        (Index(at="MEDS_BIRTH", alive=False), []),
        (Index(at="SEX//F"), []),
        (Index(at="2020-01-01"), []),
        (Index(at="2020-01-01", alive=False), at("2020-01-01")),
        (Index(at="2019-12-31"), at("2019-12-31")),
        (Index(every="first"), at("2018-03-02 09:00")),
        (Index(every="latest"), at("2019-01-01 09:00")),
        (Index(every="first_per_year"), at("2018-03-02 09:00", "2019-01-01 09:00")),
        (Index(since="2018-12-31", until="2019-01-01"), at("2018-12-31 09:00")),
        (Index(min_history_days=1), at("2018-03-02 09:00", "2018-12-31 09:00", "2019-01-01 09:00")),
        (Index(min_history_days=1.001), at("2018-12-31 09:00", "2019-01-01 09:00")),
        # `every` looks at what the other rules leave.
        (Index(min_history_days=1.001, every="first"), at("2018-12-31 09:00")),
        (Index(since="2018-06-01", every="first_per_year"), at("2018-12-31 09:00", "2019-01-01 09:00")),
    ],
)
def test_index_rules(index, expected):
    assert times(index) == expected


@pytest.mark.parametrize(
    ("low", "high", "days", "kept"),
    [(2, None, -1, 0), (2, None, 0, 1), (None, 2, -1, 1), (None, 2, 0, 0), (0, 3, 0, 1), (3, 2, 0, 0)],
)
def test_ages_begin_on_their_day_and_end_before_it(low, high, days, kept):
    """Years have 365.25 days, and four years make a whole number of them: eight for these two-year ages and days."""
    when = BIRTH + timedelta(days=4 * 365.25 + days)
    ages = {"min_age": None if low is None else 2 * low, "max_age": None if high is None else 2 * high}
    rows = [Event(1, BIRTH, "MEDS_BIRTH"), Event(1, when, "VISIT//OP//END")]
    assert len(times(Index(**ages), rows)) == kept


def test_an_age_asks_for_a_birth():
    assert times(Index(), OTHER) == at("2018-03-02", subject=2)
    assert times(Index(min_age=0), OTHER) == []
    assert times(Index(max_age=200), OTHER) == []


def test_patients_without_an_event_before_are_not_asked():
    counted = by_index(Shard(frame(OTHER)), Index(at="2020-01-01"))
    assert [(rule, patients) for rule, patients, _ in counted.removed] == [
        ("candidates", 3),
        ("alive", 0),
        ("min_history_days", 2),
    ]
    assert counted.samples.patients == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=20), st.data())
def test_arrays_find_what_loops_find(rows, data):
    codes = [data.draw(st.sampled_from(["A", "B"])) for _ in rows]
    events = [Event(run, datetime(1970, 1, 1, time), code) for (run, time), code in zip(rows, codes, strict=True)]
    held = Shard(frame([*events, Event(9, None, "A")]))
    marked = held.marked(("A",))
    hour = 3_600_000_000
    for place, subject in enumerate(held.subject.tolist()):
        own = [event.time.hour * hour for event in events if event.subject == subject and event.code == "A"]
        assert held.first[place] == min((e.time.hour * hour for e in events if e.subject == subject), default=NEVER)
        for time in range(-1, 7):
            found = marked.next_after(np.array([place]), np.array([time * hour]))
            assert found.tolist() == [min((t for t in own if t > time * hour), default=NEVER)]


def test_samples_count_patients():
    held = Samples(np.array([0, 0, 2, 5, 5]), np.arange(5))
    assert held.patients == 3
    assert held.take(held.run == 5).patients == 1
    assert held.take(held.run == 7).patients == 0
    assert every(held, "first").tolist() == [True, False, True, True, False]
    assert every(held, "latest").tolist() == [False, True, True, False, True]
    assert earliest(held.run, held.time, 7).tolist() == [0, NEVER, 2, NEVER, NEVER, 3, NEVER]
