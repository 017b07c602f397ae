"""`anamnesis simulate`: a MEDS dataset, the same bytes whoever works on it."""

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from meds import CodeMetadataSchema, DataSchema, DatasetMetadataSchema

from ehr.simulator import cohort
from ehr.sources import meds
from ehr.sources.detect import detect
from pipelines import artefacts, cli, simulate

# Two files, in cohorts small enough for a test.
PATIENTS, SEED = 2_500, 5


@pytest.fixture(scope="module", autouse=True)
def small_files():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort, "FILE_BLOCKS", 2)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulate") / "records"
    assert simulate.main([str(folder), "--patients", str(PATIENTS), "--seed", str(SEED), "--workers", "1"]) == 0
    return folder


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_artefact_is_whole(made):
    manifest = artefacts.read_manifest(made, "records")
    artefacts.verify(made, manifest)
    assert manifest["patients"] == PATIENTS
    files = sorted((made / "data").iterdir())
    assert len(files) == 2
    assert manifest["events"] == sum(pq.read_metadata(file).num_rows for file in files)


def test_it_is_a_meds_dataset(made):
    for file in sorted((made / "data").iterdir()):
        DataSchema.validate(pq.read_table(file))
    DatasetMetadataSchema.validate(json.loads((made / "metadata" / "dataset.json").read_text()))
    CodeMetadataSchema.validate(pq.read_table(made / "metadata" / "codes.parquet"))


def test_it_opens_as_a_source(made):
    assert detect(made) == "meds"
    source = meds.open(made)
    assert source.version == "0.4.1"
    assert len(source.parts) == 2
    assert all(part.ordered for part in source.parts)
    events, risks = cohort.cohort(PATIENTS, seed=SEED)
    assert meds.scan(made).collect().equals(events)
    assert pl.read_parquet(made / "truth" / "*.parquet").equals(risks)


def test_bytes_do_not_hang_on_workers(made, tmp_path):
    # Workers import afresh, so the size of files has to be the one that they know.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate.cohort, "FILE_BLOCKS", 2)
        simulate.simulate(tmp_path / "again", patients=PATIENTS, seed=SEED, workers=2)
    assert bytes_of(tmp_path / "again") == bytes_of(made)


def test_without_truth_the_events_are_the_same(made, tmp_path):
    target = tmp_path / "events"
    arguments = ["--patients", str(PATIENTS), "--seed", str(SEED), "--workers", "1", "--no-truth"]
    assert simulate.main([str(target), *arguments]) == 0
    assert not (target / "truth").exists()
    assert bytes_of(target / "data") == bytes_of(made / "data")


def test_one_patient_will_do(tmp_path):
    manifest = simulate.simulate(tmp_path / "one", patients=1, seed=0, workers=1)
    assert manifest["patients"] == 1
    assert meds.scan(tmp_path / "one").collect()["subject_id"].unique().to_list() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patients", "0", "--seed", "1"], "--patients is 0; expected 1 to 100,000,000"),
        (["--patients", "-3", "--seed", "1"], "--patients is -3"),
        (["--patients", "1000000000000", "--seed", "1"], "--patients is 1,000,000,000,000"),
        (["--patients", "10", "--seed", "-1"], "--seed is -1; expected 0 to"),
        (["--patients", "10", "--seed", "1", "--workers", "0"], "--workers is 0; expected 1 or more"),
    ],
)
def test_bad_numbers_are_one_line(tmp_path, capsys, arguments, message):
    assert cli.main(["simulate", str(tmp_path / "records"), *arguments]) == cli.BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["--patients", "ten", "--seed", "1"], ["--patients", "10"]])
def test_wrong_arguments_end_with_2(tmp_path, arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["simulate", str(tmp_path / "records"), *arguments])
    assert stopped.value.code == 2


def test_what_stands_there_is_kept(made, tmp_path, capsys):
    before = bytes_of(made)
    arguments = ["--patients", "1", "--seed", "1", "--workers", "1"]
    assert cli.main(["simulate", str(made), *arguments]) == cli.BAD_INPUT
    assert "already exists" in capsys.readouterr().err
    assert bytes_of(made) == before
    (tmp_path / "file").write_text("mine")
    assert cli.main(["simulate", str(tmp_path / "file"), *arguments]) == cli.BAD_INPUT
    assert (tmp_path / "file").read_text() == "mine"


def test_overwrite_replaces(tmp_path):
    target = tmp_path / "records"
    for seed in (1, 2):
        simulate.main([str(target), "--patients", "1", "--seed", str(seed), "--workers", "1", "--overwrite"])
    assert artefacts.read_manifest(target, "records")["seed"] == 2


@pytest.mark.slow
def test_a_hundred_thousand_patients(tmp_path):
    manifest = simulate.simulate(tmp_path / "records", patients=100_000, seed=7)
    artefacts.verify(tmp_path / "records", manifest)
    assert manifest["patients"] == 100_000
    assert 70 < manifest["events"] / 100_000 < 110
    assert meds.scan(tmp_path / "records").select(pl.col("subject_id").n_unique()).collect().item() == 100_000
