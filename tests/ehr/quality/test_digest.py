"""Digests: counts of patients by a second, plain way; adding up; and nobody to be found in what leaves the house."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehr.events import EVENTS
from ehr.quality import digest
from ehr.quality.digest import Counts, Digest, Reading
from tests.pipelines import cohorts

CUTS = {"LOINC//718-7": (10.0, 12.0, 14.0)}
READING = Reading(lambda code: not code.startswith("ICD10CM//R"), ("MEDS_BIRTH",), CUTS)


def latest(events):
    times = events.group_by("subject_id").agg(pl.col("time").max().alias("prediction_time"))
    return times.sort("subject_id")


@pytest.fixture(scope="module")
def events():
    return cohorts.events(60)


@pytest.fixture(scope="module")
def whole(events):
    return digest.digest(digest.count(digest.features(events, latest(events), READING)), CUTS)


def test_codes_and_feeds_by_loops(events, whole):
    have: dict[str, set[int]] = {}
    labs: dict[int, int] = {}
    for subject, code in events.select("subject_id", "code").iter_rows():
        have.setdefault(code, set()).add(subject)
        labs[subject] = labs.get(subject, 0) + code.startswith("LOINC//")
    assert whole.everyone == 60
    for code, subjects in have.items():
        if code != "MEDS_BIRTH":
            assert whole.tables["code", code] == Counts((0.0,), (60 - len(subjects), len(subjects)))
    assert ("code", "MEDS_BIRTH") not in whole.tables
    counts = whole.tables["feed", "LOINC"]
    for cut, below in zip(counts.cuts, range(1, len(counts.cuts) + 1), strict=True):
        assert sum(counts.patients[:below]) == sum(number <= cut for number in labs.values())


def test_last_values_and_unknown_shares_by_loops(events, whole):
    last: dict[int, float] = {}
    read: dict[int, list[bool]] = {}
    for subject, _, code, value, _ in events.iter_rows():
        if code == "LOINC//718-7":
            last[subject] = value
        if code != "MEDS_BIRTH":
            read.setdefault(subject, []).append(code.startswith("ICD10CM//R"))
    bins = [sum(value > cut for cut in CUTS["LOINC//718-7"]) for value in last.values()]
    assert whole.tables["value", "LOINC//718-7"].patients == tuple(bins.count(i) for i in range(4))
    shares = [sum(unknown) / len(unknown) for unknown in read.values()]
    bins = [sum(share > cut for cut in digest.SHARES) for share in shares]
    assert whole.tables["unknown", "share"].patients == tuple(bins.count(i) for i in range(len(digest.SHARES) + 1))


def test_each_patient_counts_once_in_each_table(whole):
    for (kind, name), counts in whole.tables.items():
        assert len(counts.patients) == len(counts.cuts) + 1
        assert sum(counts.patients) == whole.everyone or kind == "value", name


def test_what_lies_after_the_time_is_not_read(events):
    times = latest(events).with_columns(pl.col("prediction_time") - timedelta(days=200))
    cut = events.join(times, on="subject_id", maintain_order="left")
    early = cut.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))).select(EVENTS.names())
    assert_frame_equal(
        digest.count(digest.features(events, times, READING)), digest.count(digest.features(early, times, READING))
    )


def test_tallies_of_parts_add_up(events, whole):
    parts = [events.filter(pl.col("subject_id") % 3 == at) for at in range(3)]
    tallies = [digest.count(digest.features(part, latest(part), READING)) for part in parts]
    assert digest.digest(digest.add(tallies), CUTS) == whole


def test_whom_the_model_knows_nothing_of_is_left_out():
    rows = [(1, datetime(2020, 1, 1), "ICD10CM//R05"), (2, datetime(2020, 1, 1), "ICD10CM//I10")]
    events = pl.DataFrame(rows, schema=["subject_id", "time", "code"], orient="row")
    events = events.with_columns(numeric_value=None, text_value=None).cast(dict(EVENTS))
    found = digest.features(events, latest(events), READING)
    assert found["subject_id"].unique().to_list() == [2]
    assert (
        digest.digest(digest.count(digest.features(events.clear(), latest(events).clear(), READING)), CUTS).everyone
        == 0
    )


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_merging_leaves_no_small_cell_and_loses_nobody(patients):
    held = Counts(tuple(float(i) for i in range(len(patients) - 1)), tuple(patients))
    found = digest.merge(held, 10)
    assert sum(found.patients) == sum(patients)
    assert len(found.patients) == 1 or not any(0 < number < 10 for number in found.patients)
    ends = {cut: sum(patients[: i + 1]) for i, cut in enumerate(held.cuts)}
    for i, cut in enumerate(found.cuts):
        assert sum(found.patients[: i + 1]) == ends[cut]


def test_what_leaves_the_house_names_no_code_of_few(whole):
    kept = digest.suppressed(whole)
    assert kept.tables
    assert not [counts for counts in kept.tables.values() if any(0 < number < 10 for number in counts.patients)]
    rare = Digest({("code", "NOTE//her name"): Counts((0.0,), (97, 3)), ("code", "I10"): Counts((0.0,), (97, 3))}, 100)
    assert list(digest.without_rare(rare, lambda code: code == "I10").tables) == [("code", "I10")]


def test_json_and_back(whole):
    assert digest.from_json(digest.to_json(whole)) == whole
    for wrong in (
        {},
        {"everyone": 1, "tables": {"code": {"a": {"cuts": [0], "patients": [1]}}}},
        {"tables": [], "everyone": 1},
    ):
        with pytest.raises(ValueError, match="digest"):
            digest.from_json(wrong)
