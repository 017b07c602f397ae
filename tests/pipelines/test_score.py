"""Scoring: the numbers of torch from raw records, whoever else is in the file, without the training stack."""

import json
import subprocess
import sys
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ehr import calibration, predictions
from pipelines import score as verb
from pipelines.cohort import open_cohort, timelines
from pipelines.predict import load_network, logits
from pipelines.release import answer, open_release
from pipelines.samples import Questions, samples_of
from tests.chain import command, write_records
from tests.pipelines import cohorts

KEYS = ["subject_id", "prediction_time", "outcome", "horizon_days"]


@pytest.fixture(scope="module")
def whole(chain, tmp_path_factory):
    """Return the predictions of all patients of the chain, and their folder."""
    folder = tmp_path_factory.mktemp("scores") / "predictions"
    assert verb.main([str(chain.release), str(chain.records), str(folder)]) == 0
    return folder


def read(folder):
    """Return predictions in the order of their keys."""
    parts = [pl.read_parquet(path) for path in sorted((folder / "predictions").glob("*.parquet"))]
    return pl.concat(parts).sort(KEYS)


def test_scores_are_those_of_torch(chain, whole):
    found = read(whole)
    cohort, release = open_cohort(chain.cohort), open_release(chain.release)
    keys = found.select("subject_id", "prediction_time").unique().sort("subject_id")
    assert len(keys) == len(cohorts.events(200)["subject_id"].unique())
    times = keys["prediction_time"].to_physical().to_numpy()
    asked = Questions(keys["subject_id"].to_numpy(), times, np.zeros((len(keys), 1, 1), np.float32))
    samples = samples_of(timelines(cohort), asked, release.max_tokens)
    reference = logits(load_network(chain.tuned), samples)
    assert np.abs(reference - answer(release, samples)[0]).max() <= 1e-4
    probability = calibration.apply(release.calibration, reference)
    expected = predictions.tabulate(
        *(asked.subject, pl.Series(asked.subject).cast(pl.String), asked.time, probability, release.registry),
        model=release.model,
    )
    assert_frame_equal(found, expected.sort(KEYS), abs_tol=1e-5, rel_tol=0, check_column_order=False)


def test_a_patient_alone_scores_the_same_to_the_bit(chain, whole, tmp_path):
    together = read(whole)
    for subject in (1, 77, 150):
        frame = cohorts.events(200).filter(pl.col("subject_id") == subject)
        alone = tmp_path / f"{subject}"
        write_records(frame, alone, files=1)
        verb.score(chain.release, alone, tmp_path / f"scores-{subject}")
        assert read(tmp_path / f"scores-{subject}").equals(together.filter(pl.col("subject_id") == subject))


def test_order_files_and_workers_are_nothing(chain, whole, tmp_path):
    frame = cohorts.events(200)
    numbers = frame["subject_id"].unique().sample(fraction=1, shuffle=True, seed=3)
    order = pl.DataFrame({"subject_id": numbers}).with_row_index("place")
    shuffled = frame.join(order, on="subject_id", maintain_order="left").sort("place", maintain_order=True)
    (tmp_path / "records" / "data").mkdir(parents=True)
    shuffled.select(frame.columns).write_parquet(tmp_path / "records" / "data" / "all.parquet")
    verb.score(chain.release, tmp_path / "records", tmp_path / "out", workers=1, repair=True)
    assert read(tmp_path / "out").equals(read(whole))


def test_no_training_stack_is_loaded(chain, tmp_path):
    code = f"""
import sys
from pipelines import cli
paths = {[str(path) for path in (chain.release, chain.records, tmp_path / "p")]!r}
assert cli.main(["score", *paths, "--workers", "1"]) == 0
print([name for name in ("torch", "pytorch_lightning", "lightning_fabric", "transformers", "great_expectations",
                         "sklearn", "matplotlib", "onnx", "jsonargparse") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "[]"


def test_at_a_date_only_what_was_known_counts(chain, tmp_path):
    moment = datetime(2001, 1, 1)
    verb.score(chain.release, chain.records, tmp_path / "p", at="2001-01-01")
    found = read(tmp_path / "p")
    assert found["prediction_time"].unique().to_list() == [moment]
    known = cohorts.events(200).filter(pl.col("time").is_null() | (pl.col("time") <= moment))
    write_records(known, tmp_path / "known")
    verb.score(chain.release, tmp_path / "known", tmp_path / "q", at="2001-01-01")
    assert_frame_equal(read(tmp_path / "q"), found, check_exact=True)
    unscored = pl.read_csv(tmp_path / "p" / "unscored.csv")
    assert unscored["reason"].unique().to_list() == ["no event at or before the prediction time"]
    assert len(unscored) + found["subject_id"].n_unique() == 200


def test_times_from_a_table_with_reasons_for_those_left_out(chain, tmp_path):
    rows = "patient,prediction_time\n1,2003-05-01\n1,2001-05-01T12:00:00\n2,1900-01-01\n999,2003-01-01\n"
    (tmp_path / "times.csv").write_text(rows)
    assert (
        verb.main([str(chain.release), str(chain.records), str(tmp_path / "p"), "--at", str(tmp_path / "times.csv")])
        == 3
    )
    found = read(tmp_path / "p").select("subject_id", "prediction_time").unique().sort("prediction_time").rows()
    assert found == [(1, datetime(2001, 5, 1, 12)), (1, datetime(2003, 5, 1))]
    reasons = pl.read_parquet(tmp_path / "p" / "unscored.parquet").select("patient", "reason").rows()
    assert reasons == [("2", "no event at or before the prediction time"), ("999", "not in the records")]
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert (manifest["samples"], manifest["patients"], manifest["unscored"]) == (2, 1, 2)


def test_the_labels_of_a_cohort_are_a_table_of_times(chain, tmp_path):
    label = pl.read_parquet(sorted((chain.cohort / "labels").glob("*.parquet"))[0]).head(30)
    label.select("subject_id", "prediction_time").unique().write_parquet(tmp_path / "labels.parquet")
    manifest = verb.score(chain.release, chain.records, tmp_path / "p", at=str(tmp_path / "labels.parquet"))
    assert manifest["samples"] == label.select("subject_id", "prediction_time").n_unique()


def test_probabilities_do_not_fall_with_the_horizon(whole):
    both = read(whole).filter(outcome="failure").sort("subject_id", "horizon_days")
    wide = both.pivot("horizon_days", index="subject_id", values="probability")
    assert (wide["1095"] >= wide["365"]).all()
    assert both["probability"].is_between(0, 1).all()


def test_a_stopped_run_is_gone_on_with(chain, whole, tmp_path):
    target = tmp_path / "p"
    assert command("score", chain.release, chain.records, target).returncode == 0
    partial = target.with_name(f"{target.name}.partial")
    assert not partial.exists()
    assert read(target).equals(read(whole))
    # The same command again refuses to touch what is whole.
    again = command("score", chain.release, chain.records, target)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr.splitlines()[-1]
    assert read(target).equals(read(whole))


def test_the_original_patient_id_is_kept(chain, tmp_path):
    frame = cohorts.events(20)
    (tmp_path / "facts.csv").write_text(
        frame.filter(pl.col("time").is_not_null() & (pl.col("code") != "MEDS_BIRTH"))
        .select(
            pl.format("case-{}", "subject_id").alias("id"),
            pl.col("time").dt.to_string("iso:strict").alias("when"),
            "code",
        )
        .write_csv()
    )
    (tmp_path / "columns.yaml").write_text(
        "tables:\n  facts:\n    files: facts.csv\n    subject: id\n    time: {column: when}\n"
        '    events:\n      - code: "{code}"\n'
    )
    verb.score(
        *(chain.release, tmp_path / "facts.csv", tmp_path / "p"), format="table", columns=tmp_path / "columns.yaml"
    )
    assert sorted(read(tmp_path / "p")["patient"].unique()) == sorted(f"case-{i}" for i in range(1, 21))
