"""The model card: what a release says of itself, in words."""

import json
import re

import polars as pl
import pytest

from ehr.metrics.scores import SCORES
from ehr.outcomes.registry import load
from pipelines import artefacts, card
from tests.pipelines import cohorts

FACTS = {
    "inputs": {"token": {"type": "int64", "shape": ["batch", "seq"]}},
    "operators": ["Add", "MatMul"],
    "parameters": 537154,
    "parity": {"max_abs": 1.430511474609375e-06, "samples": 3076},
    "trained_on": {"cohort": "9a" * 32, "pretrained": ""},
    "quantised": False,
    "domains": [],
}


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "outcomes.yaml").write_text(cohorts.OUTCOMES)
    return load(tmp_path / "outcomes.yaml")


@pytest.fixture
def report(tmp_path):
    rows = [
        ("anamnesis", "failure", 365, "auroc", 0.81234, 0.75, 0.86, 200, 40, 0.2),
        ("anamnesis", "failure", 365, "auprc", 0.5, None, None, 200, 40, 0.2),
        ("anamnesis", "never", 365, "auroc", None, None, None, 190, 3, 3 / 190),
        ("logistic_regression", "failure", 365, "auroc", 0.99999, 0.9, 1.0, 200, 40, 0.2),
        ("anamnesis", "macro", None, "auroc", 0.7, 0.6, 0.8, 200, 40, 0.2),
    ]
    folder = tmp_path / "report"
    folder.mkdir()
    pl.DataFrame(rows, schema=SCORES, orient="row").write_parquet(folder / "scores.parquet")
    artefacts.write_manifest(folder, "report", split="held_out", patients=150, samples=2000, cohort="ab" * 32)
    return folder


def test_facts_are_words_and_numbers(registry):
    page = card.page(card.record(registry, FACTS, card.stated(None)))
    facts = dict(re.findall(r"^\| ([\w ]+) \| (.*) \|$", page.split("## Facts")[1], re.MULTILINE))
    assert facts == {
        "inputs": "token int64 [batch, seq]",
        "operators": "Add, MatMul",
        "parameters": "537,154",
        "parity": "max abs 1.43e-06; samples 3,076",
        "trained on": "cohort 9a9a9a9a9a9a; pretrained none",
        "quantised": "no",
        "domains": "none",
    }
    assert not re.search(r"[{}']", page)


def test_outcomes_that_were_not_learnt_are_named(registry):
    told = card.record(registry, FACTS, card.stated(None), disabled=["never"])
    assert told["not_learnt"] == ["never"]
    assert "**Not learnt**, for want of a positive label in training: never." in card.page(told)
    assert "Not learnt" not in card.page(card.record(registry, FACTS, card.stated(None)))


def test_performance_is_that_of_the_report(registry, report):
    page = card.page(card.record(registry, FACTS, card.stated(None), report))
    assert "On 150 patients (2,000 samples) of the split held_out" in page
    lines = [line for line in page.split("## Performance")[1].splitlines() if line.startswith("| ")][1:4]
    assert lines[0].startswith("| **mean of 2** |  | 40 of 200 | 20.00% | 0.700 (0.600 to 0.800) |")
    assert lines[1].startswith("| failure | 365 | 40 of 200 | 20.00% | 0.812 (0.750 to 0.860) | 0.500 |")
    assert lines[2].startswith("| never | 365 | 3 of 190 | 1.58% | not estimable |")
    assert "0.99999" not in page
    assert "1.000" not in page


def test_without_a_report_the_figures_are_missing(registry):
    told = card.record(registry, FACTS, card.stated(None))
    assert told["performance"] == told["measured"] == "missing"
    assert "missing: export again with --report REPORT" in card.page(told)


def test_a_recalibrated_card_shows_the_figures_from_there(registry, report):
    before = card.record(registry, FACTS, card.stated(None), disabled=["never"])
    after = card.recalibrated(before, {"split": "calibration", "kept": ["never"]}, report)
    assert after["measured"]["patients"] == 150
    assert after["not_learnt"] == ["never"]
    assert "| recalibrated | split calibration; kept never |" in card.page(after)
    assert "recalibrated" not in before["facts"]
    assert json.loads(json.dumps(after)) == after


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nme: x\n", "unknown field nme"),
        ("- a\n", "expected fields and text"),
        ("{", "not YAML"),
        (None, "no such file"),
    ],
)
def test_what_people_state_is_checked(tmp_path, text, message):
    path = tmp_path / "card.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        card.stated(path)


def test_what_people_state_stands_in_the_card(tmp_path, registry):
    (tmp_path / "card.yaml").write_text("name: Failure\ncautions: >\n  not for\n  children\nfunding:\n")
    told = card.record(registry, FACTS, card.stated(tmp_path / "card.yaml"))
    assert told["stated"]["cautions"] == "not for children"
    assert told["stated"]["funding"] == "missing"
    assert "- **name**: Failure" in card.page(told)
