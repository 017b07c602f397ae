"""Tables for Great Expectations: ids stay exact, unknown is no yes, edges are those of the first birth and death."""

from datetime import datetime

import numpy as np
import polars as pl

from ehr.quality.rows import tables, yes
from tests.ehr.quality.naive import Row
from tests.ehr.quality.test_profile import END, day, table

BIG = 2**62 + 1


def made(*rows, ranges=None):
    return tables(table(rows), now=END, ranges=ranges or {})


def test_ids_past_the_whole_numbers_of_a_float_stay_exact():
    found = made(Row(BIG, day(1), "A"), Row(BIG + 1, day(1), "A"), Row(None, None, "A"))
    assert found.rows["subject_id"].dropna().tolist() == [BIG, BIG + 1]
    assert sorted(found.patients["subject_id"].tolist()) == [BIG, BIG + 1]


def test_nan_and_null_are_told_apart():
    found = made(
        Row(1, None, "A", float("nan")), Row(1, None, "A", None), Row(1, None, "A", float("inf")), Row(1, None, "A", 2)
    )
    assert found.rows["sound"].tolist() == [False, True, False, True]
    assert found.rows["numeric_value"].isna().tolist() == [False, True, False, False]


def test_edges_are_whole_days_of_the_first_in_order():
    rows = [
        Row(1, day(2), "MEDS_BIRTH"),
        Row(1, day(3), "MEDS_BIRTH"),
        Row(1, day(5), "MEDS_DEATH"),
        Row(1, day(6, 23), "A"),
        Row(1, day(7, 0), "A"),
        Row(2, day(1), "A"),
    ]
    found = made(*rows)
    own = found.rows[found.rows["subject_id"] == 1]
    assert set(own["birth_day"]) == {datetime(2020, 1, 2)}
    assert set(own["last_day"]) == {datetime(2020, 1, 6)}
    assert len(found.usable) == 5
    patients = found.patients.set_index("subject_id")
    assert patients["births"].tolist()[0] == 2
    assert patients["deaths"].tolist()[0] == 1
    assert patients["birth_day"].isna().tolist() == [False, True]


def test_values_stand_beside_their_ranges():
    found = made(Row(1, day(1), "A", 5), Row(1, day(2), "B", 5), ranges={"A": (0, 4)})
    assert found.usable["high"].tolist()[:1] == [4]
    assert found.usable["low"].isna().tolist() == [False, True]


def test_unknown_is_no():
    column = pl.Series([True, None, False]).to_pandas(use_pyarrow_extension_array=True)
    assert yes(column).dtype == np.bool_
    assert yes(column).tolist() == [True, False, False]
