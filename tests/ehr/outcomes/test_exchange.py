"""Labels made elsewhere and ours for others: both MEDS versions, round trips, refusals in one line."""

from datetime import date, datetime

import polars as pl
import pyarrow.parquet as pq
import pytest
from meds import LabelSchema

from ehr.outcomes import exchange as x
from ehr.outcomes.labels import LABELS, label
from ehr.outcomes.registry import load
from tests.pipelines import cohorts


def rows(**columns):
    held = {
        "subject_id": [2, 1, 1],
        "prediction_time": [datetime(2020, 1, 1), datetime(2021, 1, 1), datetime(2020, 5, 1)],
        "boolean_value": [True, False, True],
    }
    return pl.DataFrame({**held, **columns})


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows(**columns).write_parquet(path)
    return path


def test_a_file_is_one_outcome(tmp_path):
    path = write(tmp_path / "In-Hospital Death.parquet")
    registry = x.registry_of(path)
    assert registry.names == ("in_hospital_death",)
    assert registry.outcomes[0].horizons_days == (0,)
    labels = x.read(path)
    assert labels.schema == LABELS
    assert labels["subject_id"].to_list() == [1, 1, 2]
    assert labels["boolean_value"].to_list() == [True, False, True]
    assert labels["event"].to_list() == [True, False, True]
    assert labels["time_to_event_days"].null_count() == 3
    assert labels["horizon_days"].unique().to_list() == [0]


def test_a_folder_is_an_outcome_a_file_or_folder(tmp_path):
    write(tmp_path / "death.parquet")
    write(tmp_path / "readmission" / "train" / "0.parquet")
    write(tmp_path / "readmission" / "held_out" / "0.parquet", subject_id=[7, 8, 8])
    assert sorted(x.registry_of(tmp_path).names) == ["death", "readmission"]
    counts = x.read(tmp_path).group_by("outcome").len().sort("outcome")
    assert counts.rows() == [("death", 3), ("readmission", 6)]


def test_files_that_are_numbers_take_their_folder_s_name(tmp_path):
    write(tmp_path / "death" / "0.parquet")
    write(tmp_path / "death" / "1.parquet", subject_id=[7, 8, 8])
    assert x.registry_of(tmp_path / "death").names == ("death",)
    assert len(x.read(tmp_path / "death")) == 6


@pytest.mark.parametrize(
    "columns",
    [
        {"prediction_time": pl.Series([datetime(2020, 1, 1)] * 3).dt.cast_time_unit("ns"), "subject_id": [1, 2, 3]},
        {"prediction_time": [date(2020, 1, 1)] * 3, "subject_id": pl.Series([1, 2, 3], dtype=pl.Int32)},
        {"float_value": [0.5, None, 1.0], "categorical_value": ["a", None, "b"], "integer_value": [1, 2, None]},
        {"boolean_value": [True, None, False]},
    ],
    ids=["nanoseconds", "days", "other_values", "censored"],
)
def test_both_versions_are_read(tmp_path, columns):
    labels = x.read(write(tmp_path / "death.parquet", **columns))
    assert labels.schema == LABELS
    expected = rows(**columns).sort("subject_id", "prediction_time")
    assert labels["boolean_value"].equals(expected["boolean_value"])
    assert labels["event"].to_list() == [value is True for value in expected["boolean_value"]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"boolean_value": [1, 0, 1]}, "column boolean_value is Int64; expected true and false"),
        ({"subject_id": [1, 1, 1], "prediction_time": [datetime(2020, 1, 1)] * 3}, "labelled twice at one time"),
        ({"subject_id": ["a", "b", "c"]}, "column subject_id is String; expected Int64"),
        ({"subject_id": [1, None, 2]}, "column subject_id has 1 rows without a value"),
        ({"prediction_time": ["2020", "2021", "2022"]}, "column prediction_time is String; expected Datetime"),
        ({"prediction_time": [None, None, datetime(2020, 1, 1)]}, "column prediction_time has 2 rows without a value"),
    ],
)
def test_wrong_labels_are_refused_in_one_line(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message) as error:
        x.read(write(tmp_path / "death.parquet", **columns))
    assert "\n" not in str(error.value)


def test_wrong_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder; expected MEDS labels"):
        x.read(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no parquet files; expected MEDS labels"):
        x.read(tmp_path / "empty")
    (tmp_path / "death.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"death\.parquet: not a whole parquet file"):
        x.read(tmp_path / "death.parquet")
    rows().drop("boolean_value").write_parquet(tmp_path / "less.parquet")
    with pytest.raises(ValueError, match="no column boolean_value; found subject_id, prediction_time; expected"):
        x.read(tmp_path / "less.parquet")
    write(tmp_path / "ü" / "ö.parquet")
    with pytest.raises(ValueError, match="cannot name an outcome"):
        x.read(tmp_path / "ü")


def test_no_labels_are_an_empty_registry():
    assert x.registry_of(None).outcomes == ()


def test_labels_of_some_subjects_come_in_the_order_of_the_registry(tmp_path):
    write(tmp_path / "b.parquet")
    write(tmp_path / "a.parquet")
    registry = x.registry_of(tmp_path)
    found = x.of_subjects(tmp_path, registry, pl.Series([1, 5]))
    assert found["subject_id"].unique().to_list() == [1]
    assert found["outcome"].to_list() == list(registry.names) * 2
    assert x.attrition(found, registry).rows() == [("kept", name, 1, 2) for name in registry.names]


def test_our_labels_pass_meds_and_come_back(tmp_path):
    (tmp_path / "outcomes.yaml").write_text(cohorts.OUTCOMES)
    labels, _ = label(cohorts.events(60), load(tmp_path / "outcomes.yaml"))
    files = x.to_meds(labels, tmp_path / "meds")
    names = sorted(path.relative_to(tmp_path / "meds").as_posix() for path in files)
    assert names == ["failure/1095.parquet", "failure/365.parquet", "kidney/730.parquet", "never/365.parquet"]
    for path in files:
        LabelSchema.validate(pq.read_table(path))
        held = labels.filter(outcome=path.parent.name, horizon_days=int(path.stem))
        known = held.filter(pl.col("boolean_value").is_not_null())
        assert len(pl.read_parquet(path)) == len(known)
        censored = path.with_suffix(".censored.csv")
        assert (len(pl.read_csv(censored)) if censored.exists() else 0) == len(held) - len(known)
        back = x.of_subjects(path, x.registry_of(path), held["subject_id"].unique())
        columns = ["subject_id", "prediction_time", "boolean_value"]
        assert back.select(columns).equals(known.select(columns))
        assert back["boolean_value"].sum() > 0 or path.parent.name == "never"
