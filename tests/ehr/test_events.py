"""EVENTS: casts that lose nothing, refusals in one line, the order that is canonical, files whole or absent."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import events as e


def frame(**columns):
    held = {"subject_id": [1, 2], "time": [datetime(2020, 1, 1), None], "code": ["A", "B"]}
    return pl.LazyFrame({**held, **columns})


def conformed(**columns):
    return e.conform(frame(**columns), name="part.parquet").collect()


def test_missing_optional_columns_become_nulls():
    found = conformed()
    assert found.schema == e.EVENTS
    assert found["numeric_value"].null_count() == found["text_value"].null_count() == 2


def test_further_columns_stay_behind_the_five():
    found = conformed(row=[7, 8], text_value=["x", None])
    assert found.columns == [*e.EVENTS, "row"]
    assert found["text_value"].to_list() == ["x", None]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("subject_id", pl.Series([3, 4], dtype=pl.UInt32), [3, 4]),
        ("time", pl.Series([date(2020, 1, 2), None]), [datetime(2020, 1, 2), None]),
        ("time", pl.Series([None, None]), [None, None]),
        ("time", pl.Series([datetime(2020, 1, 1, 12)] * 2).dt.cast_time_unit("ns"), [datetime(2020, 1, 1, 12)] * 2),
        ("code", pl.Series(["A", "B"], dtype=pl.Categorical), ["A", "B"]),
        ("numeric_value", pl.Series([1, None], dtype=pl.Int64), [1.0, None]),
        ("numeric_value", pl.Series([0.5, -1e300], dtype=pl.Float64), [0.5, float("-inf")]),
        ("text_value", pl.Series(["x", None], dtype=pl.Categorical), ["x", None]),
    ],
)  # fmt: skip
def test_types_of_all_versions_are_cast(column, values, expected):
    found = conformed(**{column: values})
    assert found.schema == e.EVENTS
    assert found[column].to_list() == expected


def test_times_of_a_zone_become_utc():
    noon = datetime(2020, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    zoned = pl.Series([noon, noon.astimezone(UTC)]).dt.convert_time_zone("Europe/Berlin")
    assert conformed(time=zoned)["time"].to_list() == [datetime(2020, 7, 1, 10)] * 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (frame().drop("code"), "part.parquet: no column code; found subject_id, time; rename it"),
        (frame(time=["2020", "2021"]), "part.parquet: column time is String; expected Datetime"),
        (frame(subject_id=["1", "2"]), "column subject_id is String; expected Int64"),
        (frame(subject_id=pl.Series([1, 2], dtype=pl.UInt64)), "column subject_id is UInt64"),
        (frame(numeric_value=["1", "2"]), "column numeric_value is String; expected Float32"),
        (pl.scan_parquet("/nowhere/at/all.parquet"), "part.parquet: cannot be read"),
    ],
)
def test_what_no_cast_makes_right_is_refused_in_one_line(changed, message):
    with pytest.raises(ValueError, match=message) as error:
        e.conform(changed, name="part.parquet")
    assert "\n" not in str(error.value)


TABLE = st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 4))), max_size=12)


def events(rows):
    return pl.DataFrame(
        {
            "subject_id": [subject for subject, _ in rows],
            "time": pl.Series([time for _, time in rows], dtype=pl.Int64).cast(pl.Datetime("us")),
            "code": [str(at) for at in range(len(rows))],
        },
        schema_overrides={"subject_id": pl.Int64, "code": pl.String},
    )


def keys(rows):
    return [(subject, -1 if time is None else time) for subject, time in rows]


@given(TABLE)
def test_the_first_row_out_of_order_is_found(rows):
    place = keys(rows)
    expected = next((at for at in range(1, len(rows)) if place[at] < place[at - 1]), None)
    assert e.first_inversion(events(rows)) == expected


@given(TABLE)
def test_order_is_canonical_and_keeps_the_rank_of_equals(rows):
    found = e.order(events(rows).lazy()).collect()
    assert e.first_inversion(found) is None
    place = keys(rows)
    assert found["code"].to_list() == [str(at) for at in sorted(range(len(rows)), key=place.__getitem__)]


def test_files_are_whole_or_absent(tmp_path, monkeypatch):
    held = conformed()
    for name in ("a.parquet", "b.parquet"):
        e.write(held, tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert pl.read_parquet(tmp_path / "a.parquet").equals(held)

    def fail(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        e.write(held, tmp_path / "c.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_only_the_first_line_of_a_library_is_told():
    assert e.first_line(OSError("cut off\nat byte 7")) == "cut off"
    assert e.first_line(OSError()) == "OSError"
