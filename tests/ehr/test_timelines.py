"""Timelines: visits and ages against a loop, nothing from the future, the same through the mapped file."""

import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehr import timelines as t
from ehr.events import EVENTS, order
from ehr.timelines import STATIC, Shard, Timelines, cut
from ehr.vocabulary import Settings, Vocabulary, count, merge

EPOCH = datetime(1970, 1, 1)
HOUR = 3_600_000_000
CODES = (
    "A",
    "B",
    "L",
    "SEX//F",
    "RACE//x",
    "VISIT//IP//START",
    "VISIT//IP//END",
    "VISIT//OP//START",
    "MEDS_BIRTH",
    "Z",
)
# Hours on a grid of six, over days and over gaps of more than ten days.
TIMES = st.one_of(st.none(), st.integers(0, 30).map(lambda at: 6 * at), st.integers(0, 8).map(lambda at: 24 * 9 * at))
EVENT = st.tuples(st.integers(1, 3), TIMES, st.sampled_from(CODES), st.sampled_from([None, 1.0, 2.0, float("nan")]))
ROWS = st.lists(EVENT, max_size=30)


def events(rows):
    """Return EVENTS of (subject, hours, code, value), in canonical order."""
    held = [
        (subject, None if hours is None else EPOCH + timedelta(hours=hours), code, value, None)
        for subject, hours, code, value in rows
    ]
    return order(pl.DataFrame(held, schema=EVENTS, orient="row").lazy()).collect()


def vocabulary(**settings):
    rows = [(1, 0, code, None) for code in CODES[:-1]] + [(1, 0, "L", value) for value in (1.0, 2.0, 3.0)]
    return Vocabulary.fit(
        merge([count(events(rows))]), Settings(min_patients=1, bins=3, min_rows=1, visit_gap_days=10, **settings)
    )


KNOWN, WITH_REPEATS, WITH_CHANGES = vocabulary(), vocabulary(deduplicate=False), vocabulary(changes=True)


def naive(rows, held):
    """Return {subject: [(token, visit, age in days, time)]} and {subject: birth}, event by event."""
    found, births = {}, {}
    for subject in dict.fromkeys(row[0] for row in rows):
        # A stable sort: rows of one moment keep their order.
        own = sorted((row for row in rows if row[0] == subject), key=lambda row: -1 if row[1] is None else row[1])
        dated = [row for row in own if row[1] is not None]
        origin = dated[0][1] if dated else None
        births[subject] = origin if any(row[1] == origin and row[2] == "MEDS_BIRTH" for row in dated) else None
        visit, inside, before, seen, last, tokens = 0, 0, None, set(), {}, []
        for _, hours, code, value in own:
            if hours is not None and code != "MEDS_BIRTH":
                starts = code in ("VISIT//IP//START", "VISIT//OP//START")
                another_day = before is not None and hours // 24 != before // 24 and not inside
                if before is None or starts or hours - before > 240 or another_day:
                    visit += 1
                inside = max(0, inside + starts - (code == "VISIT//IP//END"))
                before = hours
            if code in ("MEDS_BIRTH", "RACE//x"):
                continue
            token = text(code, value, held)
            where = visit if hours is not None else 0
            bare = token.partition("#")[0]
            changes = held.settings.changes and last.get((where, bare), token) != token
            last[where, bare] = token
            if held.settings.deduplicate and (where, token) in seen and not changes:
                continue
            seen.add((where, token))
            age = 0 if hours is None else (hours - origin) / 24
            tokens.append((held.index[token], where, age, STATIC if hours is None else hours * HOUR))
        found[subject] = tokens
    return found, births


def text(code, value, held):
    if code == "Z":
        return "[UNK]"
    if code == "L" and value is not None and not math.isnan(value):
        return f"L#q{sum(value > cut for cut in held.cuts['L'])}"
    return code


def rows_of(shard):
    """Return what a shard holds in the form of `naive`."""
    records = [shard.record(row) for row in range(len(shard.subjects))]
    return {
        r.subject: list(zip(r.token.tolist(), r.visit.tolist(), r.age_days.tolist(), r.time.tolist(), strict=True))
        for r in records
    }, {r.subject: None if r.birth is None else r.birth // HOUR for r in records}


@given(ROWS, st.sampled_from([KNOWN, WITH_REPEATS, WITH_CHANGES]))
def test_timelines_are_those_of_a_loop(rows, held):
    expected, births = naive(rows, held)
    found, origins = rows_of(Shard(t.build(events(rows), held)))
    assert found == {
        subject: [(*row[:2], np.float32(row[2]), row[3]) for row in own] for subject, own in expected.items()
    }
    assert origins == births


def test_visits_begin_with_encounters_days_and_silences():
    rows = [
        (1, None, "SEX//F", None),
        (1, 0, "MEDS_BIRTH", None),
        (1, 24, "A", None),
        (1, 30, "B", None),
        (1, 48, "A", None),
        (1, 72, "VISIT//IP//START", None),
        (1, 100, "A", None),
        (1, 130, "VISIT//OP//START", None),
        (1, 160, "A", None),
        (1, 170, "VISIT//IP//END", None),
        (1, 200, "B", None),
        (1, 500, "A", None),
    ]
    record = Shard(t.build(events(rows), KNOWN)).record(0)
    # The second start opens a visit of its own inside the stay; one end closes one of both, so days do not count.
    assert record.visit.tolist() == [0, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5]
    assert record.time[0] == STATIC
    assert record.age_days.tolist() == pytest.approx([0, *(row[1] / 24 for row in rows[2:])])
    assert record.birth == 0


def test_statics_have_age_zero_and_stand_first():
    record = Shard(t.build(events([(1, 48, "A", None), (1, None, "SEX//F", None)]), KNOWN)).record(0)
    assert [KNOWN.codes[at] for at in record.token] == ["SEX//F", "A"]
    assert record.age_days.tolist() == [0, 0]
    assert record.birth is None


def test_births_count_only_where_nothing_comes_before():
    late = Shard(t.build(events([(1, 24, "A", None), (1, 48, "MEDS_BIRTH", None), (1, 72, "A", None)]), KNOWN)).record(
        0
    )
    assert late.birth is None
    assert late.age_days.tolist() == [0, 2]


@given(ROWS, ROWS, st.integers(0, 200), st.sampled_from([4, 1000]))
def test_nothing_after_the_prediction_time_reaches_a_sample(rows, later, hours, max_length):
    """Events after the prediction time added, changed or taken away: not one bit of the sample differs."""
    past = [row for row in rows if row[1] is None or row[1] <= hours]
    subjects = {row[0] for row in past if row[1] is not None}
    assume(subjects)
    future = [row for row in later if row[1] is not None and row[1] > hours and row[0] in subjects]
    alone, among = (Timelines([Shard(t.build(events(held), KNOWN))]) for held in (past, past + future))
    for subject in subjects:
        first, second = (cut(held.record(subject), hours * HOUR, max_length=max_length) for held in (alone, among))
        assert [array.tobytes() for array in first[2:5]] == [array.tobytes() for array in second[2:5]]
        assert first.query_age_days == second.query_age_days
        assert len(first.token) <= max_length


@given(ROWS, st.integers(-1, 200), st.integers(1, 12))
def test_samples_keep_statics_and_the_latest(rows, hours, max_length):
    held, births = naive(rows, KNOWN)
    source = Timelines([Shard(t.build(events(rows), KNOWN))])
    for subject, tokens in held.items():
        sample = cut(source.record(subject), hours * HOUR, max_length=max_length)
        statics = [row for row in tokens if row[3] == STATIC][:max_length]
        dated = [row for row in tokens if STATIC < row[3] <= hours * HOUR]
        room = max_length - len(statics)
        expected = statics + (dated[-room:] if room else [])
        assert sample.token.tolist() == [row[0] for row in expected]
        assert sample.visit.tolist() == [row[1] for row in expected]
        assert sample.age_days.tolist() == [np.float32(row[2]) for row in expected]
        if births[subject] is not None:
            assert sample.query_age_days == pytest.approx((hours - births[subject]) / 24)


def test_an_event_at_the_prediction_time_is_known():
    record = Shard(t.build(events([(1, 5, "A", None), (1, 10, "B", None)]), KNOWN)).record(0)
    assert len(cut(record, 10 * HOUR, max_length=9).token) == 2
    assert len(cut(record, 10 * HOUR - 1, max_length=9).token) == 1


def test_query_age_without_a_birth_counts_from_the_first_event():
    rows = [(1, 24, "MEDS_DEATH", None), (1, 48, "A", None), (1, 72, "B", None)]
    record = Shard(t.build(events(rows), KNOWN)).record(0)
    assert record.age_days.tolist() == [1, 2]
    assert cut(record, 96 * HOUR, max_length=9).query_age_days == 3
    assert t.first_time(record) == 24 * HOUR
    nobody = Shard(t.build(events([(1, None, "SEX//F", None)]), KNOWN)).record(0)
    assert cut(nobody, 96 * HOUR, max_length=9).query_age_days == 0


@given(ROWS)
def test_timelines_come_back_from_the_mapped_file(tmp_path_factory, rows):
    table = t.build(events(rows), KNOWN)
    path = tmp_path_factory.getbasetemp() / "00000.arrow"
    t.write(table, path)
    back = Shard.open(path)
    assert rows_of(back) == rows_of(Shard(table))
    written = path.read_bytes()
    t.write(table, path)
    assert path.read_bytes() == written


def test_a_mapped_file_is_not_read_into_memory(tmp_path):
    rows = [(subject, at, "A", None) for subject in range(50) for at in range(0, 2000, 24)]
    t.write(t.build(events(rows), KNOWN), tmp_path / "a.arrow")
    before = pa.total_allocated_bytes()
    shard = Shard.open(tmp_path / "a.arrow")
    assert len(shard.token) == len(rows)
    assert pa.total_allocated_bytes() - before < shard.token.nbytes
    assert not shard.token.flags.writeable


def test_subjects_are_found_wherever_they_stand(tmp_path):
    numbers = np.random.default_rng(0).permutation(40)
    files = []
    for at, part in enumerate(np.array_split(numbers, 4)):
        files.append(tmp_path / f"{at}.arrow")
        t.write(t.build(events([(int(n), 24 * int(n), "A", None) for n in part]), KNOWN), files[-1])
    held = Timelines.open(files)
    assert len(held) == 40
    assert held.subjects.tolist() == list(range(40))
    assert [int(held.record(n).time[0]) for n in range(40)] == [24 * n * HOUR for n in range(40)]
    for absent in (-1, 40, 1000):
        with pytest.raises(KeyError):
            held.record(absent)
    assert len(Timelines([])) == 0


def test_files_that_are_no_timelines_are_refused_in_one_line(tmp_path):
    whole = tmp_path / "whole.arrow"
    t.write(t.build(events([(1, 0, "A", None)]), KNOWN), whole)
    (tmp_path / "cut.arrow").write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut\.arrow: not a whole Arrow file"):
        Shard.open(tmp_path / "cut.arrow")
    with pytest.raises(ValueError, match=r"none\.arrow: not a whole Arrow file"):
        Shard.open(tmp_path / "none.arrow")
    other = pa.table({"subject_id": [1]})
    with pa.OSFile(str(tmp_path / "other.arrow"), "wb") as sink, pa.ipc.new_file(sink, other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(ValueError, match="not a file of timelines; prepare the cohort again"):
        Shard.open(tmp_path / "other.arrow")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(t.ipc, "new_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        t.write(t.build(events([]), KNOWN), tmp_path / "a.arrow")
    assert list(tmp_path.iterdir()) == []


def test_no_events_make_no_timelines():
    assert rows_of(Shard(t.build(events([]), KNOWN))) == ({}, {})
