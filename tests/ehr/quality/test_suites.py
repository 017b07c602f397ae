"""Great Expectations and polars count and judge alike; results hold no value of a record."""

import json
import math
import random
from datetime import datetime, timedelta

import polars as pl
import pytest

from ehr.quality import suites
from ehr.quality.profile import PATIENT_GATES, ROW_GATES, sift
from ehr.quality.sequences import OF
from ehr.quality.thresholds import Measure, Thresholds, hold, message
from tests.ehr.quality.naive import Row
from tests.ehr.quality.test_profile import END, RANGES, table

GATES = Thresholds.bounds()


def drawn(seed, rows=800):
    """Return rows with a bit of everything that can be wrong."""
    draw = random.Random(seed)
    return [
        Row(
            draw.choice([None, -2, *range(1, 20)]),
            draw.choice([None, datetime(2020, 1, 1) + timedelta(hours=draw.randrange(300))]),
            draw.choice(["MEDS_BIRTH", "MEDS_DEATH", "A", "B", "C", "LOINC//8867-4", "LOCAL//1", "", None]),
            draw.choice([None, None, 1.0, 60.0, 355.0, -3.0, math.nan, math.inf]),
            draw.choice([None, "x"]),
            draw.choice([*[None] * 9, "bad"]),
        )
        for _ in range(rows)
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_row_by_row_counts_are_those_of_the_profile(seed):
    events = table(drawn(seed))
    expected = sift(events, name="a.parquet", now=END, ranges=RANGES).profile
    found = suites.profile_rows(events, name="a.parquet", now=END, ranges=RANGES)
    assert found.rows(named=True) == expected.rows(named=True)
    assert all(expected[gate].item() > 0 for gate in (*ROW_GATES, *PATIENT_GATES) if gate != "out_of_order")


@pytest.mark.parametrize(
    "rows", [[], [Row(1, None, "A")], [Row(None, None, None)], [Row(4, datetime(2020, 1, 1), "A", 2.0)]]
)
def test_row_by_row_counts_where_nobody_is_born_or_dies(rows):
    expected = sift(table(rows), name="a", now=END).profile
    assert suites.profile_rows(table(rows), name="a", now=END).equals(expected)


def test_row_by_row_counts_of_rows_out_of_order():
    rows = [Row(subject, datetime(2020, 1, at), "A") for subject, at in ((2, 5), (2, 4), (1, 4), (1, 3), (3, 1))]
    events = pl.DataFrame([tuple(row) for row in rows], schema=table([]).schema, orient="row")
    expected = sift(events, name="a", now=END).profile
    assert suites.profile_rows(events, name="a", now=END)["out_of_order"].item() == expected["out_of_order"].item() == 3


def test_suites_judge_as_score_does():
    """`score` holds the same measures without Great Expectations."""
    draw = random.Random(7)
    thresholds = Thresholds(future=0.2, unreadable=0.0, min_count=3)
    for _ in range(3):
        measures = {}
        for gate in GATES:
            of = draw.randrange(1, 2000)
            most = thresholds.allowed(gate, of)
            measures[gate] = Measure(max(0, min(of, most + draw.choice([-1, 0, 1, 2]))), of, "a:1")
        found = suites.check("events", measures, thresholds)
        failed = {gate.expectation for gate in found if not gate.success}
        assert failed == {violation.expectation for violation in hold(measures, thresholds)}
        assert {gate.expectation: (gate.found, gate.of, gate.where) for gate in found} == measures
        if failed:
            with pytest.raises(ValueError, match=r"^gate ") as error:
                suites.enforce(found)
            assert str(error.value) == message(hold(measures, thresholds))
    suites.enforce(suites.check("events", {"future": Measure(2, 10)}, thresholds))


def test_every_gate_has_a_count():
    predictions = {"null_probability", "outside_unit_interval", "repeated", "falls_with_horizon"}
    assert set(GATES) == {*ROW_GATES, *PATIENT_GATES, *OF, "drifted_codes"} | predictions


def test_no_value_of_a_record_reaches_results_or_data_docs(tmp_path):
    secret = "SECRET-7261"
    rows = [Row(987654321, datetime(2031, 5, 6), f"{secret}", 41.2345, secret), Row(1, datetime(2020, 1, 1), "A")]
    events = table(rows)
    counted = suites.unexpected("rows", suites.tables(events, now=END, ranges={}).rows, suites.row_expectations())
    assert counted["future"] == 1
    profile = sift(events, name="a.parquet", now=END).profile
    measures = {"future": Measure(profile["future"].item(), 2, "a.parquet:2")}
    gates = suites.check("events", measures, Thresholds(), data_docs=tmp_path / "docs")
    written = [path.read_text(errors="replace") for path in (tmp_path / "docs").rglob("*") if path.is_file()]
    assert any("html" in page for page in written)
    for text in (json.dumps([gate._asdict() for gate in gates]), *written):
        assert secret not in text
        assert "987654321" not in text
        assert "41.2345" not in text


def test_what_is_validated_keeps_only_counts():
    """The results of Great Expectations themselves, not only what we take of them."""
    secret = 123454321.0
    frame = pl.DataFrame({"numeric_value": [secret, 1.0]}).to_pandas()
    for form in (suites.WITHOUT_VALUES, suites.COUNTS_ONLY):
        held = [suites.gxe.ExpectColumnValuesToBeBetween(column="numeric_value", max_value=2)]
        outcome = suites.validate("values", frame, held, form)
        assert not outcome.success
        assert "12345432" not in json.dumps(outcome.to_json_dict())
