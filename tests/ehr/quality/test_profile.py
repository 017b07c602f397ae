"""The profile of a shard against a row-by-row count, the rows it rejects, and where it says gates begin."""

import math
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.events import EVENTS, order
from ehr.quality import profile as p
from ehr.quality.thresholds import Measure
from tests.ehr.quality import naive
from tests.ehr.quality.naive import Row

NOW = datetime(2020, 1, 10, 23, 59)
END = int((NOW - datetime(1970, 1, 1)) / timedelta(microseconds=1))
CODES = st.sampled_from(["MEDS_BIRTH", "MEDS_DEATH", "A", "LOINC//8867-4", "LOCAL//1", "", None])
TIMES = st.one_of(st.none(), st.integers(0, 60).map(lambda at: datetime(2020, 1, 1) + timedelta(hours=6 * at)))
VALUES = st.sampled_from([None, None, 0.0, 60.0, 350.0, 351.0, -1.0, math.nan, math.inf])
SUBJECTS = st.sampled_from([None, -4, 1, 1, 2, 3])
ROW = st.builds(Row, SUBJECTS, TIMES, CODES, VALUES, st.sampled_from([None, "x"]), st.sampled_from([None, None, "bad"]))
ROWS = st.lists(ROW, max_size=25)
RANGES = {"LOCAL//1": (0.0, 59.0)}


def table(rows):
    """Return EVENTS of rows, in canonical order, with the column reject."""
    schema = pl.Schema({**EVENTS, "reject": pl.String()})
    return order(pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row").lazy()).collect()


def in_order(rows):
    return sorted(rows, key=naive.key)


def sift(rows, **how):
    return p.sift(table(rows), name="a.parquet", now=END, **how)


@given(ROWS)
def test_counts_are_those_of_a_loop(rows):
    counts, reasons = naive.profile(in_order(rows), NOW, RANGES)
    found = sift(rows, ranges=RANGES)
    row = found.profile.row(0, named=True)
    assert row["name"] == "a.parquet"
    assert {gate: number for gate, number in row.items() if gate != "name" and number} == +counts
    kept = [held for held, reason in zip(in_order(rows), reasons, strict=True) if reason is None]
    assert found.events.schema == EVENTS
    assert found.events.rows() == [tuple(held[:5]) for held in kept]
    numbered = enumerate(zip(in_order(rows), reasons, strict=True), start=1)
    listed = [(at, held.reject if reason == "unreadable" else reason) for at, (held, reason) in numbered if reason]
    assert found.rejected.rows() == [("a.parquet", at, reason) for at, reason in listed]


@given(ROWS)
def test_rejected_rows_are_numbered_as_in_their_file(rows):
    whole, later = sift(rows), sift(rows, first_row=101)
    assert (later.rejected["row"] - whole.rejected["row"] == 100).all()
    number = pl.int_range(pl.len()).cast(pl.Int64) * 7
    named = table(rows).with_columns(number.alias("row"), pl.format("f{}", number).alias("file"))
    found = p.sift(named, name="a.parquet", now=END).rejected
    assert found["row"].to_list() == [(row - 1) * 7 for row in whole.rejected["row"]]
    assert found["file"].to_list() == [f"f{row}" for row in found["row"]]
    assert found["reason"].equals(whole.rejected["reason"])


@given(ROWS)
def test_without_gates_the_same_rows_go(rows):
    counted, bare = sift(rows), sift(rows, counted=False)
    assert bare.events.equals(counted.events)
    assert bare.rejected.equals(counted.rejected)
    assert bare.profile["duplicates"].sum() == bare.profile["implausible"].sum() == 0


def day(number, hour=12):
    return datetime(2020, 1, number, hour)


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        # Birth and death count by whole days; after death there is a day of grace.
        ([Row(1, day(2), "MEDS_BIRTH"), Row(1, day(2, 0), "A")], []),
        ([Row(1, day(2), "MEDS_BIRTH"), Row(1, day(1, 23), "A")], ["before_birth"]),
        ([Row(1, day(2), "MEDS_DEATH"), Row(1, day(3, 23), "A")], []),
        ([Row(1, day(2), "MEDS_DEATH"), Row(1, day(4, 0), "A")], ["after_death"]),
        # The first in order counts; a birth or death that cannot be used does not.
        ([Row(1, day(2), "MEDS_BIRTH"), Row(1, day(5), "MEDS_BIRTH"), Row(1, day(3), "A")], []),
        ([Row(1, day(2), "MEDS_DEATH", reject="bad"), Row(1, day(5), "A")], ["bad"]),
        ([Row(1, None, "MEDS_DEATH"), Row(1, day(5), "A")], []),
        # Statics have no time to be wrong about.
        ([Row(1, day(5), "MEDS_BIRTH"), Row(1, None, "SEX//F")], []),
        ([Row(1, NOW, "A")], []),
        ([Row(1, NOW + timedelta(microseconds=1), "A")], ["future"]),
        ([Row(1, datetime(2030, 1, 1), "MEDS_DEATH"), Row(1, day(1), "A")], ["future"]),
        # The first reason of several is listed.
        ([Row(None, None, None, math.nan)], ["null_subject"]),
        ([Row(-1, None, None, math.nan)], ["negative_subject"]),
        ([Row(0, None, "", math.inf)], ["null_code"]),
        ([Row(0, None, "A", -math.inf)], ["not_finite"]),
        ([Row(0, None, "A")], []),
    ],
)
def test_edges(rows, reasons):
    assert sift(rows).rejected["reason"].to_list() == reasons


def test_order_is_counted_in_rows_that_come_before_the_one_ahead():
    rows = [Row(2, day(2), "A"), Row(2, day(1), "A"), Row(2, None, "A"), Row(1, day(5), "A"), Row(1, day(5), "B")]
    frame = pl.DataFrame(
        [tuple(row) for row in rows], schema=pl.Schema({**EVENTS, "reject": pl.String()}), orient="row"
    )
    found = p.sift(frame, name="a", now=END)
    assert found.profile["out_of_order"].item() == naive.profile(rows, NOW)[0]["out_of_order"] == 3


def test_no_column_of_values_and_no_column_of_rejects():
    rows = [Row(1, day(1), "A"), Row(1, day(2), "B")]
    frame = table(rows).drop("reject")
    assert p.sift(frame, name="a", now=END).events.equals(frame)
    assert len(p.sift(frame.clear(), name="a", now=END).events) == 0


def test_measures_add_up_and_name_the_first_offenders():
    first = [Row(1, day(1), "A"), Row(1, day(1), "A"), Row(1, day(2), ""), Row(1, datetime(2031, 1, 1), "A")]
    second = [Row(2, day(1), "A", reject="no date"), Row(2, day(1), ""), *[Row(3, day(1), "")] * 4]
    sifted = [p.sift(table(rows), name=name, now=END) for rows, name in ((first, "a"), (second, "b"))]
    profiles = pl.concat([held.profile for held in sifted])
    rejected = pl.concat([held.rejected for held in sifted])
    found = p.measures(profiles, rejected)
    assert found["null_code"] == Measure(6, 10, "a:3, b:2, b:3")
    assert found["future"] == Measure(1, 10, "a:4")
    assert found["unreadable"] == Measure(1, 10, "b:1")
    assert found["duplicates"] == Measure(2, 10, "a")
    assert found["no_birth"] == Measure(1, 1, "a")
    assert found["before_birth"] == Measure(0, 10, "")
    assert p.measures(profiles)["null_code"].where == "a, b"
    assert list(found) == [*p.ROW_GATES, *p.PATIENT_GATES]
