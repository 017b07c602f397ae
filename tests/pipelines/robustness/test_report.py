"""`anamnesis robustness` on the smallest chain: a run with gradients, a release without."""

import json
from pathlib import Path

import polars as pl
import pytest

from ehr.shifts.catalogue import TEST
from pipelines import cli
from pipelines.robustness import running
from pipelines.robustness.running import Plan, report

SMALL = {"bootstrap": 20, "workers": 1, "split": "train", "patients": 90, "attacked": 30}


FEW = ("code_dropout", "local_codes")


def some(book):
    """Return a few corruptions, in the place of all."""
    return list(FEW), {"system_change": "no code map (--code-map)"}


@pytest.fixture(scope="module")
def hardness(chain, tmp_path_factory):
    """Return the report of a run with a few corruptions."""
    folder = tmp_path_factory.mktemp("robustness") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "applicable", some)
        report(chain.tuned, chain.cohort, folder, Plan(**SMALL))
    return folder


@pytest.mark.slow
def test_the_whole_grid_is_run(chain, tmp_path):
    report(chain.tuned, chain.cohort, tmp_path / "report", Plan(**{**SMALL, "suites": ("ehr-c",)}))
    found = json.loads((tmp_path / "report" / "report.json").read_text())["ehr_c"]
    assert {*found["corruptions"], *found["not_applicable"]} == set(TEST)
    assert set(found["seen"]) == {"code_dropout", "visit_dropout"}
    assert "excess_error_unseen" in found


def test_every_corruption_has_its_passes(hardness):
    table = pl.read_parquet(hardness / "passes.parquet")
    found = json.loads((hardness / "report.json").read_text())
    own = table.filter(model="model")
    assert set(own["corruption"]) == {"clean", *FEW}
    assert own.filter(pl.col("corruption") != "clean").group_by("corruption").len()["len"].unique().to_list() == [5]
    assert table["auroc"].is_between(0, 1).all()
    clean = own.filter(corruption="clean").row(0, named=True)
    assert clean["flips"] == clean["shift"] == clean["ece_change"] == 0
    # Severity nests: more is never answered from what was read before than there are samples.
    assert own["asked"].max() <= found["samples"]
    assert found["ehr_c"]["mce"]["value"] > 0


def test_attacks_beat_random_edits(hardness):
    found = json.loads((hardness / "report.json").read_text())
    rows = {(row["attack"], row["budget"]): row for row in found["codes"]}
    table = pl.read_parquet(hardness / "attacks.parquet")
    gain = {key: group["gain"].mean() for key, group in table.group_by("attack", "budget")}
    for budget in (1, 2, 3, 5):
        for attack in ("white_box", "black_box"):
            assert gain[attack, budget] >= gain["random", budget]
        assert rows["black_box", budget]["edits"] <= budget
    assert gain["black_box", 1] <= gain["black_box", 2] <= gain["black_box", 3] <= gain["black_box", 5]
    radii = [row["auroc"] for row in found["embedding"]]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < rows["none", 0]["auroc"]


def test_a_release_answers_with_scores_alone_and_a_page_shows_it(chain, tmp_path, capsys):
    arguments = ("--suite", "codes,embedding", "--attacked", "6", "--split", "train", "--bootstrap", "5")
    assert cli.main(["robustness", str(chain.release), str(chain.cohort), str(tmp_path / "report"), *arguments]) == 0
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {row["attack"] for row in found["codes"]} == {"none", "black_box", "random"}
    page = (tmp_path / "report" / "report.html").read_text()
    assert "not available: a release has no gradients" in page
    assert "wrote" in capsys.readouterr().err


def test_a_stopped_run_goes_on_with_the_same_figures(chain, hardness, tmp_path, monkeypatch):
    target = tmp_path / "again"
    monkeypatch.setattr(running, "applicable", some)
    plan = Plan(**{**SMALL, "suites": ("ehr-c",)})
    kept, count = running.keep, []

    def stops(path, passes):
        if len(count) == 2:
            raise ValueError("stopped")
        count.append(path)
        kept(path, passes)

    monkeypatch.setattr(running, "keep", stops)
    with pytest.raises(ValueError, match="stopped"):
        report(chain.tuned, chain.cohort, target, plan)
    assert not target.exists()
    monkeypatch.setattr(running, "keep", kept)
    report(chain.tuned, chain.cohort, target, plan)
    assert not (target / "work").exists()
    one, other = (pl.read_parquet(Path(folder) / "passes.parquet") for folder in (hardness, target))
    assert one.drop("asked").equals(other.drop("asked"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "images"), "--suite images: expected of ehr-c, codes, embedding"),
        (("--split", "nobody"), "no split nobody"),
        (("--attacked", "0"), "--attacked from 1 on"),
    ],
)
def test_bad_settings_are_one_line(chain, tmp_path, capsys, arguments, message):
    assert cli.main(["robustness", str(chain.tuned), str(chain.cohort), str(tmp_path / "r"), *arguments]) == 2
    assert message in capsys.readouterr().err
