"""Labels against a second implementation, edge by edge, and under events that come later."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.events import EVENTS, order
from ehr.outcomes.labels import ATTRITION, LABELS, label
from ehr.outcomes.registry import Index, Outcome, Registry
from tests.ehr.outcomes import naive
from tests.ehr.outcomes.naive import Event

START = datetime(2019, 12, 25)
CODES = (
    "ICD10CM//C25.1",
    "ICD10CM//C25",
    "ICD10CM//I10",
    "ICD10CM//Z51.5",
    "VISIT//IP//START",
    "VISIT//IP//END",
    "VISIT//OP//END",
    "LEFT//PLAN",
    "MEDS_BIRTH",
    "MEDS_DEATH",
    "SEX//F",
)
# Half days on a short grid, so that gaps, horizons, deaths and ends of follow-up meet often.
TIMES = st.one_of(st.none(), st.integers(0, 40).map(lambda step: START + timedelta(hours=12 * step)))
ROWS = st.lists(st.builds(Event, st.integers(1, 3), TIMES, st.sampled_from(CODES)), min_size=1, max_size=25)
DAYS = ["2019-12-27", "2020-01-01", "2020-01-03", "2020-01-10"]
INDEXES = st.builds(
    Index,
    at=st.sampled_from(["visit_start", "visit_end", "day_end", "last_event", "2020-01-01", "ICD10CM//I10", "SEX//*"]),
    every=st.sampled_from(["all", "first", "latest", "first_per_year"]),
    visit_type=st.sampled_from(["*", "IP"]),
    since=st.none() | st.sampled_from(DAYS),
    until=st.none() | st.sampled_from(DAYS),
    min_history_days=st.sampled_from([0, 0.5, 3]),
    min_age=st.none() | st.sampled_from([0, 4 / 365.25]),
    max_age=st.none() | st.sampled_from([2 / 365.25, 8 / 365.25]),
    alive=st.booleans(),
)
OUTCOMES = st.builds(
    Outcome,
    name=st.just("x"),
    any_of=st.sampled_from([("ICD10CM//C25",), ("ICD10CM//C25.1", "VISIT//IP//START"), ("MEDS_DEATH",), ("NONE//*",)]),
    index=INDEXES,
    gap_days=st.sampled_from([0, 0.5, 2]),
    horizons_days=st.sampled_from([(1,), (2, 5), (1, 3, 10)]),
    incident_only=st.booleans(),
    exclude=st.sampled_from([(), ("ICD10CM//Z51.5",)]),
    competing=st.sampled_from([None, "MEDS_DEATH", "VISIT//IP//*"]),
    censor=st.sampled_from(["last_event", "never", "2020-01-04", "LEFT//PLAN"]),
)


def frame(rows):
    """Return EVENTS of plain rows, in canonical order."""
    held = pl.DataFrame(
        {
            "subject_id": [row.subject for row in rows],
            "time": [row.time for row in rows],
            "code": [row.code for row in rows],
            "numeric_value": [None for _ in rows],
            "text_value": [None for _ in rows],
        },
        schema=EVENTS,
    )
    return order(held.lazy()).collect()


def check(rows, outcomes):
    """Hold labels and attrition against the second implementation."""
    labels, attrition = label(frame(rows), Registry(tuple(outcomes)))
    expected, counts = naive.label(rows, outcomes)
    assert labels.schema == LABELS
    assert attrition.schema == ATTRITION
    assert [row[:5] + row[6:] for row in labels.rows()] == [row[:5] + row[6:] for row in expected]
    np.testing.assert_allclose(labels["time_to_event_days"], [row[5] for row in expected], rtol=1e-6)
    # A rule that nobody came to has no line in the second count.
    found = {(outcome, rule): (patients, samples) for rule, outcome, patients, samples in attrition.iter_rows()}
    assert {key: value for key, value in found.items() if key in counts or any(value)} == counts
    return labels


@given(ROWS, st.lists(OUTCOMES, min_size=1, max_size=3))
@settings(max_examples=400)
def test_labels_are_those_of_the_second_implementation(rows, outcomes):
    renamed = [Outcome(**{**vars(outcome), "name": f"x{at}"}) for at, outcome in enumerate(outcomes)]
    check(rows, renamed)


@given(ROWS, OUTCOMES)
def test_attrition_adds_up(rows, outcome):
    labels, attrition = label(frame(rows), Registry((outcome,)))
    held = attrition.rows(named=True)
    assert [row["rule"] for row in held] == [rule for rule in naive.RULES if rule in attrition["rule"]]
    for column in ("patients", "samples"):
        assert held[0][column] - sum(row[column] for row in held[1:-1]) == held[-1][column]
    assert held[-1]["patients"] == labels["subject_id"].n_unique()
    assert held[-1]["samples"] == labels.select("subject_id", "prediction_time").n_unique()


@given(ROWS, OUTCOMES)
def test_longer_windows_hold_what_shorter_ones_hold(rows, outcome):
    labels, _ = label(frame(rows), Registry((outcome,)))
    for _, sample in labels.group_by("subject_id", "prediction_time", maintain_order=True):
        values = sample["boolean_value"].to_list()
        # No, then perhaps unknown, then yes for good, or unknown for good.
        if True in values:
            assert all(values[values.index(True) :])
        elif None in values:
            assert values[values.index(None) :] == [None] * (len(values) - values.index(None))
        assert sample["time_to_event_days"].is_sorted()


@given(ROWS, OUTCOMES)
def test_positives_come_after_the_last_input(rows, outcome):
    labels, _ = label(frame(rows), Registry((outcome,)))
    yes = labels.filter(pl.col("event"))
    assert (yes["time_to_event_days"] > outcome.gap_days).all()
    assert (yes["time_to_event_days"] <= outcome.gap_days + yes["horizon_days"]).all()
    assert (labels["time_to_event_days"] >= 0).all()


@given(ROWS, ROWS, OUTCOMES)
def test_who_is_asked_when_hangs_on_nothing_later(rows, later, outcome):
    """A prediction time stands, whatever comes after it and after the gap, unless `every: latest` or the like asks."""
    cut = START + timedelta(days=10)
    free = outcome.index.at not in ("last_event", "day_end") and outcome.index.every != "latest"
    past = [row for row in rows if row.time is None or row.time <= cut]
    future = [row for row in later if row.time is not None and row.time > cut]
    # A birth or a first clinical event that comes later moves the patient's age or history, never below the cut.
    known = {row.subject for row in past}
    added = past + [row for row in future if row.subject in known]

    def asked(rows):
        labels, _ = label(frame(rows), Registry((outcome,)))
        held = labels.select("subject_id", "prediction_time").unique(maintain_order=True)
        window = cut - timedelta(days=outcome.gap_days)
        return held.filter(pl.col("prediction_time") <= window).rows()

    if past and free:
        assert asked(past) == asked(added)


AT = datetime(2020, 1, 1, 12)
CASE, DEATH = "ICD10CM//C25.1", "MEDS_DEATH"


def one(*events, **settings):
    """Return the label of one sample at AT: gap 2 days, horizon 10 days, followed for a year."""
    held = {"index": Index(at="VISIT//IP//END"), "gap_days": 2, "horizons_days": (10,), **settings}
    rows = [Event(1, AT, "VISIT//IP//END")]
    rows += [Event(1, AT + timedelta(days=days), code) for days, code in events]
    labels = check(rows, [Outcome(name="x", any_of=("ICD10CM//C25",), **held)])
    return [(row["boolean_value"], round(row["time_to_event_days"], 4)) for row in labels.iter_rows(named=True)]


LATER = (365, "ICD10CM//I10")
TINY = 1e-6 / 86_400 * 1.0000001


@pytest.mark.parametrize(
    ("events", "settings", "expected"),
    [
        ([], {}, [(None, 0.0)]),
        ([LATER], {}, [(False, 12.0)]),
        ([(12, "ICD10CM//I10")], {}, [(False, 12.0)]),
        ([(11.5, "ICD10CM//I10")], {}, [(None, 11.5)]),
        ([(3, CASE), LATER], {}, [(True, 3.0)]),
        ([(3, CASE), (4, CASE)], {}, [(True, 3.0)]),
        # The window is (index + gap, index + gap + horizon].
        ([(2, CASE), LATER], {}, []),
        ([(2, CASE), LATER], {"incident_only": False}, [(False, 12.0)]),
        ([(2, CASE), (5, CASE), LATER], {"incident_only": False}, [(True, 5.0)]),
        ([(2 + TINY, CASE), LATER], {}, [(True, 2.0)]),
        ([(12, CASE), LATER], {}, [(True, 12.0)]),
        ([(12 + TINY, CASE), LATER], {}, [(False, 12.0)]),
        # The event at the prediction time itself is a prior case.
        ([(0, CASE), LATER], {"gap_days": 0}, []),
        ([(0, CASE), LATER], {"gap_days": 0, "incident_only": False}, [(False, 10.0)]),
        ([(-1, CASE), (5, CASE)], {}, []),
        ([(-1, CASE), (5, CASE)], {"incident_only": False}, [(True, 5.0)]),
        # Death in the gap or in the window without event before it is a negative; on the same moment, a positive.
        ([(1, DEATH)], {}, [(False, 1.0)]),
        ([(5, DEATH)], {}, [(False, 5.0)]),
        ([(5, DEATH), (6, CASE)], {}, [(False, 5.0)]),
        ([(5, CASE), (5, DEATH)], {}, [(True, 5.0)]),
        ([(5, DEATH)], {"competing": None}, [(None, 5.0)]),
        ([(0, DEATH)], {}, []),
        ([(0, DEATH), (30, "ICD10CM//I10")], {"index": Index(at="VISIT//IP//END", alive=False)}, [(False, 12.0)]),
        # Follow-up that ends first leaves it unknown.
        ([(5, "LEFT//PLAN"), (6, CASE), LATER], {"censor": "LEFT//PLAN"}, [(None, 5.0)]),
        ([(6, CASE), (7, "LEFT//PLAN"), LATER], {"censor": "LEFT//PLAN"}, [(True, 6.0)]),
        ([(5, "LEFT//PLAN"), (6, DEATH)], {"censor": "LEFT//PLAN"}, [(None, 5.0)]),
        ([LATER], {"censor": "LEFT//PLAN"}, [(False, 12.0)]),
        ([(6, CASE), LATER], {"censor": "2020-01-05"}, [(None, 3.5)]),
        ([(3, CASE), LATER], {"censor": "2020-01-05"}, [(True, 3.0)]),
        ([LATER], {"censor": "2019-01-01"}, [(None, 0.0)]),
        ([], {"censor": "2020-01-14"}, [(False, 12.0)]),
        ([], {"censor": "never"}, [(False, 12.0)]),
        # Exclusion looks at or before the prediction time only.
        ([(0, "ICD10CM//Z51.5"), LATER], {"exclude": ("ICD10CM//Z51.5",)}, []),
        ([(1, "ICD10CM//Z51.5"), LATER], {"exclude": ("ICD10CM//Z51.5",)}, [(False, 12.0)]),
    ],
)
def test_edges(events, settings, expected):
    assert one(*events, **settings) == expected


def test_parents_of_the_source_count_as_the_event():
    rows = [Event(1, AT, "VISIT//IP//END"), Event(1, AT + timedelta(days=1), "LOCAL//7")]
    registry = Registry((Outcome(name="x", any_of=("LOCAL//cancer",), horizons_days=(10,)),))
    assert label(frame(rows), registry)[0]["boolean_value"].to_list() == [None]
    assert label(frame(rows), registry, {"LOCAL//7": ("LOCAL//cancer",)})[0]["boolean_value"].to_list() == [True]


def test_labels_hang_on_nobody_else():
    draw = np.random.default_rng(3)
    rows = [
        Event(int(subject), START + timedelta(hours=int(hour)), CODES[code])
        for subject, hour, code in zip(
            draw.integers(1, 200, 4000), draw.integers(0, 1000, 4000), draw.integers(0, len(CODES), 4000), strict=True
        )
    ]
    registry = Registry((Outcome(name="x", any_of=("ICD10CM//C25",), horizons_days=(3, 9), incident_only=False),))
    whole = label(frame(rows), registry)[0]
    halves = [label(frame([row for row in rows if row.subject % 2 == at]), registry)[0] for at in (0, 1)]
    assert pl.concat(halves).sort("subject_id", maintain_order=True).equals(whole)
    assert 0 < whole["boolean_value"].sum() < len(whole)


def test_no_patients_and_no_outcomes():
    labels, attrition = label(
        frame([Event(1, AT, "VISIT//IP//END")]).clear(), Registry((Outcome(name="x", any_of=("A",)),))
    )
    assert labels.schema == LABELS
    assert labels.is_empty()
    assert attrition["samples"].sum() == 0
    labels, attrition = label(frame([Event(1, AT, "VISIT//IP//END")]), Registry(()))
    assert labels.is_empty()
    assert attrition.schema == ATTRITION
