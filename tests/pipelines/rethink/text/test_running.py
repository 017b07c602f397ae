"""`anamnesis rethink text`, from files to answers with evidence."""

import json
import re
import shutil
import subprocess
import sys

import polars as pl
import pytest
import yaml

from pipelines.rethink.cli import main
from pipelines.rethink.crossing import Crossing
from pipelines.rethink.evidence import SUPPORT
from pipelines.rethink.text.fitting import Rethinking, settings_of
from pipelines.rethink.text.gathering import FILES
from pipelines.rethink.text.running import configured
from tests.docs import ROOT


def run(folder, questions, chains, encoder, *extra, facts=None):
    words = ["text", "--questions", questions, "--chains", chains, "--facts", facts or questions, "--output", folder]
    return main([*map(str, words), "--encoder", str(encoder), *map(str, extra)])


def test_everything_cited_exists_and_own_facts_are_not_seen(fitted):
    questions = json.loads((fitted.parent / "questions.json").read_text())
    ids = {f"{own['qid']}:{at}": fact for own in questions for at, fact in enumerate(own["facts"])}
    for name in FILES.values():
        held = pl.read_parquet(fitted / "support" / f"{name}.parquet")
        assert held.schema == SUPPORT
        assert set(held["candidate_id"].drop_nulls()) <= set(ids)
    held = pl.read_parquet(fitted / "support" / "pool-without-own.parquet")
    own = {row["qid"]: {fact.lower() for fact in row["facts"]} for row in questions}
    for question, candidate in held.select("question_id", "candidate_id").drop_nulls().iter_rows():
        assert ids[candidate].lower() not in own[question]
    held = pl.read_parquet(fitted / "support" / "swapped.parquet")
    assert (held["question_id"] != held["candidate_id"].str.split(":").list.first()).all()


def test_the_report_has_every_control(fitted):
    held = json.loads((fitted / "report.json").read_text())
    names = [own["arm"] for own in held["arms"]]
    for needed in ("majority", "number of steps", "source weights", "f1 mean, own facts", "f3 sum, whole pool",
                   "source weights + pool without own facts", "source weights + another's facts"):  # fmt: skip
        assert needed in names
    assert held["unparsed"] == 4
    page = (fitted / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert "The cat sat on the mat." in page


def test_a_run_from_stored_support_is_bit_equal_and_needs_no_model(fitted, tmp_path):
    questions, chains, config = (fitted.parent / name for name in ("questions.json", "chains.jsonl", "c.yaml"))
    words = ["text", "--questions", questions, "--chains", chains, "--facts", questions, "--support", fitted]
    words = [*map(str, words), "--config", str(config), "--output", str(tmp_path / "again")]
    code = f"import sys; from pipelines.rethink.cli import main; assert main({words}) == 0;"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=240)
    for name in ("report.json", "report.html", "votes.parquet", "fitted.json", "support/pool.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (fitted / name).read_bytes(), name


def test_unseen_questions_are_scored_without_fitting(fitted, files, tmp_path, encoder_folder):
    questions, chains = files(2, answers=False)
    (tmp_path / "facts.txt").write_text("A cat sat on a mat.\nA dog can not fly.\nThe river is blue.\n")
    out = tmp_path / "new"
    assert run(out, questions, chains, encoder_folder, "--fitted", fitted, facts=tmp_path / "facts.txt") == 0
    assert not (out / "fitted.json").exists()
    held = pl.read_parquet(out / "votes.parquet").filter(arm="source weights + pool without own facts")
    assert len(held) == 6
    assert held["right"].is_null().all()
    assert held["share"].is_between(0.5, 1).all()
    # The same files with another fit's digest in the manifest would be another run.
    assert json.loads((out / "manifest.json").read_text())["fitted"] is not None


def test_order_of_rows_changes_no_answer(fitted, files, tmp_path, encoder_folder):
    questions, chains = files(2)
    assert run(tmp_path / "one", questions, chains, encoder_folder, "--fitted", fitted) == 0
    chains.write_text("".join(sorted(chains.read_text().splitlines(keepends=True), reverse=True)))
    assert run(tmp_path / "two", questions, chains, encoder_folder, "--fitted", fitted) == 0
    one, two = (pl.read_parquet(tmp_path / name / "votes.parquet") for name in ("one", "two"))
    assert one.drop("share").equals(two.drop("share"))
    assert (one["share"] - two["share"]).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[1:], "none of m/COT"),
        (lambda rows: [*rows, rows[0]], "two completions"),
        (lambda rows: [*rows, {**rows[0], "qid": "z"}], "unknown question z"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, tmp_path, encoder_folder, change, said):
    questions, chains = files()
    rows = [json.loads(line) for line in chains.read_text().splitlines()]
    chains.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
    with pytest.raises(ValueError, match=said):
        run(tmp_path / "out", questions, chains, encoder_folder)
    assert not (tmp_path / "out").exists()


def test_faults_of_settings_and_folders(fitted, files, tmp_path, encoder_folder):
    questions, chains = files(1)
    config = tmp_path / "wrong.yaml"
    config.write_text("rethinking: {retriever: bm25}\n")
    with pytest.raises(ValueError, match=r"wrong\.yaml"):
        run(tmp_path / "out", questions, chains, encoder_folder, "--config", config)
    with pytest.raises(ValueError, match="already exists"):
        run(fitted, questions, chains, encoder_folder)
    with pytest.raises(ValueError, match="expected --chains"):
        main(["text", "--questions", str(questions), "--facts", str(questions), "--output", str(tmp_path / "out")])
    damaged = tmp_path / "damaged"
    shutil.copytree(fitted, damaged)
    (damaged / "fitted.json").write_text("{}")
    with pytest.raises(ValueError, match="checksum"):
        run(tmp_path / "out", questions, chains, encoder_folder, "--fitted", damaged)
    with pytest.raises(ValueError, match="no command"):
        main(["nothing"])
    with pytest.raises(ValueError, match="top 0"):
        Rethinking(top=0)


def test_settings_come_back_from_json():
    from dataclasses import asdict

    held = Rethinking(retrieval="bm25", crossing=Crossing(kind="f2", seed=3))
    assert settings_of(asdict(held)) == held


def test_the_reference_names_every_file_column_and_key(fitted):
    page = (ROOT / "docs" / "reference" / "schemas.md").read_text(encoding="utf-8").split("## Folders of rethinking")[1]
    shown = set(re.findall(r"`([^`]+)`", page))
    held = {path.relative_to(fitted).as_posix() for path in fitted.rglob("*") if path.is_file()}
    assert held <= shown
    for path in fitted.rglob("*.parquet"):
        assert set(pl.read_parquet_schema(path)) <= shown
    manifest = json.loads((fitted / "manifest.json").read_text())
    assert set(manifest) - {"kind", "format", "files"} <= shown


@pytest.mark.parametrize("name", ["strategyqa", "causal", "endpoint"])
def test_shipped_settings_and_the_reference(name):
    held = yaml.safe_load((ROOT / "configs" / "rethink" / f"{name}.yaml").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "reference" / "yaml.md").read_text(encoding="utf-8").split("## Rethinking")[1]
    shown = {word for span in re.findall(r"`([^`]+)`", page) for word in span.split(".")}
    given = held.get("generator", {}).get("init_args", {})
    assert set(held["rethinking"]) | set(held["rethinking"].get("crossing", {})) | set(given) <= shown
    assert settings_of({"crossing": {}} | held["rethinking"]) is not None


def test_the_defaults_are_what_the_settings_file_says():
    assert configured(ROOT / "configs" / "rethink" / "strategyqa.yaml") == (Rethinking(), None)
