"""Seven patients stepped through by hand: what they are predicted, why others are not, and their tokens."""

import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from ehr.events import EVENTS, first_inversion
from ehr.outcomes.labels import ATTRITION, LABELS, label
from ehr.outcomes.registry import CENSORS, EVERY, INDEX_POINTS, Index, Outcome, load
from ehr.timelines import Shard, build
from ehr.vocabulary import Settings, Vocabulary, count, merge
from tests.docs import ROOT

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


def test_the_page_on_outcomes_tells_the_same():
    page = (ROOT / "docs" / "how-to" / "outcomes.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    assert shown["outcomes"]["cancer"] == yaml.safe_load((FOLDER / "outcomes.yaml").read_text())["outcomes"]["cancer"]
    rules = pl.read_csv(FOLDER / "attrition.csv").filter(outcome="cancer")
    for rule, _, patients, samples, why in rules.iter_rows():
        taken = "" if rule in ("candidates", "kept") else "-"
        cells = [f"{taken if number else ''}{number}" for number in (patients, samples)]
        assert f"| `{rule}` | {cells[0]} | {cells[1]} | {why} |" in page
    labels = pl.read_csv(FOLDER / "labels.csv").filter(outcome="cancer")
    for (subject, time), rows in labels.group_by("subject_id", "prediction_time", maintain_order=True):
        values = ["" if value is None else f"{str(value).lower()} " for value in rows["boolean_value"]]
        assert f"| {subject} | {time[:10]} {time[11:16]} | {values[0]}| {values[1]}|" in page


def test_every_key_of_outcomes_stands_on_the_pages():
    for name in ("how-to/outcomes.md", "reference/yaml.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for key in {*Outcome.__dataclass_fields__, *Index.__dataclass_fields__} - {"name"}:
            assert re.search(rf"`[^`]*\b{key}\b[^`]*`", page), f"{name}: {key}"
        for word in (*INDEX_POINTS, *EVERY, *CENSORS):
            assert f"`{word}`" in page, f"{name}: {word}"
