"""The reference pages name every table, column, file and key that there is."""

import json
import re

import polars as pl
import pytest
import yaml

from ehr.events import EVENTS
from ehr.metrics.scores import SCORES
from ehr.outcomes.labels import ATTRITION, LABELS
from ehr.predictions import PREDICTIONS
from ehr.quality.profile import REJECTED
from ehr.quality.thresholds import Thresholds
from ehr.sources.table.parse import TABLE_KEYS
from ehr.timelines import TIMELINES
from pipelines.card import STATED
from pipelines.scoring import UNSCORED
from tests.docs import ROOT


def read(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(page, title):
    """Return what stands below a heading."""
    return re.split(rf"\n#+ {re.escape(title)}\n", page)[1].split("\n## ")[0].split("\n### ")[0]


def named(text):
    """Return every word in backquotes."""
    return {word for span in re.findall(r"`([^`]*)`", text) for word in re.split(r"[\s,]+", span)}


@pytest.mark.parametrize(
    ("title", "columns"),
    [
        ("EVENTS", EVENTS.names()),
        ("TIMELINES", TIMELINES.names),
        ("LABELS", LABELS.names()),
        ("PREDICTIONS", PREDICTIONS.names()),
        ("SCORES", SCORES.names()),
        ("cohort/", [*REJECTED.names(), *ATTRITION.names()]),
        ("predictions/", UNSCORED.names()),
    ],
)
def test_columns_of_tables(title, columns):
    assert set(columns) <= named(section(read("reference/schemas.md"), title))


@pytest.mark.parametrize("kind", ["cohort", "run", "release"])
def test_files_and_columns_of_folders(chain, kind):
    page = read("reference/schemas.md")
    shown = named(section(page, f"{kind}/"))
    tables = {"EVENTS": EVENTS, "LABELS": LABELS, "SCORES": SCORES, "PREDICTIONS": PREDICTIONS}
    for folder in {"cohort": [chain.cohort], "run": [chain.pretrained, chain.tuned], "release": [chain.release]}[kind]:
        for path in folder.rglob("*"):
            name = re.sub(r"\b\d{5}\b", "NNNNN", path.relative_to(folder).as_posix())
            if path.is_file() and not name.startswith("tensorboard/"):
                assert name in shown
            if path.suffix == ".parquet":
                schema = pl.read_parquet_schema(path)
                assert set(schema) <= shown or any(schema == held for held in tables.values()), name
        manifest = json.loads((folder / "manifest.json").read_text())
        assert set(manifest) <= named(section(page, "manifest.json"))


def test_keys_of_the_vocabulary_and_of_results(chain):
    shown = named(section(read("reference/schemas.md"), "cohort/"))
    assert set(json.loads((chain.cohort / "vocabulary.json").read_text())) <= shown
    assert set(json.loads((chain.cohort / "quality" / "results.json").read_text())[0]) <= shown


def test_keys_of_yaml_files():
    page = read("reference/yaml.md")
    assert set(Thresholds().content()) <= named(section(page, "Thresholds of the gates"))
    assert set(TABLE_KEYS) <= named(section(page, "Column maps"))
    assert set(STATED) <= named(section(page, "Model card"))
    for name in ("pretrain", "finetune"):
        content = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
        del content["trainer"]
        assert keys(content) - {"model", "data"} <= named(section(page, "Training")) | nested(page)


def nested(page):
    """Return the last words of dotted names, such as `model.network`."""
    return {word.split(".")[-1] for word in named(section(page, "Training"))}


def keys(content):
    """Return all keys of nested mappings."""
    held = content if isinstance(content, dict) else {}
    return set(held).union(*(keys(value) for value in held.values()))


def test_every_gate_stands_on_its_page_with_its_default():
    page = read("how-to/quality.md")
    for gate in Thresholds.bounds():
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{gate}`" in line.split("|")[1])
        assert float(row.split("|")[-2]) == Thresholds().bound(gate), gate
    settings = section(page, "Settings that are no shares")
    for name in ("min_count", "unit_drift", "longest_tokens"):
        row = next(line for line in settings.splitlines() if line.startswith(f"| `{name}`"))
        assert float(row.split("|")[2].replace(",", "")) == getattr(Thresholds(), name)
    assert {"now", "ranges"} <= named(settings)
