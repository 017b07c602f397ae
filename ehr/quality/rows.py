"""Tables for `--row-level`: one shard as pandas frames whose columns Great Expectations holds to each other."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import polars as pl

from ehr.events import BIRTH, DEATH, EVENTS
from ehr.quality.plausibility import Range

LARGEST = 3.4e38


class Tables(NamedTuple):
    """Pandas frames of one shard: all rows, the rows that can be used, and their patients."""

    rows: Any
    usable: Any
    patients: Any


def tables(events: pl.DataFrame, *, now: int, ranges: Mapping[str, Range]) -> Tables:
    """Return the tables of a shard.

    Args:
        events: EVENTS in canonical order, with the optional column reject.
        now: microseconds since 1970; later rows lie in the future.
        ranges: plausible ranges by code.
    """
    rows = row_table(events, now)
    early = yes(rows["day"] < rows["birth_day"])
    late = yes(rows["day"] > rows["last_day"])
    usable = rows[rows["sound"] & ~early & ~late].copy()
    bounds = pl.DataFrame(
        [(code, low, high) for code, (low, high) in ranges.items()],
        schema={"code": pl.String, "low": pl.Float32, "high": pl.Float32},
        orient="row",
    ).to_pandas(use_pyarrow_extension_array=True)
    for column in ("low", "high"):
        usable[column] = usable["code"].map(bounds.set_index("code")[column])
    return Tables(rows, usable, patient_table(rows, usable))


def row_table(events: pl.DataFrame, now: int) -> Any:  # noqa: ANN401  a pandas frame
    """Return events as a frame of Arrow columns (ids stay exact, NaN is no null), with what rows are held to.

    Added: now; sound (the row alone can be used); day; subject_before and time_before; birth_day; last_day.
    """
    code = pl.col("code").replace("", None)
    reject = pl.col("reject") if "reject" in events.columns else pl.lit(None, pl.String).alias("reject")
    kept = [pl.col(name) for name in EVENTS if name != "code"]
    end = pl.lit(now, dtype=pl.Int64).cast(pl.Datetime("us")).alias("now")
    rows: Any = events.select(*kept, code, reject, end).to_pandas(use_pyarrow_extension_array=True)
    value = rows["numeric_value"]
    # NaN is the only value that differs from itself.
    infinite = yes(value != value) | yes(value.abs() > LARGEST)  # noqa: PLR0124
    rows["sound"] = (
        yes(rows["subject_id"] >= 0)
        & rows["code"].notna()
        & rows["reject"].isna()
        & ~infinite
        & ~yes(rows["time"] > rows["now"])
    )
    rows["day"] = rows["time"].dt.floor("D")
    rows["subject_before"] = rows["subject_id"].shift(1)
    rows["time_before"] = rows["time"].shift(1).where(yes(rows["subject_before"] == rows["subject_id"]))
    for column, edge, slack in (("birth_day", BIRTH, 0), ("last_day", DEATH, 1)):
        first = edge_days(rows, edge).groupby("subject_id")["day"].first()
        # Not `map`: where nobody was born or died it would make a column of numbers.
        rows[column] = (first + timedelta(days=slack)).reindex(rows["subject_id"]).set_axis(rows.index)
    return rows


def edge_days(rows: Any, edge: str) -> Any:  # noqa: ANN401
    """Return the sound, dated rows of births or deaths."""
    return rows[rows["sound"] & yes(rows["code"] == edge) & rows["day"].notna()]


def patient_table(rows: Any, usable: Any) -> Any:  # noqa: ANN401
    """Return one row a patient: birth_day, and the numbers of days on which births and deaths stand."""
    patients = usable.groupby("subject_id")[["birth_day"]].first()
    for column, edge in (("births", BIRTH), ("deaths", DEATH)):
        days = edge_days(rows, edge).groupby("subject_id")["day"].nunique()
        patients[column] = patients.index.map(days)
    return patients.reset_index()


def yes(column: Any) -> Any:  # noqa: ANN401
    """Return a column of booleans in which unknown is no."""
    return column.fillna(value=False).astype(bool)
