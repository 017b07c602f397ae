"""Seven patients stepped through by hand: what they are predicted, why others are not, and their tokens."""

from pathlib import Path

import polars as pl
import pytest

from ehr.events import EVENTS, first_inversion
from ehr.outcomes.labels import ATTRITION, LABELS, label
from ehr.outcomes.registry import load
from ehr.timelines import Shard, build
from ehr.vocabulary import Settings, Vocabulary, count, merge

FOLDER = Path(__file__).parent / "seven"


def read(name, schema):
    """Return a golden table in a schema, without its column `why`."""
    table = pl.read_csv(FOLDER / name, infer_schema=False)
    times = {column for column, kind in schema.items() if kind == pl.Datetime("us")}
    columns = [
        pl.col(column).str.to_datetime(time_unit="us") if column in times else held(column, kind)
        for column, kind in schema.items()
    ]
    return table.select(columns)


def held(column, kind):
    return pl.col(column) == "true" if kind == pl.Boolean else pl.col(column).cast(kind)


@pytest.fixture(scope="module")
def events():
    found = read("events.csv", {name: kind for name, kind in EVENTS.items() if name != "text_value"})
    found = found.with_columns(pl.lit(None, EVENTS["text_value"]).alias("text_value"))
    assert first_inversion(found) is None
    return found


@pytest.fixture(scope="module")
def labelled(events):
    return label(events, load(FOLDER / "outcomes.yaml"))


def test_labels(labelled):
    columns = {name: kind for name, kind in LABELS.items() if name != "event"}
    expected = read("labels.csv", columns)
    found = labelled[0]
    close = ["time_to_event_days"]
    assert found.select(*columns).drop(close).rows() == expected.drop(close).rows()
    assert found["time_to_event_days"].to_list() == pytest.approx(expected["time_to_event_days"].to_list(), abs=1e-4)
    assert found["event"].to_list() == [value is True for value in expected["boolean_value"]]


def test_attrition(labelled):
    assert labelled[1].rows() == read("attrition.csv", ATTRITION).rows()


def test_tokens(events):
    vocabulary = Vocabulary.fit(merge([count(events)]), Settings(min_patients=2, bins=2, min_rows=3))
    schema = {"subject_id": pl.Int64, "token": pl.String, "visit": pl.Int32, "age_days": pl.Float32}
    expected = read("tokens.csv", schema)
    shard = Shard(build(events, vocabulary))
    found = [
        (record.subject, vocabulary.codes[token], visit, age)
        for record in map(shard.record, (0, 4))
        for token, visit, age in zip(
            record.token.tolist(), record.visit.tolist(), record.age_days.tolist(), strict=True
        )
    ]
    assert [row[:3] for row in found] == expected.drop("age_days").rows()
    assert [row[3] for row in found] == pytest.approx(expected["age_days"].to_list(), abs=1e-2)
