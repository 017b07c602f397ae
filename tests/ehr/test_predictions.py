"""PREDICTIONS: rows in their order, files that come back equal, the form of meds-evaluation."""

import numpy as np
import polars as pl
import pytest

from ehr import predictions as p
from ehr.outcomes.labels import LABELS
from ehr.outcomes.registry import Outcome, Registry

REGISTRY = Registry(
    (
        Outcome(name="b_first", any_of=("A//1",), horizons_days=(30, 365)),
        Outcome(name="a_second", any_of=("A//2",), horizons_days=(90,)),
    )
)


def table():
    probability = np.arange(8, dtype=np.float32).reshape(2, 2, 2) / 10
    times = np.array([0, 86_400_000_000])
    return p.tabulate(np.array([5, 3]), pl.Series(["x5", "x3"]), times, probability, REGISTRY, model="abc")


def test_rows_follow_samples_then_the_registry():
    frame = table()
    assert frame.schema == p.PREDICTIONS
    assert frame["subject_id"].to_list() == [5, 5, 5, 3, 3, 3]
    assert frame["patient"].to_list() == ["x5"] * 3 + ["x3"] * 3
    assert frame["outcome"].to_list() == ["b_first", "b_first", "a_second"] * 2
    assert frame["horizon_days"].to_list() == [30, 365, 90] * 2
    np.testing.assert_allclose(frame["probability"], [0, 0.1, 0.2, 0.4, 0.5, 0.6], rtol=1e-6)
    assert frame["prediction_time"].dt.ordinal_day().to_list() == [1, 1, 1, 2, 2, 2]


def test_no_samples():
    none = np.zeros(0, np.int64)
    frame = p.tabulate(none, pl.Series([], dtype=pl.String), none, np.zeros((0, 2, 2)), REGISTRY, model="abc")
    assert frame.schema == p.PREDICTIONS
    assert frame.is_empty()


def test_files_come_back_and_equal_frames_give_equal_bytes(tmp_path):
    p.write(table(), tmp_path / "a.parquet")
    p.write(table(), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert p.read(tmp_path / "a.parquet").equals(table())
    assert p.read(tmp_path).equals(pl.concat([table(), table()]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_wrong_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="holds no predictions"):
        p.read(tmp_path)
    with pytest.raises(ValueError, match="holds no predictions"):
        p.read(tmp_path / "none.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="not a whole parquet file"):
        p.read(tmp_path / "cut.parquet")
    table().drop("model").write_parquet(tmp_path / "less.parquet")
    with pytest.raises(ValueError, match="no column model"):
        p.read(tmp_path / "less.parquet")
    with pytest.raises(ValueError, match="column probability is Float64"):
        p.write(table().with_columns(pl.col("probability").cast(pl.Float64)), tmp_path / "wide.parquet")
    assert not (tmp_path / "wide.parquet").exists()


def test_meds_evaluation_form(tmp_path):
    frame = table()
    labels = frame.select(
        *p.KEY,
        pl.Series("boolean_value", [True, None, False, False, True, True]),
        pl.lit(1.0).alias("time_to_event_days"),
        pl.lit(value=True).alias("event"),
    ).cast(dict(LABELS))
    files = p.to_meds(frame, labels, tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in files]
    assert names == ["a_second/90.parquet", "b_first/30.parquet", "b_first/365.parquet"]
    long = pl.read_parquet(tmp_path / "b_first" / "365.parquet")
    assert long.schema == p.MEDS
    assert long.drop("prediction_time").rows() == [(3, True, True, 0.5)]
    assert long["prediction_time"].to_physical().to_list() == [86_400_000_000]
    short = pl.read_parquet(tmp_path / "b_first" / "30.parquet")
    assert short["subject_id"].to_list() == [3, 5]
    assert short["boolean_value"].to_list() == [False, True]
