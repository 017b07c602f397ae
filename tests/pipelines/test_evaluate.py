"""anamnesis evaluate: scores against scikit-learn, a run against its release, elsewhere, recalibration, refusals."""

import json
import re
import shutil
from typing import NamedTuple

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from pipelines import cli, release
from pipelines.answering import match, open_model
from pipelines.artefacts import digest
from pipelines.cohort import open_cohort, timelines
from pipelines.contest import contest
from pipelines.evaluation import Plan, evaluate
from pipelines.prepare import main as prepare
from pipelines.samples import questions_of, samples_of
from tests import chain as chains
from tests.pipelines import cohorts

FIRST = 7_700_000_000_000
"""Ids of patients that no other number on a page can be."""
KEY = ["model", "outcome", "horizon_days", "metric"]
SAMPLE = ["subject_id", "prediction_time", "outcome", "horizon_days"]
QUICK = Plan(bootstrap=30, baselines=False)


class Places(NamedTuple):
    """Two cohorts of the same records: one in the model's vocabulary, one in its own."""

    same: object
    other: object


@pytest.fixture(scope="module")
def places(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    frame = cohorts.events(400, seed=5).with_columns(pl.col("subject_id") + FIRST)
    records = chains.write_records(frame, folder / "records", files=1)
    known = ("--outcomes", chain.outcomes, "--fractions", "0.35,0.1,0.2,0.35", "--workers", 1)
    made = Places(folder / "same", folder / "other")
    for cohort, words in (
        (made.same, ("--vocabulary", chain.cohort / "vocabulary.json")),
        (made.other, ("--min-patients", 10)),
    ):
        assert prepare([str(word) for word in (records, cohort, *known, *words)]) == 0
    return made


@pytest.fixture(scope="module")
def of_run(chain, places, tmp_path_factory):
    report = tmp_path_factory.mktemp("of_run") / "report"
    evaluate(chain.tuned, places.same, report, Plan(bootstrap=60))
    return report


@pytest.fixture(scope="module")
def of_release(chain, places, tmp_path_factory):
    report = tmp_path_factory.mktemp("of_release") / "report"
    evaluate(chain.release, places.same, report, Plan(bootstrap=60, baselines=False))
    return report


@pytest.fixture(scope="module")
def elsewhere(chain, places, tmp_path_factory):
    """The release evaluated on the other cohort, and recalibrated there."""
    folder = tmp_path_factory.mktemp("elsewhere")
    before = sums(chain.release)
    plan = Plan(bootstrap=30, baselines=False, recalibrate=folder / "release")
    manifest = evaluate(chain.release, places.other, folder / "report", plan)
    assert sums(chain.release) == before
    return folder, manifest


def sums(folder):
    return {file.relative_to(folder).as_posix(): digest(file) for file in folder.rglob("*") if file.is_file()}


def labels_of(cohort, split):
    """Labels read without the code that evaluate reads them by."""
    frame = pl.concat([pl.read_parquet(file) for file in sorted((cohort / "labels").glob("*.parquet"))])
    own = pl.read_parquet(cohort / "splits.parquet").filter(pl.col("split") == split)["subject_id"]
    return frame.filter(pl.col("subject_id").is_in(own.to_list()) & pl.col("boolean_value").is_not_null())


def values(report, metric):
    frame = pl.read_parquet(report / "scores.parquet").filter(metric=metric)
    return {(row["model"], row["outcome"], row["horizon_days"]): row for row in frame.iter_rows(named=True)}


def test_scores_are_those_of_scikit_learn_on_the_files(places, of_run):
    label = labels_of(places.same, "held_out")
    made = pl.read_parquet(of_run / "predictions.parquet").with_columns(model=pl.lit("anamnesis"))
    joined = pl.concat([made, pl.read_parquet(of_run / "baselines.parquet")]).join(label, on=SAMPLE)
    names = {"auroc": roc_auc_score, "auprc": average_precision_score, "brier": brier_score_loss}
    found = {metric: values(of_run, metric) for metric in names}
    estimable = 0
    for key, rows in joined.group_by(["model", "outcome", "horizon_days"]):
        y, p = rows["boolean_value"].to_numpy(), rows["probability"].to_numpy()
        facts = found["auroc"][key]
        assert (facts["count"], facts["positives"]) == (len(y), y.sum())
        assert facts["prevalence"] == pytest.approx(y.mean())
        if min(y.sum(), (~y).sum()) < 10:
            assert all(found[metric][key]["value"] is None for metric in names)
            continue
        estimable += 1
        for metric, measure in names.items():
            assert found[metric][key]["value"] == pytest.approx(measure(y, p.astype(np.float64)), abs=1e-9)
            assert found[metric][key]["lower"] < found[metric][key]["value"] < found[metric][key]["upper"]
    assert estimable >= 6
    assert {key[0] for key in found["auroc"]} == {"anamnesis", "logistic_regression", "gradient_boosting"}


def test_macro_rows_are_means_and_differences(of_run):
    auroc, gain = values(of_run, "auroc"), values(of_run, "auroc_over_gradient_boosting")
    for model in ("anamnesis", "gradient_boosting"):
        own = [row["value"] for key, row in auroc.items() if key[0] == model and key[1] != "macro" and row["value"]]
        assert auroc[model, "macro", None]["value"] == pytest.approx(np.mean(own))
    for key, row in gain.items():
        ours, theirs = auroc[key], auroc["gradient_boosting", *key[1:]]
        if row["value"] is None:
            assert ours["value"] is None
        else:
            assert row["value"] == pytest.approx(ours["value"] - theirs["value"])
            assert row["lower"] <= row["value"] <= row["upper"]


def test_a_run_and_its_release_agree(of_run, of_release):
    run, held = (pl.read_parquet(report / "scores.parquet") for report in (of_run, of_release))
    joined = held.join(run, on=KEY, how="left", nulls_equal=True, suffix="_run")
    assert len(joined) == len(held) > 30
    for name in ("value", "lower", "upper"):
        ours, theirs = joined[name], joined[f"{name}_run"]
        assert (ours.is_null() == theirs.is_null()).all()
        # Slopes of so few patients are tens: 1e-4 of what is compared, 1e-4 itself for what lies below 1.
        assert ((ours - theirs).abs() / theirs.abs().clip(lower_bound=1)).max() <= 1e-4
    assert joined.select((pl.col("count") == pl.col("count_run")).all()).item()


def test_every_file_is_listed_and_whole(of_run):
    manifest = json.loads((of_run / "manifest.json").read_text())
    there = {file.relative_to(of_run).as_posix() for file in of_run.rglob("*") if file.is_file()}
    assert there == {*manifest["files"], "manifest.json"}
    assert {"report.html", "scores.csv", "subgroups.csv", "predictions.parquet", "baselines.parquet"} <= there
    assert all(digest(of_run / name) == entry["sha256"] for name, entry in manifest["files"].items())


def test_csv_and_parquet_hold_the_same_scores(of_run):
    table = pl.read_parquet(of_run / "scores.parquet")
    text = pl.read_csv(of_run / "scores.csv", schema=table.schema)
    assert text.select(KEY).equals(table.select(KEY))
    assert (text["value"] - table["value"]).abs().max() < 1e-6


def test_subgroups_are_scored_as_if_alone(places, of_run):
    groups = pl.read_csv(of_run / "subgroups.csv")
    statics = pl.concat([pl.read_parquet(file) for file in (places.same / "events").glob("*.parquet")])
    women = statics.filter(pl.col("code") == "SEX//F")["subject_id"].to_list()
    own = groups.filter(attribute="sex", group="F", metric="auroc").drop_nulls("value")
    made = pl.read_parquet(of_run / "predictions.parquet").join(labels_of(places.same, "held_out"), on=SAMPLE)
    assert len(own)
    for row in own.iter_rows(named=True):
        held = made.filter(pl.col("subject_id").is_in(women), outcome=row["outcome"], horizon_days=row["horizon_days"])
        assert row["count"] == len(held)
        assert row["value"] == pytest.approx(roc_auc_score(held["boolean_value"], held["probability"]), abs=1e-6)


def test_the_page_holds_no_patient_no_date_and_no_address(of_run):
    page = (of_run / "report.html").read_text()
    assert not re.search(r"77000\d{8}", page)
    assert not re.search(r"\b(19|20)\d\d-\d\d-\d\d", page)
    assert not re.search(r"https?:|//[a-z]+\.|src=|url\((?!#)|@import|<script|<link|<iframe", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert str(FIRST)[:5] in str(pl.read_parquet(of_run / "predictions.parquet")["subject_id"][0])


def test_a_split_that_was_fitted_on_is_said_and_few_positives_are_not_estimated(chain, tmp_path, capsys):
    code = cli.main(words("evaluate", chain.tuned, chain.cohort, tmp_path / "r", "--split", "tuning", *FAST))
    assert code == 0
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert "The split tuning had a part in training: these scores are too good." in manifest["notes"]
    shown = capsys.readouterr()
    assert "note: The split tuning had a part in training" in shown.err
    positive = labels_of(chain.cohort, "tuning").group_by("outcome", "horizon_days")
    count = positive.agg(pl.len(), pl.col("boolean_value").sum().alias("hits"))
    few = count.filter(pl.min_horizontal("hits", pl.col("len") - pl.col("hits")) < 10)
    assert len(few.filter(pl.col("hits").is_between(1, 9))) >= 2
    auroc = values(tmp_path / "r", "auroc")
    assert all(
        auroc["anamnesis", name, days]["value"] is None for name, days in few.select("outcome", "horizon_days").rows()
    )
    # The AUROC and AUPRC of each, and the mean where nothing is left to take it of.
    assert shown.out.count("not estimable") == 2 * len(few) + (len(few) == len(count))
    assert "not estimable" in (tmp_path / "r" / "report.html").read_text()


def test_a_split_of_another_cohort_is_not_said_to_be_trained_on(chain, places, tmp_path):
    plan = Plan(split="train", bootstrap=5, baselines=False)
    notes = evaluate(chain.release, places.same, tmp_path / "r", plan)["notes"]
    assert [note for note in notes if "had a part" in note] == []
    assert [note for note in notes if "where it learnt from these patients" in note]


def test_equal_input_gives_equal_bytes(chain, places, tmp_path):
    for name in ("a", "b"):
        evaluate(chain.release, places.same, tmp_path / name, Plan(split="tuning", bootstrap=20, baselines=False))
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()
    assert digest(tmp_path / "a" / "report.html") == digest(tmp_path / "b" / "report.html")


@pytest.mark.parametrize(("split", "same"), [("held_out", True), ("train", False)])
def test_baselines_learn_from_the_training_split_alone(chain, places, tmp_path, split, same):
    changed = shutil.copytree(places.same, tmp_path / "cohort")
    own = pl.read_parquet(changed / "splits.parquet").filter(pl.col("split") == split)["subject_id"].to_list()
    for file in (changed / "labels").glob("*.parquet"):
        turned = pl.when(pl.col("subject_id").is_in(own)).then(~pl.col("boolean_value")).otherwise("boolean_value")
        pl.read_parquet(file).with_columns(turned.alias("boolean_value")).write_parquet(file)
    held = [open_cohort(path) for path in (places.same, changed)]
    matches, _ = match(open_model(chain.release).registry, held[0].registry)
    matches = [found for found in matches if found.outcome == "failure"]
    before, after = (contest(cohort, questions_of(cohort, "held_out"), matches) for cohort in held)
    for model, probability in before.items():
        assert np.isfinite(probability).any()
        assert np.array_equal(probability, after[model], equal_nan=True) == same


def test_another_vocabulary_changes_no_answer(places, of_release, elsewhere):
    folder, manifest = elsewhere
    first, second = (json.loads((cohort / "manifest.json").read_text())["vocabulary"] for cohort in places)
    assert first != second
    assert any("another vocabulary" in note for note in manifest["notes"])
    known, away = values(of_release, "auroc"), values(folder / "report", "auroc")
    compared = [key[1:] for key, row in known.items() if key[1] != "macro" and row["value"] is not None]
    assert len(compared) >= 2
    for key in compared:
        assert away["as_released", *key]["value"] == known["anamnesis", *key]["value"]


def test_recalibration_writes_a_release_that_answers_as_evaluated(chain, places, elsewhere):
    folder, manifest = elsewhere
    held = release.open_release(folder / "release")
    cohort = open_cohort(places.same)
    asked = questions_of(cohort, "held_out")
    probability = release.answer(held, samples_of(timelines(cohort), asked, held.max_tokens))[1]
    made = pl.read_parquet(folder / "report" / "predictions.parquet")
    there = held.registry.horizons >= 0
    assert np.abs(probability[:, there].ravel() - made["probability"].to_numpy()).max() < 1e-5
    assert manifest["models"] == ["anamnesis", "as_released"]
    assert manifest["recalibrated"] is True
    brier = values(folder / "report", "brier")
    assert brier["anamnesis", "failure", 365]["value"] != brier["as_released", "failure", 365]["value"]


def test_recalibration_changes_nothing_but_the_calibration(chain, elsewhere):
    new = elsewhere[0] / "release"
    before, after = (
        {part.name: numpy_helper.to_array(part) for part in onnx.load(str(folder / "model.onnx")).graph.initializer}
        for folder in (chain.release, new)
    )
    changed = {name for name in before | after if not same_bytes(before.get(name), after.get(name))}
    assert changed
    assert all(name.startswith("calibration") for name in changed)
    old, fitted = (release.open_release(folder, trusted=True).calibration for folder in (chain.release, new))
    names = release.open_release(new, trusted=True).registry.names
    # Without a positive nothing is fitted: the released map stays.
    kept = names.index("never")
    assert fitted.slope[kept] == old.slope[kept]
    assert fitted.intercept[kept] == old.intercept[kept]
    assert fitted.slope[names.index("failure")] != old.slope[names.index("failure")]
    stated = json.loads((new / "manifest.json").read_text())["recalibrated"]
    assert stated["kept"] == ["never"]
    assert stated["from"] == digest(chain.release / "manifest.json")
    told = json.loads((new / "card.json").read_text())
    assert told["facts"]["recalibrated"]["split"] == "calibration"
    assert told["measured"]["patients"] == elsewhere[1]["patients"]
    assert "recalibrated" in (new / "card.md").read_text()


def same_bytes(first, second):
    return first is not None and second is not None and first.tobytes() == second.tobytes()


FAST = ("--bootstrap", "5", "--no-baselines")
REFUSED = {
    "report exists": (lambda chain, tmp: (chain.release, chain.cohort, tmp / "full", *FAST), "already exists"),
    "report is a file": (lambda chain, tmp: (chain.release, chain.cohort, tmp / "full" / "own", *FAST), "is a file"),
    "not ours to overwrite": (
        lambda chain, tmp: (chain.release, chain.cohort, tmp / "full", "--overwrite", *FAST),
        "holds no manifest.json",
    ),
    "a run cannot be recalibrated": (
        lambda chain, tmp: (chain.tuned, chain.cohort, tmp / "r", "--recalibrate", tmp / "new", *FAST),
        "takes a release",
    ),
    "the calibration split is fitted on": (
        lambda chain, tmp: (
            *(chain.release, chain.cohort, tmp / "r", "--recalibrate", tmp / "new"),
            *("--split", "calibration", *FAST),
        ),
        "--split calibration",
    ),
    "recalibrated onto itself": (
        lambda chain, tmp: (
            *(chain.release, chain.cohort, tmp / "r", "--recalibrate", chain.release),
            *("--overwrite", *FAST),
        ),
        "is the model itself",
    ),
    "a report onto the cohort": (
        lambda chain, tmp: (chain.release, chain.cohort, chain.cohort, "--overwrite", *FAST),
        "is the cohort itself",
    ),
    "a report onto the new release": (
        lambda chain, tmp: (chain.release, chain.cohort, tmp / "r", "--recalibrate", tmp / "r", *FAST),
        "is the report too",
    ),
    "a report onto another kind": (
        lambda chain, tmp: (chain.release, chain.cohort, chain.tuned, "--overwrite", *FAST),
        "holds a run",
    ),
    "unknown split": (
        lambda chain, tmp: (chain.release, chain.cohort, tmp / "r", "--split", "test", *FAST),
        "no split test; expected one of calibration, held_out, train, tuning",
    ),
    "no resamples": (lambda chain, tmp: (chain.release, chain.cohort, tmp / "r", "--bootstrap", "0"), "--bootstrap 0"),
    "no such model": (lambda chain, tmp: (tmp / "none", chain.cohort, tmp / "r", *FAST), "no such folder"),
    "pretrained only": (lambda chain, tmp: (chain.pretrained, chain.cohort, tmp / "r", *FAST), "pretrained only"),
    "not a cohort": (lambda chain, tmp: (chain.release, chain.release, tmp / "r", *FAST), "expected a cohort"),
    "no labels": (lambda chain, tmp: (chain.release, tmp / "unlabelled", tmp / "r", *FAST), "has no labels"),
    "no outcome in both": (lambda chain, tmp: (chain.release, tmp / "unknown", tmp / "r", *FAST), "is in both"),
    "no outcome at all": (lambda chain, tmp: (chain.release, tmp / "bare", tmp / "r", *FAST), "has no outcomes"),
}


def words(*arguments):
    return [str(argument) for argument in arguments]


@pytest.fixture
def spoiled(chain, tmp_path):
    """Cohorts that nothing can be evaluated on, and a folder that is not ours."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "own").write_text("mine")
    for name in ("unlabelled", "unknown", "bare"):
        shutil.copytree(chain.cohort, tmp_path / name)
    for file in (tmp_path / "unlabelled" / "labels").glob("*.parquet"):
        pl.read_parquet(file).clear().write_parquet(file)
    text = (tmp_path / "unknown" / "outcomes.yaml").read_text()
    for name in ("failure", "kidney", "never"):
        text = text.replace(f"{name}:", f"another_{name}:")
    (tmp_path / "unknown" / "outcomes.yaml").write_text(text)
    (tmp_path / "bare" / "outcomes.yaml").write_text("outcomes: {}\n")
    return tmp_path


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_line_and_leave_nothing(chain, spoiled, capsys, case):
    arguments, message = REFUSED[case]
    standing = (spoiled, chain.release, chain.cohort, chain.tuned)
    before = [sorted(folder.rglob("*")) for folder in standing]
    assert cli.main(words("evaluate", *arguments(chain, spoiled))) == 2
    assert [sorted(folder.rglob("*")) for folder in standing] == before
    last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("anamnesis evaluate:")]
    assert len(last) == 1
    assert message in last[0]
    assert f"{FIRST}"[:5] not in last[0]


def test_a_failure_at_the_end_leaves_neither_report_nor_release(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "open_release", refuse_new(release.open_release, chain.release))
    plan = Plan(bootstrap=5, baselines=False, recalibrate=tmp_path / "new")
    with pytest.raises(ValueError, match="will not open"):
        evaluate(chain.release, chain.cohort, tmp_path / "r", plan)
    assert list(tmp_path.iterdir()) == []


def refuse_new(opener, old):
    def opened(path, **settings):
        if path != old:
            raise ValueError("will not open")
        return opener(path, **settings)

    return opened
