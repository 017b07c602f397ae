"""Plain tables by a column map: small maps and tables, spoiled ones, and the shared sets counted in plain Python."""

import csv
import gzip
import io
import math
import random
import re
import shutil
import tempfile
from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehr.events import EVENTS
from ehr.sources import rows, sheets, table
from ehr.sources.detect import open_source
from ehr.sources.parts import subject_of
from ehr.sources.table import times
from ehr.sources.table.parse import read
from pipelines import shards

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "fixtures" / "tables"
GOLDEN = sorted(folder.name for folder in FIXTURES.iterdir())
MAPS = ROOT / "configs" / "columns"
START = datetime(2000, 1, 1)


def expected(name, key="patient"):
    text = pl.read_csv(FIXTURES / name / "expected.csv", infer_schema=False)
    whole = text[key].str.contains(r"^(0|[1-9]\d*)$")
    subject = text[key].cast(pl.Int64, strict=False).zip_with(whole, subject_of(text[key]))
    events = text.select(
        subject.alias("subject_id"),
        pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us"),
        "code",
        pl.col("numeric_value").cast(pl.Float32),
        "text_value",
    )
    return events.sort("subject_id", maintain_order=True)


def copy(name, folder):
    return shutil.copytree(FIXTURES / name, folder / name, ignore=shutil.ignore_patterns("expected.csv"))


@pytest.mark.parametrize("name", GOLDEN)
def test_hand_made_tables_give_the_events_written_down(name):
    columns = FIXTURES / name / "columns.yaml"
    found = table.scan(FIXTURES / name, columns)
    assert isinstance(found, pl.LazyFrame)
    assert_frame_equal(found.collect(), expected(name))
    source = open_source(FIXTURES / name, columns=columns)
    assert (source.format, source.version) == ("table", "1")
    assert source.patients is not None
    own = pl.read_csv(FIXTURES / name / "expected.csv", infer_schema=False)["patient"]
    assert set(source.patients.collect()["patient"]) == set(own)
    assert set(source.patients.collect()["subject_id"]) == set(expected(name)["subject_id"])


@pytest.mark.parametrize("name", GOLDEN)
def test_shards_hold_what_is_written_down(name, tmp_path):
    source = table.open(FIXTURES / name, FIXTURES / name / "columns.yaml")
    loaded = pl.concat([shards.load(shard) for shard in shards.divide(source, tmp_path / "spread")])
    assert loaded["reject"].null_count() == len(loaded)
    found = loaded.select(EVENTS.names()).sort("subject_id", maintain_order=True)
    assert_frame_equal(found, expected(name))


def test_maps_on_the_page_are_those_tested_here():
    page = (ROOT / "docs" / "how-to" / "tables.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    for name in ("icu", "encounters", "labs"):
        assert yaml.safe_load((FIXTURES / name / "columns.yaml").read_text(encoding="utf-8")) in blocks
    # Every key stands on the page.
    for key in (
        "description", "separator", "missing", "stays", "tables", "files", "key", "subject", "stay", "where", "unless",
        "time", "column", "format", "order", "days_apart", "from", "offset", "subtract", "unit", "visit", "type",
        "values", "start", "end", "birth", "date", "age", "static", "events", "code", "columns", "value", "text",
    ):  # fmt: skip
        assert re.search(rf"`[^`\n]*\b{key}\b[^`\n]*`", page), f"the page says nothing of {key}"


def write(folder, content, **files):
    """Write a map as columns.yaml, and files of the same stem and ending csv."""
    for name, lines in files.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "columns.yaml").write_text(content, encoding="utf-8")
    return folder, folder / "columns.yaml"


def found(*where):
    """Return subject, time and code of every event, with value and text where there are any."""
    return [
        tuple(cell for i, cell in enumerate(row) if i < 3 or cell is not None)
        for row in table.scan(*where).collect().rows()
    ]


def listed(*where):
    parts = table.open(*where).parts
    frames = [part.events.with_columns(pl.lit(part.name).alias("file")) for part in parts]
    bad = pl.concat(pl.collect_all(frames)).filter(pl.col("reject").is_not_null())
    return bad.select("file", "row", "reject").rows()


def one(files, subject, *keys):
    """Return a map of one table."""
    return "\n".join(
        ["tables:", "  all:", f"    files: {files}", f"    subject: {subject}", *(f"    {k}" for k in keys)]
    )


def test_subject_from_a_column(tmp_path):
    where = write(tmp_path, one("a.csv", "id", "static: [{code: 'X//{x}'}]"), a=["id,x", "7,p", "B 7,q", "07,r"])
    b, zero = subject_of(pl.Series(["B 7", "07"])).to_list()
    assert sorted(found(*where)) == sorted([(7, None, "X//p"), (b, None, "X//q"), (zero, None, "X//r")])


def test_subject_from_the_row(tmp_path):
    where = write(tmp_path, one("a.csv", "row", "static: [{code: 'X//{x}'}]"), a=["x", "p", "q"])
    assert found(*where) == [(1, None, "X//p"), (2, None, "X//q")]


def test_subject_from_the_name_of_the_file(tmp_path):
    content = one("'*.csv'", "file", "static: [{code: 'X//{x}'}]")
    where = write(tmp_path, content, a=["x", "p"], **{"12": ["x", "q"], ".hidden": ["y"]})
    assert found(*where) == [(12, None, "X//q"), (subject_of(pl.Series(["a"]))[0], None, "X//p")]


def test_subject_from_a_column_called_row(tmp_path):
    content = one("a.csv", "{column: row}", "static: [{code: 'X//{x}'}]")
    where = write(tmp_path, content, a=["row,x", "5,p"])
    assert found(*where) == [(5, None, "X//p")]


def test_long_columns(tmp_path):
    keys = ["time: t", "events: [{code: 'L//{test}', value: v, text: unit}]"]
    lines = ["id,t,test,v,unit", "1,2020-01-01,Na,140,mmol/L", "1,2020-01-02,K,,", "1,2020-01-03,,4,mmol/L"]
    where = write(tmp_path, one("a.csv", "id", *keys), a=lines)
    assert found(*where) == [(1, datetime(2020, 1, 1), "L//Na", 140.0, "mmol/L")]


def test_wide_columns(tmp_path):
    keys = [
        "time: t",
        "events: [{code: 'L//{column}', columns: [Na, K], value: cell}, {code: 'C//{cell}', columns: [d]}]",
    ]
    lines = ["id,t,Na,K,d", "1,2020-01-01,140,,E11", "1,2020-01-02,,4.5,"]
    first, second = datetime(2020, 1, 1), datetime(2020, 1, 2)
    assert found(*write(tmp_path, one("a.csv", "id", *keys), a=lines)) == [
        (1, first, "L//Na", 140.0),
        (1, first, "C//E11"),
        (1, second, "L//K", 4.5),
    ]


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2020-02-29", datetime(2020, 2, 29)),
        (" 2020-02-29 17:05 ", datetime(2020, 2, 29, 17, 5)),
        ("2020-02-29T17:05:09", datetime(2020, 2, 29, 17, 5, 9)),
        ("2020-02-29 17:05:09.25", datetime(2020, 2, 29, 17, 5, 9, 250_000)),
        ("2020-02-29T00:30:00+01:00", datetime(2020, 2, 28, 23, 30)),
        ("2020-02-29T00:30:00Z", datetime(2020, 2, 29, 0, 30)),
        ("1890-12-31", datetime(1890, 12, 31)),
    ],
)
def test_absolute_times(tmp_path, written, time):
    where = write(tmp_path, one("a.csv", "id", "time: t", "events: [{code: A}]"), a=["id,t", f"1,{written}"])
    assert found(*where) == [(1, time, "A")]


@pytest.mark.parametrize(
    ("format", "written", "time"),
    [
        ("%d.%m.%Y", "03.02.2021", datetime(2021, 2, 3)),
        ("%m/%d/%Y %I:%M %p", "02/03/2021 09:05 PM", datetime(2021, 2, 3, 21, 5)),
        ("%Y%m%d%H%M", "202102032105", datetime(2021, 2, 3, 21, 5)),
        ("%Y-%m-%dT%H:%M:%S%z", "2021-02-03T21:05:00+0200", datetime(2021, 2, 3, 19, 5)),
    ],
)
def test_times_of_a_format(tmp_path, format, written, time):
    content = one("a.csv", "id", f"time: {{column: t, format: '{format}'}}", "events: [{code: A}]")
    assert found(*write(tmp_path, content, a=["id,t", f"1,{written}", "2,2021"])) == [(1, time, "A")]
    assert listed(tmp_path, tmp_path / "columns.yaml") == [("a.csv", 2, "t: not a date or time")]


UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800, "years": 31_557_600}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("step", ["offset", "subtract"])
def test_offsets_from_an_anchor(tmp_path, unit, step):
    content = one("a.csv", "id", f"time: {{{step}: n, unit: {unit}, from: 2000-01-01}}", "events: [{code: A}]")
    shift = timedelta(seconds=1.5 * UNITS[unit]) * (1 if step == "offset" else -1)
    assert found(*write(tmp_path, content, a=["id,n", "1,1.5"])) == [(1, START + shift, "A")]


def test_offsets_from_a_column_of_dates_and_of_a_fixed_size(tmp_path):
    keys = [
        "time: {offset: n, unit: hours, from: admitted}",
        "events: [{code: A}, {code: B, time: {offset: 30, unit: days, from: time}}, {code: C, time: {from: admitted}}]",
    ]
    where = write(tmp_path, one("a.csv", "id", *keys), a=["id,admitted,n", "1,2020-01-01 10:00,-2"])
    assert found(*where) == [
        (1, datetime(2020, 1, 1, 8), "A"),
        (1, datetime(2020, 1, 1, 10), "C"),
        (1, datetime(2020, 1, 31, 8), "B"),
    ]


def test_order_only(tmp_path):
    # Numbers in the order of numbers, others of letters; equal keys share a place; each subject begins anew.
    content = one(
        "[a.csv, b.csv]", "id", "time: {order: n, days_apart: 0.5, from: 2000-01-01}", "events: [{code: 'A//{x}'}]"
    )
    where = write(
        tmp_path, content, a=["id,n,x", "1,10,ten", "2,z,last", "1,9,nine"], b=["id,n,x", "1,10,also", "2,3,first"]
    )
    half = timedelta(days=0.5)
    assert found(*where) == [
        (1, START, "A//nine"),
        (1, START + half, "A//ten"),
        (1, START + half, "A//also"),
        (2, START, "A//first"),
        (2, START + half, "A//last"),
    ]


@pytest.mark.parametrize(
    ("birth", "cell", "born"),
    [
        ("{age: age, unit: years}", "20", START - timedelta(days=20 * 365.25)),
        ("{age: age, unit: years}", "[70-80)", START - timedelta(days=75 * 365.25)),
        ("{age: age, unit: years}", "30 to 34", START - timedelta(days=32 * 365.25)),
        ("{age: age, unit: days}", "3", START - timedelta(days=3)),
        ("{age: age, unit: weeks, values: {newborn: 0}}", "newborn", START),
        ("{age: age, unit: years, values: {'> 89': 90}}", "> 89", START - timedelta(days=90 * 365.25)),
        ("{date: age}", "1961-11-11", datetime(1961, 11, 11)),
        ("{date: {column: age, format: '%d/%m/%y'}}", "11/12/61", datetime(2061, 12, 11)),
        ("{date: {from: time, subtract: age, unit: days}}", "2", START - timedelta(days=2)),
    ],
)
def test_birth_from_an_age_or_a_date(tmp_path, birth, cell, born):
    content = one("a.csv", "id", "time: t", f"birth: {birth}")
    assert found(*write(tmp_path, content, a=["id,t,age", f"1,2000-01-01,{cell}"])) == [(1, born, "MEDS_BIRTH")]


@pytest.mark.parametrize("cell", ["-1", "151", "old", "inf", "NaN"])
def test_ages_that_are_none_give_no_birth(tmp_path, cell):
    content = one("a.csv", "id", "time: t", "birth: {age: age}", "events: [{code: A}]")
    where = write(tmp_path, content, a=["id,t,age", f"1,2000-01-01,{cell}", "2,2000-01-01,"])
    assert found(*where) == [(1, START, "A"), (2, START, "A")]
    assert [(row, why) for _, row, why in listed(*where)] == [(1, "age: not an age in years")]


def test_facts_and_birth_are_the_first_that_is_told(tmp_path):
    keys = ["time: t", "birth: {age: age}", "static: [{code: 'SEX//{sex}'}]"]
    lines = ["id,t,sex,age", "1,2010-01-01,F,40", "1,2001-01-01,,", "1,2000-01-01,M,20"]
    where = write(tmp_path, one("'*.csv'", "id", *keys), a=lines, b=["id,t,sex,age", "1,1999-01-01,,"])
    assert found(*where) == [(1, None, "SEX//M"), (1, START - timedelta(days=20 * 365.25), "MEDS_BIRTH")]


def test_visits_stand_around_what_happens_in_them_and_death_last(tmp_path):
    keys = [
        "time: t",
        "visit: {type: '{kind}', values: {I: INPATIENT, X: }, end: out}",
        "events: [{code: MEDS_DEATH, where: {died: 1}}, {code: A}, {code: B, time: {from: end}}]",
    ]
    lines = ["id,t,out,kind,died", "1,2000-01-01,2000-01-01,I,1", "2,2000-01-01,,O,0", "3,2000-01-01,2000-01-02,X,0"]
    assert [row[:1] + row[2:] for row in found(*write(tmp_path, one("a.csv", "id", *keys), a=lines))] == [
        (1, "VISIT//INPATIENT//START"),
        (1, "A"),
        (1, "B"),
        (1, "VISIT//INPATIENT//END"),
        (1, "MEDS_DEATH"),
        (2, "VISIT//O//START"),
        (2, "A"),
        (3, "A"),
        (3, "B"),
    ]


def test_missing_signs_and_choices_of_rows_and_names_of_cells(tmp_path):
    content = "\n".join(
        [
            "missing: [-9]",
            "tables:",
            "  all:",
            "    files: a.csv",
            "    missing: [NA]",
            "    subject: id",
            "    time: t",
            "    where: {kind: [lab, note]}",
            "    unless: {status: void}",
            "    events:",
            "      - {code: 'L//{x}', where: {kind: lab}, missing: ['?'], values: {1.0: one, 2: null}}",
            "      - {code: N, where: {kind: note}, text: x}",
        ]
    )
    lines = ["id,t,kind,status,x"]
    lines += [f"1,2020-01-0{i},{row}" for i, row in enumerate(["lab,,1", "lab,ok,2", "lab,void,1", "lab,,?"], start=1)]
    lines += [f"1,2020-01-0{i},{row}" for i, row in enumerate(["note,,?", "note,,NA", "other,,1", "lab,,-9"], start=5)]
    assert found(*write(tmp_path, content, a=lines)) == [
        (1, datetime(2020, 1, 1), "L//one"),
        (1, datetime(2020, 1, 5), "N", "?"),
    ]


def test_blank_lines_say_nothing_and_rows_keep_their_numbers(tmp_path):
    content = one("a.csv", "id", "time: t", "events: [{code: A}]")
    where = write(tmp_path, content, a=["id,t,more", "1,2020-01-01,", "", ",,", ",,x", "2,,", "", ""])
    assert found(*where) == [(1, datetime(2020, 1, 1), "A")]
    assert listed(*where) == [("a.csv", 5, "t: empty; expected a time")]


def test_one_file_may_be_passed_by_itself(tmp_path):
    folder, columns = write(tmp_path, one("'*.csv'", "id", "static: [{code: A}]"), a=["id", "1"], b=["id", "2"])
    assert found(folder / "a.csv", columns) == [(1, None, "A")]
    (tmp_path / "c.txt").write_text("id\n3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"c.txt: .* expects \*.csv for all; pass their folder$"):
        table.open(tmp_path / "c.txt", columns)


def as_gzip(file):
    file.write_bytes(gzip.compress(file.read_bytes()))


def with_a_mark(file):
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))


def with_quotes(file):
    held = list(csv.reader(io.StringIO(file.read_text("utf-8")), delimiter=";"))
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, delimiter=";", quoting=csv.QUOTE_ALL).writerows(held)


def with_spaces_and_more_columns(file):
    held = list(csv.reader(io.StringIO(file.read_text("utf-8")), delimiter=";"))
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, delimiter=";").writerows([["more", *(f" {cell} " for cell in row)] for row in held])


@pytest.mark.parametrize("form", [as_gzip, with_a_mark, with_quotes, with_spaces_and_more_columns])
def test_every_form_of_a_delimited_file_says_the_same(form, tmp_path):
    folder = copy("labs", tmp_path)
    form(folder / "labs.csv")
    assert_frame_equal(table.scan(folder, folder / "columns.yaml").collect(), expected("labs"))


def test_parquet_of_any_type_says_the_same(tmp_path):
    content = one(
        "a.parquet", "id", "time: t", "birth: {date: born}", "static: [{code: 'SEX//{sex}'}]",
        "events: [{code: 'A//{n}', value: v}, {code: 'B//{flag}'}, {code: 'Z', time: zoned}]",
    )  # fmt: skip
    folder, columns = write(tmp_path, content)
    frame = pl.DataFrame(
        {
            "id": [7.0, 8.0],
            "t": [datetime(2020, 1, 2, 3, 4, 5, 678_900), None],
            "born": [date(1961, 11, 11), None],
            "sex": pl.Series(["F", None], dtype=pl.Categorical),
            "n": pl.Series([3, None], dtype=pl.UInt8),
            "v": pl.Series([0.1, None], dtype=pl.Float32),
            "flag": [True, None],
            "zoned": pl.Series([datetime(2020, 7, 1, 12), None]).dt.replace_time_zone("Europe/Berlin"),
        }
    )
    frame.write_parquet(folder / "a.parquet")
    when = datetime(2020, 1, 2, 3, 4, 5, 678_900)
    assert found(folder, columns) == [
        (7, None, "SEX//F"),
        (7, datetime(1961, 11, 11), "MEDS_BIRTH"),
        (7, when, "A//3", pytest.approx(0.1)),
        (7, when, "B//true"),
        (7, datetime(2020, 7, 1, 10), "Z"),
    ]
    assert listed(folder, columns) == [("a.parquet", 2, "t: empty; expected a time")]


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["labs", "hospital", "survey", "icu"]), st.randoms(use_true_random=False))
def test_the_order_of_rows_in_the_files_does_not_matter(name, chance):
    names = EVENTS.names()
    with tempfile.TemporaryDirectory() as place:
        folder = copy(name, Path(place))
        for file in [] if name == "survey" else folder.rglob("*.csv"):
            head, *lines = file.read_text(encoding="utf-8").splitlines()
            chance.shuffle(lines)
            file.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
        got = table.scan(folder, folder / "columns.yaml").collect()
    assert_frame_equal(got.sort(names), expected(name).sort(names))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-20, 20)), min_size=1, max_size=12), st.randoms())
def test_places_in_an_order_hang_on_keys_and_not_on_rows(keys, chance):
    want = Counter()
    for subject, key in keys:
        place = len({k for s, k in keys if s == subject and k < key})
        want[(subject, START + timedelta(days=7 * place), f"A//{key}")] += 1
    chance.shuffle(keys)
    content = one("a.csv", "id", "time: {order: n, days_apart: 7, from: 2000-01-01}", "events: [{code: 'A//{n}'}]")
    with tempfile.TemporaryDirectory() as place:
        where = write(Path(place), content, a=["id,n", *(f"{subject},{key}" for subject, key in keys)])
        assert Counter(found(*where)) == want


WRITTEN = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\A[0-9+-]{1,6}[-/.][0-9]{1,3}[-/.][0-9]{1,3}([T ][0-9:.]{1,18}([Z]|[+-][0-9:]{1,6})?)?\Z"),
)


@given(st.lists(WRITTEN, max_size=20))
def test_no_text_breaks_the_reading_of_dates(cells):
    held = pl.DataFrame({"cell": cells}, schema={"cell": pl.String})
    for format in (None, "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%S%z"):
        read_as = held.select(sheets.moment(pl.col("cell"), format)).to_series()
        assert read_as.dtype == pl.Datetime("us")
        assert len(read_as) == len(cells)


@given(st.lists(WRITTEN, max_size=20))
def test_no_text_breaks_the_reading_of_numbers(cells):
    held = pl.DataFrame({"cell": cells}, schema={"cell": pl.String})
    numbers = held.select(sheets.number(pl.col("cell"))).to_series().to_list()
    clocks = held.select(times.clock(pl.col("cell"))).to_series().to_list()
    assert all(value is None or math.isfinite(value) for value in [*numbers, *clocks])


@given(st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2300, 1, 1)), st.sampled_from(" T"))
def test_dates_are_read_to_the_microsecond(moment, between):
    cells = [
        moment.isoformat(between, "microseconds"),
        moment.isoformat(between, "seconds"),
        moment.isoformat(between, "minutes"),
        moment.date().isoformat(),
    ]
    got = pl.DataFrame({"cell": cells}).select(sheets.moment(pl.col("cell"))).to_series().to_list()
    second = moment.replace(microsecond=0)
    minute = second.replace(second=0)
    assert got == [moment, second, minute, minute.replace(hour=0, minute=0)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_exactly(value):
    assert pl.DataFrame({"cell": [repr(value)]}).select(sheets.number(pl.col("cell"))).item() == value


@given(st.integers(0, 999_999), st.integers(0, 59), st.none() | st.integers(0, 59), st.booleans())
def test_hours_and_minutes_are_read(hours, minutes, seconds, below):
    cell = f"{'-' * below}{hours:02d}:{minutes:02d}" + ("" if seconds is None else f":{seconds:02d}")
    total = timedelta(hours=hours, minutes=minutes, seconds=seconds or 0) / timedelta(microseconds=1)
    assert pl.DataFrame({"cell": [cell]}).select(times.clock(pl.col("cell"))).item() == (-total if below else total)


SPOILED = """
tables:
  all:
    files: a.csv
    subject: id
    time: {offset: after, unit: minutes, from: start}
    visit: {type: I, end: end}
    events:
      - {code: 'A//{x}', value: v}
      - {code: 'B//{x}', time: own}
"""
GOOD = {"id": "1", "start": "2020-01-01", "after": "5", "end": "2020-01-03", "x": "p", "v": "2.5", "own": "2020-01-02"}
SPOILED_CELLS = [
    ({"id": ""}, "id: empty; expected a subject", 0),
    ({"id": "-4"}, "id: a number below 0; expected a subject", 0),
    ({"start": "soon"}, "start: not a date or time", 0),
    ({"start": ""}, "start: empty; expected a time", 0),
    ({"after": "late"}, "after: not a number of minutes", 0),
    ({"after": "1e18"}, "after: not a number of minutes", 0),
    ({"after": ""}, "after: empty; expected an offset", 0),
    ({"end": "2020-02-30"}, "end: not a date or time", 3),
    ({"v": "NaN"}, "v: not a finite number", 3),
    ({"v": "-inf"}, "v: not a finite number", 3),
    ({"v": "1e999"}, "v: not a finite number", 3),
    ({"v": "4,5"}, "v: not a finite number", 3),
    ({"own": "01.02.2020"}, "own: not a date or time", 3),
]


@pytest.mark.parametrize(("change", "reason", "kept"), SPOILED_CELLS)
def test_rows_that_cannot_be_used_are_listed_with_their_number(tmp_path, change, reason, kept):
    def line(row):
        return ",".join(f'"{cell}"' for cell in row.values())

    where = write(
        tmp_path, SPOILED, a=[",".join(GOOD), line(GOOD), line({**GOOD, **change}), line({**GOOD, "id": "2"})]
    )
    assert listed(*where) == [("a.csv", 2, reason)]
    assert len(found(*where)) == 8 + kept
    # A part of the file name and a row, and nothing of what stands in it.
    assert not any(cell in reason for cell in change.values() if cell)


def test_rows_of_unknown_stays_are_listed(tmp_path):
    folder = copy("hospital", tmp_path)
    file = folder / "results-1.csv"
    file.write_text(
        file.read_text("utf-8") + "99\t00:30\tLOINC\t1-8\t1\t\tdone\n\t00:30\tLOINC\t1-8\t1\t\tdone\n", "utf-8"
    )
    assert listed(folder, folder / "columns.yaml") == [
        ("results-1.csv", 4, "stay: a stay that is not among the stays, or has no subject or time there"),
        ("results-1.csv", 5, "stay: empty; expected a stay"),
    ]


def rename(old, new):
    def spoil(folder):
        text = (folder / "labs.csv").read_text("utf-8")
        assert old in text
        (folder / "labs.csv").write_text(text.replace(old, new, 1), "utf-8")

    return spoil


def raw(content):
    return lambda folder: (folder / "labs.csv").write_bytes(content)


def cut_gzip(folder):
    head = (folder / "labs.csv").read_text("utf-8").splitlines()[0]
    lines = [f"A-{i};03.02.2021 08:15;;;{random.Random(i).random()};;;;" for i in range(20_000)]
    whole = gzip.compress("\n".join([head, *lines]).encode())
    (folder / "labs.csv").write_bytes(whole[: len(whole) // 2])


def late_latin(folder):
    held = (folder / "labs.csv").read_bytes().splitlines()
    (folder / "labs.csv").write_bytes(
        b"\n".join([*held, *held[1:] * 1_000, held[1].replace(b"female", b"m\xe4nnlich")])
    )


def folder_for_file(folder):
    (folder / "labs.csv").unlink()
    (folder / "labs.csv").mkdir()


MALFORMED = {
    "renamed": (rename("Potassium", "Kalium"), "labs.csv: no column Potassium; found Patient no, Taken, Born"),
    "other case": (rename("Taken", "taken"), "labs.csv: no column Taken"),
    "twice": (rename("Comment", "Sex"), "labs.csv: column Sex stands there twice"),
    "other separator": (raw(b"Patient no,Taken\n1,2\n"), "labs.csv: no column Born; found Patient no,Taken"),
    "absent": (lambda folder: (folder / "labs.csv").unlink(), "no file labs.csv for samples of"),
    "empty": (raw(b""), "labs.csv: an empty file"),
    "blank": (raw(b"\n\n1;2\n"), "labs.csv: no header"),
    "folder for a file": (folder_for_file, "labs.csv: a folder"),
    "cut off": (cut_gzip, "labs.csv: cannot be read"),
    "late rows not UTF-8": (late_latin, "labs.csv: cannot be read (invalid utf-8"),
    "not packed": (raw(b"\x1f\x8b no"), "labs.csv: cannot be read"),
    "a zip": (raw(b"PK\x03\x04\xff\xfe\xfa"), "labs.csv: not UTF-8 text"),
    "UTF-16": (
        lambda f: (f / "labs.csv").write_bytes((f / "labs.csv").read_text("utf-8").encode("utf-16")),
        "not UTF-8",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_tables_give_one_line_that_names_file_and_remedy(tmp_path, case):
    spoil, message = MALFORMED[case]
    folder = copy("labs", tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match=r".") as error:
        shards.divide(table.open(folder, folder / "columns.yaml"), tmp_path / "spread")
    told = str(error.value)
    assert message in told
    assert "\n" not in told
    assert ";" in told


def parquet_map(tmp_path):
    return write(tmp_path, one("a.parquet", "id", "time: t", "events: [{code: 'A//{x}', value: x}]"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1", "a.parquet: not a whole parquet file"),
        (b"id,t,x\n", "a.parquet: not a whole parquet file"),
        ({"id": [1], "t": [1]}, "a.parquet: no column x; found id, t"),
        ({"id": [1], "t": [1], "x": [[1, 2]]}, "a.parquet: column x is List(Int64); expected one value a cell"),
        ({"id": [1], "t": [1], "x": [b"\xff"]}, "a.parquet: column x is Binary; expected one value a cell"),
        ("zone", "a.parquet: column t has the zone +05:30; expected UTC"),
    ],
)
def test_malformed_parquet_gives_one_line(tmp_path, content, message):
    folder, columns = parquet_map(tmp_path)
    if content == "zone":
        times_of_a_zone = pa.array([START], pa.timestamp("us", "+05:30"))
        pq.write_table(pa.table({"id": [1], "t": times_of_a_zone, "x": [1]}), folder / "a.parquet")
    elif isinstance(content, bytes):
        (folder / "a.parquet").write_bytes(content)
    else:
        pl.DataFrame(content).write_parquet(folder / "a.parquet")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        shards.divide(table.open(folder, columns), tmp_path / "spread")
    assert "\n" not in str(error.value)


EVENT = "events: [{code: A}]"
WRONG = {
    "": "got nothing; expected a mapping with description",
    "- a": "got a list; expected a mapping",
    "a: [": "not YAML in line",
    "tables: {}": "tables: got a mapping; expected a table by name",
    "description: none": "no key tables",
    "tabless: {}": "tabless: unknown key; expected description, missing, separator, stays, tables; did you mean tables",
    "separator: ';;'\ntables: {}": "separator: got ;;; expected one character, or comma, semicolon, tab, pipe",
    "missing: [No]\ntables: {}": "missing[1]: got False; expected a value, or a list of values; put quotes around Yes",
    "a: 1\na: 2": "not YAML in line 2 (key a stands there twice)",
    "tables: {t: {subject: id, time: t}}": "tables.t: no key files; found subject, time",
    "tables: {t: {files: a.csv}}": "tables.t: expected either subject or stay",
    "tables: {t: {files: a.csv, subject: id, stay: id}}": "tables.t: expected either subject or stay",
    "tables: {t: {files: a.csv, stay: id}}": "tables.t.stay: no key stays at the top",
    "tables: {t: {files: a.csv, subject: id}}": "tables.t: gives nothing; expected visit, birth, static or events",
    "tables: {t: {files: ../a.csv, subject: id, static: [{code: A}]}}": "a name or pattern below the source",
    one("a.csv", "id", EVENT): "tables.all.events[1]: no time; expected one here or in tables.all",
    one("a.csv", "id", "birth: {age: a}"): "tables.all.birth.age: no time",
    one("a.csv", "id", "visit: {type: I}"): "tables.all.visit: no time",
    one("a.csv", "id", "visit: {start: t}"): "tables.all.visit: no key type; found start",
    one(
        "a.csv", "id", "time: t", "birth: {age: a, date: b}"
    ): "tables.all.birth: got a mapping; expected either date or age",
    one("a.csv", "id", "time: {}", EVENT): "tables.all.time: got a mapping; expected a mapping with column, format",
    one("a.csv", "id", "time: {unit: days}", EVENT): "tables.all.time: got a mapping; expected column, or order with",
    one("a.csv", "id", "time: {column: t, from: t}", EVENT): "expected column with format at most",
    one("a.csv", "id", "time: {offset: n, from: t}", EVENT): "tables.all.time: no key unit; found offset, from",
    one(
        "a.csv", "id", "time: {offset: n, unit: days}", EVENT
    ): "tables.all.time: got a mapping; expected column, or order with",
    one("a.csv", "id", "time: {offset: n, unit: day, from: t}", EVENT): "unit: got day; expected seconds, minutes",
    one("a.csv", "id", "time: {order: n, from: 2000-01-01}", EVENT): "no key days_apart",
    one("a.csv", "id", "time: {order: n, days_apart: 0, from: 2000-01-01}", EVENT): "got 0; expected a number of days",
    one("a.csv", "id", "time: {order: n, days_apart: 1, from: t}", EVENT): "from: got t; expected a date",
    one("a.csv", "id", "time: {from: 3}", EVENT): "time.from: got 3; expected a date (2000-01-01), stay, time, end",
    one("a.csv", "id", "time: {from: end}", EVENT): "time.from: got end, which is not known here",
    one("a.csv", "id", "time: t", "events: [{code: A, time: {from: end}}]"): "got end; expected an event of a table",
    one("a.csv", "id", "time: t", "events: [{code: A, time: {from: stay}}]"): "got stay; expected a table with the key",
    one("a.csv", "id", "time: t", "events: [{code: A, timee: t}]"): "events[1].timee: unknown key",
    one("a.csv", "id", "time: t", "events: [{code: 'A//{}'}]"): "expected a name of a column between each { and }",
    one("a.csv", "id", "time: t", "events: [{code: 'A//{x'}]"): "expected a name of a column between each { and }",
    one("a.csv", "id", "time: t", "events: [{code: 'A//{cell}'}]"): "{column} and {cell} only beside the key columns",
    one("a.csv", "id", "time: t", "events: [{code: A, columns: [x]}]"): "{column} or {cell} in a code for several",
    one("a.csv", "id", "time: t", "events: [{code: A, value: cell}]"): "expected columns, of which cell is the value",
    one("a.csv", "id", "static: [{code: A, time: t}]"): "static[1].time: unknown key",
    one("a.csv", "id", "time: t", "events: {code: A}"): "events: got a mapping; expected a list of events",
    one("a.csv", "id", "time: t", "where: {x: {y: 1}}", EVENT): "where.x: got a mapping; expected a value",
    one("a.csv", "id", "time: t", "events: [{code: A, values: {x: yes}}]"): "values.x: got True; expected a name",
    "stays: {files: a.csv, key: k, subject: s, time: {from: stay}}\ntables: {t: {}}": "stays.time.from: got stay",
    "stays: {files: a.csv, key: k, subject: s}\ntables: {t: {}}": "stays: no key time; found files, key, subject",
}


@pytest.mark.parametrize("content", WRONG)
def test_wrong_maps_are_told_by_key(tmp_path, content):
    file = tmp_path / "map.yaml"
    file.write_text(content, encoding="utf-8")
    (tmp_path / "a.csv").write_text("id,t\n1,2020-01-01\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r".") as error:
        table.open(tmp_path, file)
    told = str(error.value)
    assert told.startswith(f"{file}: ")
    assert WRONG[content] in told
    assert "\n" not in told


def test_maps_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"none.yaml: no such file; expected a YAML file of columns"):
        read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"description: \xe4")
    with pytest.raises(ValueError, match=r"latin.yaml: not UTF-8 text; .*; save it as UTF-8"):
        read(tmp_path / "latin.yaml")
    with pytest.raises(ValueError, match=r"nothing: no such file or folder; expected tables; mend the path"):
        table.open(tmp_path / "nothing", FIXTURES / "labs" / "columns.yaml")
    folder, columns = write(tmp_path, one("'*.csv'", "row", "static: [{code: A}]"), a=["id", "1"], b=["id", "2"])
    with pytest.raises(ValueError, match=r"tables.all.subject: row, and 2 files; expected one file"):
        table.open(folder, columns)


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "tables",
                    "stays",
                    "files",
                    "subject",
                    "time",
                    "events",
                    "code",
                    "from",
                    "offset",
                    "unit",
                    "birth",
                    "age",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@example("\n")
@example("")
@example({"tables": {"a\nb": {"c\nd": 1}}})
@given(YAML)
def test_no_yaml_breaks_the_reading_of_maps(content):
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "map.yaml"
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        try:
            read(file)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017


def near(value):
    """Return a number as 32 bits hold it."""
    return None if value is None else float(np.float32(value))


def counted(folder, name):
    """Return the events of a set by the patient's own id, and how many."""
    source = open_source(folder, columns=MAPS / f"{name}.yaml")
    events = table.scan(folder, MAPS / f"{name}.yaml").collect()
    own = dict(source.patients.select("subject_id", "patient").collect().iter_rows())
    return Counter((own[subject], *rest) for subject, *rest in events.iter_rows())


def plain_stays(folder):
    """Return patient and beginning of each unit stay of the eICU demo, by its key."""
    stays = list(plain_rows(folder, "patient"))
    numbers = {
        who: sorted(
            {
                (int(s["hospitaldischargeyear"]), int(s["patienthealthsystemstayid"]))
                for s in stays
                if s["uniquepid"] == who
            }
        )
        for who in {stay["uniquepid"] for stay in stays}
    }
    found = {}
    for stay in stays:
        who = stay["uniquepid"]
        place = numbers[who].index((int(stay["hospitaldischargeyear"]), int(stay["patienthealthsystemstayid"])))
        shift = timedelta(days=365 * place, minutes=-int(stay["hospitaladmitoffset"]))
        found[stay["patientunitstayid"]] = (who, START + shift)
    return found


def plain_rows(folder, name):
    with gzip.open(folder / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: cell.strip() for name, cell in row.items()}


def plain_persons(folder, stays):  # noqa: C901  one after another, as simply as can be
    """Yield what the table of stays tells."""
    facts = {}
    held = list(plain_rows(folder, "patient"))
    for row in held:
        who, start = stays[row["patientunitstayid"]]
        end = start + timedelta(minutes=int(row["unitdischargeoffset"]))
        yield who, start, "VISIT//ICU//START", None, None
        yield who, end, "VISIT//ICU//END", None, None
        for column, code, when in (
            ("unittype", "ICU_TYPE", start),
            ("unitadmitsource", "ICU_SOURCE", start),
            ("unitdischargelocation", "ICU_DISCHARGE", end),
        ):
            if row[column]:
                yield who, when, f"{code}//{row[column]}", None, None
        for column in ("admissionheight", "admissionweight"):
            if row[column]:
                yield who, start, f"EICU//{column}", near(float(row[column])), None
        if row["hospitaldischargestatus"] == "Expired":
            died = start + timedelta(minutes=int(row["hospitaldischargeoffset"]))
            yield who, died, "MEDS_DEATH", None, None
    for row in sorted(held, key=lambda row: stays[row["patientunitstayid"]][1]):
        who, start = stays[row["patientunitstayid"]]
        if row["gender"] in {"Female", "Male"}:
            facts.setdefault((who, "SEX"), (None, f"SEX//{row['gender'][0]}"))
        if row["ethnicity"]:
            facts.setdefault((who, "RACE"), (None, f"RACE//{row['ethnicity']}"))
        if row["age"]:
            years = 90 if row["age"] == "> 89" else int(row["age"])
            facts.setdefault((who, "BIRTH"), (start - timedelta(days=365.25 * years), "MEDS_BIRTH"))
    yield from ((who, when, code, None, None) for (who, _), (when, code) in facts.items())


EICU = {
    "admissionDx": ("admitdxenteredoffset", "EICU_ADMISSION", "admitdxpath", None),
    "diagnosis": ("diagnosisoffset", "EICU_DIAGNOSIS", "diagnosisstring", None),
    "medication": ("drugstartoffset", "EICU_DRUG", "drugname", "dosage"),
    "physicalExam": ("physicalexamoffset", "EICU_EXAM", "physicalexampath", "physicalexamtext"),
    "treatment": ("treatmentoffset", "EICU_TREATMENT", "treatmentstring", None),
}


def plain_eicu(folder):
    """Yield every event of the eICU demo in plain Python."""
    stays = plain_stays(folder)
    yield from plain_persons(folder, stays)
    for name, (offset, prefix, code, text) in EICU.items():
        for row in plain_rows(folder, name):
            said = row[text] or None if text else None
            if row["patientunitstayid"] and row[code] and (said or not text) and row.get("drugordercancelled") != "Yes":
                who, start = stays[row["patientunitstayid"]]
                yield who, start + timedelta(minutes=int(row[offset])), f"{prefix}//{row[code]}", None, said
    for row in plain_rows(folder, "lab"):
        if row["patientunitstayid"] and (row["labresult"] or row["labresulttext"]):
            who, start = stays[row["patientunitstayid"]]
            value = near(float(row["labresult"])) if row["labresult"] else None
            when = start + timedelta(minutes=int(row["labresultrevisedoffset"]))
            yield who, when, f"EICU_LAB//{row['labname']}", value, row["labresulttext"] or None


@pytest.mark.data
def test_the_eicu_demo_has_every_event_as_plain_python_counts_them(shared_data):
    folder = shared_data("eicu_demo")
    want = Counter(plain_eicu(folder))
    assert counted(folder, "eicu_demo") == want
    assert len({who for who, *_ in want}) == 100
    # The table of stays ends with four blank lines.
    assert listed(folder, MAPS / "eicu_demo.yaml") == []


def plain_physionet(folder):
    """Yield every event of the challenge's stays in plain Python."""
    unknown = {(name, -1) for name in ("Age", "Gender", "Height", "ICUType", "Weight")}
    types = {1: "CORONARY", 2: "CARDIAC_SURGERY", 3: "MEDICAL", 4: "SURGICAL"}
    for file in sorted(folder.glob("events_set_*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=100_000):
            for row in batch.to_pylist():
                who, name, value = str(row["record_id"]), row["parameter"], row["value"]
                when = START + timedelta(minutes=row["minute"])
                if (name, value) in unknown:
                    continue
                if name == "Age":
                    yield who, when - timedelta(days=365.25 * value), "MEDS_BIRTH", None
                elif name == "Gender":
                    yield who, None, f"SEX//{'FM'[int(value)]}", None
                elif name == "ICUType":
                    yield who, when, f"ICU_TYPE//{types[value]}", None
                else:
                    yield who, when, f"PHYSIONET//{name}", near(value)


def plain_ends(folder):
    """Yield the stays and deaths of the challenge in plain Python."""
    for file in sorted(folder.glob("outcomes_set_*.csv")):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            who, stay, lived = row["RecordID"], float(row["Length_of_stay"]), float(row["Survival"])
            last = START + timedelta(hours=23, minutes=59, seconds=59)
            yield who, START, "VISIT//INPATIENT//START", None
            if stay != -1:
                yield who, last + timedelta(days=stay), "VISIT//INPATIENT//END", None
            if row["In-hospital_death"] == "1":
                yield who, last + timedelta(days=lived), "HOSPITAL_DEATH", None
            if lived != -1:
                yield who, last + timedelta(days=lived), "MEDS_DEATH", None


@pytest.mark.data
@pytest.mark.parametrize("every", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_the_challenge_s_stays_have_every_event_as_plain_python_counts_them(shared_data, tmp_path, every):
    for file in shared_data("physionet2012").glob("*_set_*"):
        held = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file)
        kept = held.filter(pl.nth(0) % every == 0)
        (kept.write_parquet if file.suffix == ".parquet" else kept.write_csv)(tmp_path / file.name)
    numbers = Counter()
    for (who, when, code, value, text), found_times in counted(tmp_path, "physionet2012").items():
        assert text is None
        numbers[(who, when, code, value)] += found_times
    assert numbers == Counter([*plain_physionet(tmp_path), *plain_ends(tmp_path)])
    assert len({who for who, *_ in numbers}) == {97: 72, 1: 8_000}[every]


ADMISSION = {1: "EMERGENCY", 2: "URGENT", 3: "ELECTIVE", 4: "NEWBORN", 7: "TRAUMA", 5: None, 6: None, 8: None}


def plain_diabetes(encounters):  # noqa: C901, PLR0912  one after another, as simply as can be
    """Yield every event of the diabetes set in plain Python, patient by patient."""
    drugs = [name for name in encounters[0] if name in DRUGS]
    by_patient = {}
    for row in encounters:
        by_patient.setdefault(str(row["patient_nbr"]), []).append(row)
    for who, held in by_patient.items():
        held.sort(key=lambda row: row["encounter_id"])
        low, high = (int(number) for number in re.findall(r"\d+", held[0]["age"]))
        yield who, START - timedelta(days=365.25 * (low + high) / 2), "MEDS_BIRTH", None
        sexes = [row["gender"][0] for row in held if row["gender"] in {"Female", "Male"}]
        races = [row["race"] for row in held if row["race"] != "?"]
        yield from ((who, None, f"SEX//{sex}", None) for sex in sexes[:1])
        yield from ((who, None, f"RACE//{race}", None) for race in races[:1])
        for place, row in enumerate(held):
            start = START + timedelta(days=120 * place)
            end = start + timedelta(days=row["time_in_hospital"])
            yield who, start, "VISIT//INPATIENT//START", None
            yield who, end, "VISIT//INPATIENT//END", None
            if ADMISSION[row["admission_type_id"]]:
                yield who, start, f"ADMISSION_TYPE//{ADMISSION[row['admission_type_id']]}", None
            if row["admission_source_id"] not in {9, 15, 17, 20, 21}:
                yield who, start, f"ADMISSION_SOURCE//{row['admission_source_id']}", None
            if row["discharge_disposition_id"] in {11, 19, 20, 21}:
                yield who, end, "MEDS_DEATH", None
            if row["discharge_disposition_id"] not in {18, 25, 26}:
                yield who, end, f"DISCHARGE//{row['discharge_disposition_id']}", None
            for column, code in (("medical_specialty", "SPECIALTY"), ("payer_code", "PAYER")):
                if row[column] != "?":
                    yield who, start, f"{code}//{row[column]}", None
            for column in ("number_outpatient", "number_emergency", "number_inpatient"):
                yield who, start, f"PRIOR_YEAR//{column}", float(row[column])
            for column in ("num_lab_procedures", "num_procedures", "num_medications", "number_diagnoses"):
                yield who, end, f"STAY//{column}", float(row[column])
            for column in ("diag_1", "diag_2", "diag_3"):
                if row[column] != "?":
                    yield who, end, f"ICD9CM//{row[column]}", None
            for column in ("max_glu_serum", "A1Cresult"):
                if row[column] != "None":
                    yield who, end, f"LAB//{column}//{row[column]}", None
            for column in drugs:
                if row[column] != "No":
                    yield who, end, f"DRUG//{column}//{row[column]}", None
            told = {"<30": ("within_30_days", 30), ">30": ("later", 60)}.get(row["readmitted"])
            if told:
                yield who, end + timedelta(days=told[1]), f"READMITTED//{told[0]}", None


# Two that nobody was given, examide and citoglipton, are not in the map.
DRUGS = {
    "metformin", "repaglinide", "nateglinide", "chlorpropamide", "glimepiride", "acetohexamide", "glipizide",
    "glyburide", "tolbutamide", "pioglitazone", "rosiglitazone", "acarbose", "miglitol", "troglitazone", "tolazamide",
    "insulin", "glyburide-metformin", "glipizide-metformin", "glimepiride-pioglitazone", "metformin-rosiglitazone",
    "metformin-pioglitazone",
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_the_diabetes_set_has_every_event_as_plain_python_counts_them(shared_data, tmp_path, every):
    folder = shared_data("diabetes130")
    whole = pl.read_parquet(folder / "encounters.parquet")
    assert set(whole["examide"]) == set(whole["citoglipton"]) == {"No"}
    part = whole.filter(pl.col("patient_nbr") % every == 0)
    part.write_parquet(tmp_path / "encounters.parquet")
    found_in_it = Counter()
    for (who, when, code, value, text), times_found in counted(tmp_path, "diabetes130").items():
        assert text is None
        found_in_it[(who, when, code, value)] += times_found
    assert found_in_it == Counter(plain_diabetes(part.to_dicts()))
    assert len({who for who, *_ in found_in_it}) == part["patient_nbr"].n_unique()


def test_facts_cost_no_row_its_place():
    # Several events of a row, of which one fails: the others stay, in order.
    frame = pl.LazyFrame({"#row": [1, 2], "v": ["1", "x"]}, schema={"#row": pl.UInt32, "v": pl.String})
    cell = pl.col("v")
    bad = rows.bad_number(cell, sheets.number(cell), "v")
    items = [rows.Item(pl.lit("A"), None), rows.Item(pl.lit("B"), None, sheets.number(cell), reject=bad)]
    got = rows.events(frame, pl.lit(1), [*items, *items]).select("row", "code", "reject").collect().rows()
    why = "v: not a finite number"
    assert got[:4] == [(1, "A", None), (1, "B", None)] * 2
    assert [row for row in got[4:] if row[2]] == [(2, "B", why)]
    assert [row for row in got[4:] if not row[2]] == [(2, "A", None)] * 2
