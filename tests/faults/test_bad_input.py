"""Malformed input gives one line that names what is wrong, exit code 2 (3 where rows were listed), and no output."""

import datetime as dt
import json
import os
import resource
import shutil
import subprocess
import sys

import polars as pl
import pytest

from ehr.events import EVENTS
from pipelines import artefacts, cli
from pipelines.release import write_sums
from tests.chain import write_records
from tests.pipelines import cohorts

# Great Expectations is imported in this interpreter; what it uses is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PATIENTS = 60


def records(folder, frame=None):
    """Write records and return their folder."""
    write_records(cohorts.events(PATIENTS) if frame is None else frame, folder, files=1)
    return folder


def written(folder, frame):
    """Write a frame of any columns as the only file."""
    (folder / "data").mkdir(parents=True)
    frame.write_parquet(folder / "data" / "0.parquet")
    return folder


def with_column(folder, name, values):
    """Write records in which one column is another."""
    return written(folder, cohorts.events(PATIENTS).with_columns(values.alias(name)))


def some(share, value, other):
    """Return an expression that takes a value in a share of the rows."""
    return pl.when(pl.int_range(pl.len()) % round(1 / share) == 3).then(value).otherwise(other)


def null(kind):
    return pl.lit(None, dtype=kind)


SUBJECT, CODE, VALUE, TIME = pl.col("subject_id"), pl.col("code"), pl.col("numeric_value"), pl.col("time")
LATER = pl.lit(dt.datetime(2999, 1, 1))
FRAME = cohorts.events(PATIENTS)


def with_subjects(other):
    """Return records in which every tenth patient has another id, in order."""
    changed = FRAME.with_columns(subject_id=pl.when(SUBJECT % 10 == 0).then(other).otherwise(SUBJECT))
    return changed.sort("subject_id", "time", nulls_last=False, maintain_order=True)


# Name: (how the records are written, what the line must say), for prepare and for score alike.
RECORDS = {
    "no such folder": (lambda to: to, "source: no such"),
    "an empty folder": (lambda to: to.mkdir(), "source"),
    "a text file": (lambda to: to.write_text("hello\n"), "source"),
    "an empty file": (lambda to: (records(to), (to / "data/0.parquet").write_bytes(b"")), "0.parquet"),
    "a truncated file": (
        lambda to: (records(to), os.truncate(to / "data/0.parquet", (to / "data/0.parquet").stat().st_size // 2)),
        "0.parquet",
    ),
    "a folder for a file": (lambda to: (to / "data/0.parquet").mkdir(parents=True), "0.parquet"),
    "no column code": (lambda to: written(to, FRAME.drop("code")), "0.parquet.*code"),
    "a renamed id": (lambda to: written(to, FRAME.rename({"subject_id": "person"})), "0.parquet.*subject_id"),
    "ids as text": (lambda to: with_column(to, "subject_id", pl.format("P{}", "subject_id")), "0.parquet.*subject_id"),
    "ids as floats": (lambda to: with_column(to, "subject_id", SUBJECT + 0.5), "0.parquet.*subject_id"),
    "times as text": (lambda to: with_column(to, "time", TIME.cast(pl.String)), "0.parquet.*time"),
    "times as numbers": (lambda to: with_column(to, "time", TIME.to_physical()), "0.parquet.*time"),
    "values as text": (lambda to: with_column(to, "numeric_value", VALUE.cast(pl.String)), "0.parquet.*numeric_value"),
    "codes as numbers": (lambda to: with_column(to, "code", pl.lit(7)), "0.parquet.*code"),
    "null ids": (lambda to: written(to, with_subjects(null(pl.Int64))), "null_subject.*0.parquet:"),
    "negative ids": (lambda to: written(to, with_subjects(-SUBJECT)), "negative_subject.*0.parquet:"),
    "null codes": (lambda to: with_column(to, "code", some(0.1, null(pl.String), CODE)), "null_code.*0.parquet:"),
    "unsorted rows": (lambda to: written(to, FRAME.reverse()), "row [0-9]+ is not in order.*--repair"),
    "rows twice": (lambda to: written(to, pl.concat([FRAME] * 2).sort("subject_id", "time")), "duplicates.*0.parquet"),
    "dates in the future": (lambda to: with_column(to, "time", some(0.1, LATER, TIME)), None),
    "NaN": (lambda to: with_column(to, "numeric_value", some(0.1, float("nan"), VALUE)), "not_finite.*0.parquet:"),
    "infinity": (lambda to: with_column(to, "numeric_value", some(0.1, float("inf"), VALUE)), "not_finite.*0.parquet:"),
    "no rows": (lambda to: written(to, FRAME.clear()), "no (rows|patients|events)|at least"),
}


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Work in a folder of the test's own, so that what is left behind is seen."""
    monkeypatch.chdir(tmp_path)


def said(capsys, *arguments):
    """Run a verb and return its exit code and what it wrote to stderr."""
    capsys.readouterr()
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    return code, capsys.readouterr().err


def refused(capsys, folder, *arguments, words):
    """Run a verb that must refuse: exit code 2, one line at the end that says why, nothing new on disk."""
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    code, text = said(capsys, *arguments)
    assert code == 2, text
    last = text.strip().splitlines()[-1]
    assert last.startswith(f"anamnesis {arguments[0]}: "), text
    assert "Traceback" not in text
    assert pl.Series([last]).str.contains(words).all(), last
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    return last


@pytest.fixture
def outcomes(tmp_path):
    path = tmp_path / "outcomes.yaml"
    path.write_text(cohorts.OUTCOMES)
    return path


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("verb", ["prepare", "score"])
def test_records(name, verb, chain, outcomes, tmp_path, capsys):
    write, words = RECORDS[name]
    source = tmp_path / "source"
    write(source)
    words = words or "future.*0.parquet:|not in order"
    if verb == "prepare":
        arguments = ("prepare", source, "cohort", "--outcomes", outcomes, "--min-patients", 2)
    else:
        arguments = ("score", chain.release, source, "scores")
    refused(capsys, tmp_path, *arguments, words=words)


def test_one_patient_is_refused_by_prepare_and_taken_by_score(chain, outcomes, tmp_path, capsys):
    source = records(tmp_path / "source", FRAME.filter(SUBJECT == 5))
    arguments = ("prepare", source, "cohort", "--outcomes", outcomes)
    refused(capsys, tmp_path, *arguments, words="patient")
    assert said(capsys, "score", chain.release, source, "scores")[0] == 0


def test_no_code_known(chain, tmp_path, capsys):
    source = with_column(tmp_path / "source", "code", pl.lit("LOCAL//") + CODE)
    arguments = ("score", chain.release, source, "scores")
    refused(capsys, tmp_path, *arguments, words="unknown_codes.*--quality")


def test_few_bad_rows_are_listed(chain, outcomes, tmp_path, capsys):
    spoiled = FRAME.with_columns(
        numeric_value=pl.when(pl.int_range(pl.len()) == 40).then(float("nan")).otherwise(VALUE),
        code=pl.when(pl.int_range(pl.len()) == 30).then(null(pl.String)).otherwise(CODE),
    )
    source = written(tmp_path / "source", spoiled)
    code, text = said(capsys, "score", chain.release, source, "scores")
    assert code == 3, text
    assert pl.read_parquet("scores/rejected.parquet").select("file", "row").rows() == [
        ("data/0.parquet", 31),
        ("data/0.parquet", 41),
    ]
    code, text = said(capsys, "prepare", source, "cohort", "--outcomes", outcomes, "--min-patients", 2)
    assert code == 3, text
    assert len(pl.read_parquet("cohort/rejected.parquet")) == 2


# Name: (verb and words with {made} for the folder of files, files to write, what the line must say).
SETTINGS = {
    "outcomes: no such file": ("prepare {good} cohort --outcomes nowhere.yaml", {}, "nowhere.yaml"),
    "outcomes: a folder": ("prepare {good} cohort --outcomes {made}", {}, "made"),
    "outcomes: not YAML": ("prepare {good} cohort --outcomes {made}/o.yaml", {"o.yaml": "outcomes: ["}, "o.yaml"),
    "outcomes: none": ("prepare {good} cohort --outcomes {made}/o.yaml", {"o.yaml": "outcomes: {}"}, "o.yaml"),
    "outcomes: an unknown key": (
        "prepare {good} cohort --outcomes {made}/o.yaml",
        {"o.yaml": "outcomes: {a: {event: {any_of: [X]}, horizon: 3}}"},
        "o.yaml.*horizon",
    ),
    "outcomes: a negative horizon": (
        "prepare {good} cohort --outcomes {made}/o.yaml",
        {"o.yaml": "outcomes: {a: {event: {any_of: [X]}, horizons_days: [-3]}}"},
        "horizons_days",
    ),
    "labels: no column": (
        "prepare {good} cohort --labels {made}/l.parquet",
        {"l.parquet": pl.DataFrame({"subject_id": [1], "boolean_value": [True]})},
        "l.parquet.*prediction_time",
    ),
    "both": ("prepare {good} cohort --outcomes o.yaml --labels l.csv", {}, "--outcomes and --labels"),
    "format": ("prepare {good} cohort --format excel", {}, "excel.*meds"),
    "fractions": ("prepare {good} cohort --fractions 0.5,0.5", {}, "--fractions"),
    "fractions as words": ("prepare {good} cohort --fractions most,some,a,few", {}, "--fractions"),
    "quality: an unknown gate": ("prepare {good} cohort --quality {made}/q.yaml", {"q.yaml": "futur: 0.1"}, "futur"),
    "quality: above one": ("prepare {good} cohort --quality {made}/q.yaml", {"q.yaml": "future: 7"}, "future"),
    "splits": ("prepare {good} cohort --splits {made}/s.csv", {"s.csv": "subject_id,part\n1,a\n"}, "s.csv.*split"),
    "vocabulary": ("prepare {good} cohort --vocabulary {made}/v.json", {"v.json": "{}"}, "v.json"),
    "columns missing": ("prepare {made} cohort --format table", {"a.csv": "id,when\n1,2020-01-01\n"}, "--columns"),
    "columns: a file that is not there": (
        "prepare {made} cohort --columns {made}/c.yaml",
        {"c.yaml": "tables: {t: {files: x.csv, subject: id, time: {column: when}, events: [{code: A}]}}"},
        "x.csv",
    ),
    "columns: a column that is not there": (
        "prepare {made} cohort --columns {made}/c.yaml",
        {
            "x.csv": "id,when\n1,2020-01-01\n",
            "c.yaml": "tables: {t: {files: x.csv, subject: patient, time: {column: when}, events: [{code: A}]}}",
        },
        "x.csv.*patient",
    ),
    "a CSV that is not UTF-8": (
        "prepare {made} cohort --columns {made}/c.yaml",
        {
            "x.csv": "id,when,what\n1,2020-01-01,M\xfcller\n".encode("latin-1"),
            "c.yaml": "tables: {t: {files: x.csv, subject: id, time: {column: when}, events: [{code: '{what}'}]}}",
        },
        "x.csv.*UTF-8",
    ),
    "OMOP without its ids": (
        "prepare {made} cohort --format omop",
        {"person.csv": "gender,year_of_birth\n8532,1950\n", "death.csv": "person_id,death_date\n1,2020-01-01\n"},
        "person.csv.*person_id",
    ),
    "FHIR lines that are not JSON": (
        "prepare {made} cohort --format fhir",
        {"Patient.ndjson": '{"resourceType": "Patient", "id": "a"}\n' + "{broken\n" * 50},
        "50 rows were left out, first Patient.ndjson:2",
    ),
    "at: nonsense": ("score {release} {good} scores --at yesterday", {}, "yesterday.*latest"),
    "at: no column": ("score {release} {good} scores --at {made}/t.csv", {"t.csv": "patient\n1\n"}, "prediction_time"),
    "at: a row twice": (
        "score {release} {good} scores --at {made}/t.csv",
        {"t.csv": "patient,prediction_time\n1,2020-01-01\n1,2020-01-01\n"},
        "t.csv.*row 1.*twice",
    ),
    "at: no time": (
        "score {release} {good} scores --at {made}/t.csv",
        {"t.csv": "patient,prediction_time\n1,soon\n"},
        "t.csv.*row 1",
    ),
    "at: not UTF-8": ("score {release} {good} scores --at {made}/t.csv", {"t.csv": b"patient\xff\xfe\n1\n"}, "t.csv"),
    "device": ("score {release} {good} scores --device tpu", {}, "tpu"),
    "no release": ("score {good} {good} scores", {}, "good"),
    "a target that is a file": ("score {release} {good} {made}/x.txt", {"x.txt": "mine"}, "x.txt.*file"),
    "a target that is not empty": ("score {release} {good} {made}", {"x.txt": "mine"}, "made.*--overwrite"),
    "a target that cannot be": ("score {release} {good} {made}/x.txt/scores", {"x.txt": "mine"}, "x.txt"),
    "a read-only disk": ("score {release} {good} /proc/scores", {}, "/proc"),
    "no cohort": ("pretrain --config {pretrain} --cohort {good} --output run", {}, "good"),
    "config: no such file": ("pretrain --config nowhere.yaml --cohort {cohort} --output run", {}, "nowhere.yaml"),
    "config: an unknown key": (
        "pretrain --config {made}/c.yaml --cohort {cohort} --output run",
        {"c.yaml": "model: {network: {girth: 3}}"},
        "c.yaml.*girth",
    ),
    "config: a value out of range": (
        "pretrain --config {pretrain} --cohort {cohort} --output run --model.network.dropout 3",
        {},
        "dropout",
    ),
    "a run that is none": (
        "finetune --config {finetune} --cohort {cohort} --pretrained {good} --output run",
        {},
        "good",
    ),
    "a run of another stage": ("export {pretrained} out", {}, "pretrained"),
    "simulate: no patients": ("simulate out --patients 0 --seed 1", {}, "patients"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name, chain, tmp_path, capsys):
    line, files, words = SETTINGS[name]
    (tmp_path / "made").mkdir()
    for file, content in files.items():
        path = tmp_path / "made" / file
        match content:
            case pl.DataFrame():
                content.write_parquet(path)
            case bytes():
                path.write_bytes(content)
            case _:
                path.write_text(content)
    places = {
        **chain._asdict(),
        "good": records(tmp_path / "good"),
        "made": tmp_path / "made",
        "pretrain": chain.cohort.parent / "pretrain.yaml",
        "finetune": chain.cohort.parent / "finetune.yaml",
    }
    arguments = [word.format(**places) for word in line.split()]
    refused(capsys, tmp_path, *arguments, words=words)


def flip(path):
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_table(release):
    """Change weights and hide it: checksums and manifest agree with the changed file."""
    content = bytearray((release / "model.onnx").read_bytes())
    middle = len(content) // 2 // 4 * 4
    content[middle : middle + 400] = content[middle + 400 : middle + 800]
    (release / "model.onnx").write_bytes(content)
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["files"]["model.onnx"]["sha256"] = artefacts.digest(release / "model.onnx")
    (release / "manifest.json").write_text(json.dumps(manifest))
    write_sums(release)


RELEASES = {
    **{
        f"one byte of {name}": (lambda to, name=name: flip(to / name), name)
        for name in (
            "model.onnx",
            "vocabulary.json",
            "outcomes.yaml",
            "manifest.json",
            "golden.parquet",
            "quality.json",
        )
    },
    "no checksums": (lambda to: (to / "SHA256SUMS").unlink(), "SHA256SUMS"),
    "a file missing": (lambda to: (to / "vocabulary.json").unlink(), "vocabulary.json"),
    "checksums that are none": (lambda to: (to / "SHA256SUMS").write_text("x\n"), "SHA256SUMS"),
    "other weights with their checksums": (another_table, "golden pair|model.onnx"),
}


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_that_does_not_match(name, chain, tmp_path, capsys):
    spoil, words = RELEASES[name]
    shutil.copytree(chain.release, tmp_path / "release")
    spoil(tmp_path / "release")
    source = records(tmp_path / "source")
    refused(capsys, tmp_path, "score", tmp_path / "release", source, "scores", words=words)


def limited():
    """Let no file grow beyond 4 KB: the error that a full disk gives, without filling one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))


@pytest.mark.parametrize("verb", ["prepare", "score"])
def test_a_full_disk(verb, chain, outcomes, tmp_path):
    source = records(tmp_path / "source")
    words = {
        "prepare": ["prepare", str(source), "out", "--outcomes", str(outcomes), "--min-patients", "2"],
        "score": ["score", str(chain.release), str(source), "out"],
    }[verb]
    found = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words, "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        timeout=120,
        cwd=tmp_path,
    )
    assert found.returncode == 2, found.stderr
    assert "Traceback" not in found.stderr
    assert "disk full" in found.stderr.splitlines()[-1] or "large" in found.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outcomes.yaml", "source"]


def test_there_are_enough_cases():
    # Those of records count once, though two verbs take them.
    assert len(RECORDS) + len(SETTINGS) + len(RELEASES) >= 40
    assert EVENTS.names() == FRAME.columns
