"""Monitoring end to end: silent on the same site, loud on planted shifts, nobody's data on the page."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from ehr.metrics import drift
from ehr.metrics.drift import Measured, Performance
from ehr.quality.digest import Counts, Digest
from pipelines import artefacts, digests, score
from pipelines.digests import Digests
from pipelines.monitor import cli, page, sources
from pipelines.monitor.compare import watch
from pipelines.monitor.figures import folded
from pipelines.release import open_release
from tests.chain import write_records
from tests.pipelines import cohorts

FRESH = 120


def scored(chain, folder, alter=lambda frame: frame, patients=FRESH, **asked):
    """Return predictions of fresh patients of the chain's site, after a change of their records."""
    frame = alter(cohorts.events(patients, seed=9))
    write_records(frame, folder / "records", files=1)
    score.score(chain.release, folder / "records", folder / "predictions", workers=1, **asked)
    return folder / "predictions"


@pytest.fixture(scope="module")
def same(chain, tmp_path_factory):
    return scored(chain, tmp_path_factory.mktemp("same"))


def run(chain, source, report, *words):
    return cli.main([str(chain.release), str(source), str(report), *map(str, words)])


def alarms(report):
    return {(held["kind"], held["name"]) for held in json.loads((report / "alarms.json").read_text())}


def test_silent_on_the_same_site(chain, same, tmp_path):
    assert run(chain, same, tmp_path / "report") == 0
    assert alarms(tmp_path / "report") == set()
    text = (tmp_path / "report" / "monitor.html").read_text()
    assert "No alarm" in text
    artefacts.verify(tmp_path / "report", artefacts.read_manifest(tmp_path / "report", "monitoring"))


def test_another_unit_is_found(chain, tmp_path):
    """Haemoglobin in mmol/L lies in the range that is plausible in g/dL: no gate of scoring sees it."""
    grams = pl.when(pl.col("code") == "LOINC//718-7").then(pl.col("numeric_value") * 0.6206)
    source = scored(
        chain, tmp_path, lambda frame: frame.with_columns(grams.otherwise(pl.col("numeric_value")).cast(pl.Float32))
    )
    assert run(chain, source, tmp_path / "report") == 3
    assert ("value", "LOINC//718-7") in alarms(tmp_path / "report")


def test_a_lost_feed_is_found(chain, tmp_path):
    source = scored(chain, tmp_path, lambda frame: frame.filter(~pl.col("code").str.starts_with("LOINC//")))
    assert run(chain, source, tmp_path / "report") == 3
    assert ("feed", "LOINC") in alarms(tmp_path / "report")


def test_codes_of_the_house_are_found_and_rare_ones_stay_out_of_files(chain, tmp_path):
    local = pl.when(pl.col("code") == "ICD10CM//J06.9").then(pl.lit("LOCAL//cold"))
    rare = pl.when((pl.col("code") == "ICD10CM//R05") & (pl.col("subject_id") < 5)).then(pl.lit("NOTE//her name"))
    code = rare.otherwise(local.otherwise(pl.col("code"))).alias("code")
    borne = tmp_path / "quality.yaml"
    borne.write_text("unknown_codes: 0.5\n")
    source = scored(chain, tmp_path, lambda frame: frame.with_columns(code), quality=borne)
    assert run(chain, source, tmp_path / "report") == 3
    assert {("unknown", "share"), ("code", "ICD10CM//J06.9")} & alarms(tmp_path / "report")
    for path in [source / "digest.json", *(tmp_path / "report").iterdir()]:
        assert "her name" not in path.read_text()


def test_the_page_asks_nothing_of_the_outside(chain, same, tmp_path):
    run(chain, same, tmp_path / "report")
    text = (tmp_path / "report" / "monitor.html").read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert text.count("<svg") == text.count("</svg>") > 3
    first = (tmp_path / "report" / "monitor.html").read_bytes()
    run(chain, same, tmp_path / "report", "--overwrite")
    assert (tmp_path / "report" / "monitor.html").read_bytes() == first


@pytest.mark.slow
def test_a_browser_shows_it(chain, same, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium")
    run(chain, same, tmp_path / "report")
    words = ("--headless", "--no-sandbox", "--dump-dom", f"file://{tmp_path}/report/monitor.html")
    found = subprocess.run([browser, *words], capture_output=True, text=True, check=False, timeout=120)
    assert "No alarm" in found.stdout


def test_an_earlier_scoring_as_reference(chain, same, tmp_path):
    """Against itself nothing differs; against records without a feed the whole ones do."""
    assert run(chain, same, tmp_path / "same", "--reference", same) == 0
    bare = scored(chain, tmp_path, lambda frame: frame.filter(~pl.col("code").str.starts_with("LOINC//")))
    assert run(chain, bare, tmp_path / "itself", "--reference", bare) == 0


def test_other_times_are_told(chain, tmp_path, capsys):
    source = scored(chain, tmp_path, at="2003-01-01")
    run(chain, source, tmp_path / "report")
    assert "one date for all" in capsys.readouterr().err


def test_an_audit_is_compared_by_its_answers(chain, tmp_path, capsys):
    release = open_release(chain.release, trusted=True)
    names = [name for name, _, _ in digests.slots(release.registry)]
    random = np.random.default_rng(0)

    def line(patient, low, model=release.model):
        entry = {
            "time": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
            "status": 200,
            "model": model,
            "patient": patient,
        }
        found = (low + 0.05 * random.random((1, len(names)))).round(5).tolist()
        return json.dumps({**entry, "outcomes": names, "probability": found}) + "\n"

    refused = json.dumps({"status": 400, "model": release.model, "patient": None}) + "\n"
    path = tmp_path / "audit.jsonl"
    path.write_text(refused + "".join(line(f"{i % 300:064x}", 0.9) for i in range(600)) + line(None, 0.9, "another"))
    assert run(chain, path, tmp_path / "report") == 3
    assert {kind for kind, _ in alarms(tmp_path / "report")} == {"probability"}
    assert sources.of_audit(path, release.model).digest.everyone == 300
    assert "only probabilities are compared" in capsys.readouterr().err
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"audit\.jsonl:1: not a line of an audit"):
        run(chain, path, tmp_path / "other")
    path.write_text(line(None, 0.5, "another"))
    with pytest.raises(ValueError, match="no answer of the release's model"):
        run(chain, path, tmp_path / "other")


def test_labels_that_belong_to_no_prediction_and_a_release_without_a_digest(chain, same, tmp_path):
    with pytest.raises(ValueError, match="--labels: none is of a prediction"):
        run(chain, same, tmp_path / "report", "--labels", chain.cohort / "labels")
    old = tmp_path / "old"
    shutil.copytree(chain.release, old)
    (old / "digest.json").unlink()
    with pytest.raises(ValueError, match=r"digest\.json"):
        cli.monitor(old, same, tmp_path / "report")
    with pytest.raises(ValueError, match=r"holds no digest\.json, so it was made before there was one"):
        digests.read(old)
    with pytest.raises(ValueError, match=r"--alpha is 2"):
        run(chain, same, tmp_path / "report", "--alpha", 2)
    assert not (tmp_path / "report").exists()


def labelled(sharpness, shift, patients=1500, seed=0):
    """Return who was scored, with labels that the probabilities tell of as sharply as asked."""
    random = np.random.default_rng(seed)
    z = random.normal(-1, 1.2, patients)
    truth = random.random(patients) < 1 / (1 + np.exp(-(sharpness * z + shift)))
    keys = {"subject_id": np.arange(patients), "prediction_time": datetime(2026, 1, 1), "outcome": "failure"}
    frame = pl.DataFrame({**keys, "horizon_days": 365, "probability": 1 / (1 + np.exp(-z)), "boolean_value": truth})
    frame = frame.cast({"horizon_days": pl.Int32, "prediction_time": pl.Datetime("us"), "probability": pl.Float32})
    answers = frame.select(pl.col("subject_id").cast(pl.String).alias("patient"), *sources.ANSWERS.names()[1:])
    seen = sources.Seen("latest", Digest({}, patients), answers, frame.drop("boolean_value"))
    return seen, frame.drop("probability")


@pytest.mark.parametrize(
    ("sharpness", "shift", "metrics"),
    [(1.0, 0.0, set()), (0.0, -1.0, {"auroc", "calibration_slope"}), (1.0, 1.5, {"calibration_intercept"})],
)
def test_ranking_and_calibration_once_labels_arrive(sharpness, shift, metrics):
    before, known = labelled(1.0, 0.0, seed=1)
    random = known["boolean_value"].cast(pl.Float32).to_numpy(), before.predictions["probability"].to_numpy()
    performance = {("failure", 365): drift.performance(np.arange(1500), *random)}
    reference = Digests("", {"latest": Digest({}, 1500)}, performance)
    found = watch(reference, *labelled(sharpness, shift))
    assert metrics <= {change.metric for change in found.worse}
    assert bool(metrics) == bool(found.worse)


def test_the_error_of_the_intercept_is_that_of_maximum_likelihood():
    """Held to 1 / sqrt(sum p (1 - p)); resampling positives apart would leave half of it or less."""
    seen, known = labelled(1.0, 0.0, patients=4000)
    p = seen.predictions["probability"].to_numpy().astype(np.float64)
    made = drift.performance(np.arange(4000), known["boolean_value"].cast(pl.Float32).to_numpy(), p)
    expected = 1 / np.sqrt((p * (1 - p)).sum())
    assert made.metrics["calibration_intercept"].error == pytest.approx(expected, rel=0.2)


def test_labels_of_one_population_raise_few_alarms():
    """Of 40 comparisons at a chance of 0.05 for any of three metrics, more than 7 have a chance of 0.1 %."""
    made = []
    for seed in range(80):
        seen, known = labelled(1.0, 0.0, patients=400, seed=100 + seed)
        given = known["boolean_value"].cast(pl.Float32).to_numpy(), seen.predictions["probability"].to_numpy()
        made.append({("failure", 365): drift.performance(np.arange(400), *given)})
    alarms = [
        any(change.chance <= 0.05 for change in drift.changes(*pair))
        for pair in zip(made[::2], made[1::2], strict=True)
    ]
    assert sum(alarms) <= 7


def test_a_metric_that_rises_is_no_alarm():
    before, now = (Performance(100, 50, {"auroc": Measured(value, 0.01)}) for value in (0.6, 0.9))
    assert drift.changes({("a", 1): before}, {("a", 1): now})[0].chance == pytest.approx(1.0)
    assert drift.changes({("a", 1): now}, {("a", 1): before})[0].chance < 1e-10
    assert drift.from_json(drift.to_json({("a", 1): now})) == {("a", 1): now}


def test_small_counts_are_not_told():
    assert page.percent(3, 200) == "under 10 patients"
    assert page.percent(197, 200) == "all but under 10"
    assert (page.percent(0, 200), page.percent(50, 200)) == ("0.0 %", "25.0 %")
    assert folded(Counts((0.0, 1.0, 2.0), (1, 2, 3, 4)), (1.0,)) == Counts((1.0,), (3, 7))
