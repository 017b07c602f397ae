"""From a corpus to answers: parity of the file, any length in bounded memory, evidence, faults."""

import json
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.documents import exporting, intake, scoring
from pipelines.documents.cli import main
from pipelines.documents.model import all_questions, load
from pipelines.documents.predictions import PREDICTIONS
from pipelines.documents.scoring import SPAN, read
from pipelines.documents.tokens import Text
from tests.faults import kill


@pytest.fixture(scope="module")
def release(reading):
    return scoring.open_release(reading.release)


def spread(release, count, seed=0):
    draw = np.random.default_rng(seed)
    place = np.arange(count, dtype=np.int32)
    return Text(draw.integers(4, release.tokens.size, count).astype(np.int32), place * 3, place * 3 + 2)


@pytest.mark.parametrize("count", [1, 40, 62, 63, 200, 1500])
def test_a_document_in_blocks_reads_as_torch_at_once(reading, release, count):
    network = load(reading.run / "model")
    text = spread(release, count)
    asked = all_questions(release.catalogue.num_options.tolist())
    whole = scoring.cut(text, release.tokens, release.window)
    with torch.no_grad():
        found = network(*(torch.from_numpy(part[None]) for part in (whole.token, whole.mask, whole.owned)), asked)
    reading_of = read(release, text)
    assert np.abs(reading_of.logits - found.logits[0].numpy()).max() <= 1e-4
    weight = np.zeros((len(asked.task), -(-count // SPAN)))
    for at, place in zip(*np.nonzero(whole.owned), strict=True):
        weight[:, whole.place[at, place] // SPAN] += found.token_weight[0, :, at, place].numpy()
    for question, told in enumerate(reading_of.evidence):
        expected = np.sort(weight[question])[::-1][:3]
        assert np.allclose([piece[2] for piece in told], expected, atol=1e-5)
    assert not reading_of.truncated


def test_the_exported_file_is_torch_over_all_shapes(reading):
    network = load(reading.run / "model")
    asked = all_questions([len(q["options"]) for q in json.loads((reading.run / "catalogue.json").read_text())])
    module = exporting.Windows(network, asked)
    found = exporting.compare(module, reading.release, vocabulary=60, length=64)
    assert found.max_abs <= 1e-4
    assert found.samples == len(exporting.SHAPES)


def test_predictions_are_whole(reading, tmp_path, release):
    assert main(["score", str(reading.release), str(reading.documents), str(tmp_path / "p"), "--workers", "1"]) == 0
    found = pl.read_parquet(tmp_path / "p" / "predictions" / "*.parquet")
    assert found.schema == PREDICTIONS
    total = found.group_by("document_id", "id").agg(pl.col("probability").sum(), pl.col("chosen").sum())
    assert (total["probability"] - 1).abs().max() < 1e-5
    assert (total["chosen"] == 1).all()
    texts = {
        (d, t): text
        for d, t, text in pl.read_parquet(reading.documents).select("document_id", "text_type", "text").iter_rows()
    }
    kinds = {question.id: question.text_type for question in release.catalogue.questions}
    for document, task, evidence in found.select("document_id", "id", "evidence").head(40).iter_rows():
        words = [texts[document, kinds[task]][piece["start"] : piece["end"]] for piece in evidence]
        assert all(word and not word.startswith(" ") and not word.endswith(" ") for word in words)
    held = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert held["documents"] == len(texts)
    assert held["rejected"] == 0


def test_text_files_bad_ones_are_listed_and_the_rest_is_read(reading, tmp_path, release):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "fine.txt").write_bytes("Ärger\r\nwith the agreement – alpha beta".encode())
    (notes / "latin.txt").write_bytes(b"\xff\xfe broken")
    (notes / "empty.txt").write_text(" \n")
    (notes / "nul.txt").write_bytes(b"a\x00b")
    code = main(["score", str(reading.release), str(notes), str(tmp_path / "p"), "--workers", "1"])
    assert code == 3
    found = pl.read_parquet(tmp_path / "p" / "predictions" / "*.parquet")
    assert found["document_id"].unique().to_list() == ["fine"]
    assert found["id"].n_unique() == len(release.catalogue.questions)
    rejected = dict(pl.read_parquet(tmp_path / "p" / "rejected.parquet").select("document_id", "reason").iter_rows())
    assert rejected == {"latin": intake.NOT_TEXT, "empty": intake.EMPTY, "nul": intake.NUL}
    evidence = found["evidence"][0][0]
    text = (notes / "fine.txt").read_bytes().decode()
    assert text[evidence["start"] : evidence["end"]] == text


def test_an_unknown_text_type_is_rejected_and_an_unknown_flag_refused(reading, tmp_path):
    frame = pl.DataFrame(
        {"document_id": ["a", "b"], "text": ["the alpha", "the beta"], "text_type": ["knowledge", "no"]}
    )
    frame.write_parquet(tmp_path / "d.parquet")
    assert (
        main(["score", str(reading.release), str(tmp_path / "d.parquet"), str(tmp_path / "p"), "--workers", "1"]) == 3
    )
    assert pl.read_parquet(tmp_path / "p" / "rejected.parquet")["reason"].to_list() == [intake.UNKNOWN]
    with pytest.raises(ValueError, match="--text-type nothing: expected one of"):
        main(
            ["score", str(reading.release), str(tmp_path / "d.parquet"), str(tmp_path / "q"), "--text-type", "nothing"]
        )
    frame.drop("text").write_parquet(tmp_path / "e.parquet")
    with pytest.raises(ValueError, match="no column text"):
        main(["score", str(reading.release), str(tmp_path / "e.parquet"), str(tmp_path / "q")])
    assert not (tmp_path / "q").exists()


def test_a_changed_file_is_refused(reading, tmp_path):
    shutil.copytree(reading.release, tmp_path / "r")
    (tmp_path / "r" / "heads.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match="does not match its checksum"):
        scoring.open_release(tmp_path / "r")


def test_scoring_loads_no_training_stack(reading):
    code = (
        "import sys; from pipelines.documents.cli import main\n"
        "from pipelines.documents import scoring\n"
        "scoring.open_release(scoring.Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers', 'pytorch_lightning', 'sklearn', 'onnx'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(reading.release)]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@settings(max_examples=15)
@given(st.integers(1, 400), st.integers(0, 99))
def test_evidence_points_into_the_text(release, count, seed):
    text = spread(release, count, seed)
    for told in read(release, text).evidence:
        weights = [piece[2] for piece in told]
        assert weights == sorted(weights, reverse=True)
        assert len(told) == min(3, -(-count // SPAN))
        assert sum(weights) <= 1 + 1e-5
        for start, end, _ in told:
            assert start % (3 * SPAN) == 0
            assert start < end <= text.end[-1]


@pytest.mark.slow
def test_killed_scoring_goes_on_to_the_same_bytes(reading, tmp_path):
    words = ["documents", "score", str(reading.release), str(reading.documents)]
    seconds = kill.finish([*words, str(tmp_path / "whole"), "--workers", "1"])
    killed = 0
    for at, moment in enumerate(kill.moments(4, seconds, seed=0)):
        target = tmp_path / f"p{at}"
        killed += kill.kill_after([*words, str(target), "--workers", "1"], moment)
        if not target.exists():
            kill.finish([*words, str(target), "--workers", "1"])
        assert kill.digests(target) == kill.digests(tmp_path / "whole")
    assert killed


def test_finished_parts_are_kept_and_other_documents_start_anew(reading, tmp_path):
    documents = pl.read_parquet(reading.documents)
    documents.write_parquet(tmp_path / "d.parquet")
    target = tmp_path / "p"
    assert main(["score", str(reading.release), str(tmp_path / "d.parquet"), str(target), "--workers", "1"]) == 0
    whole = kill.digests(target)
    # As a kill leaves it: a plan, the first part, half a second one.
    stopped = scoring.artefacts.partial(target)
    taken = intake.take(tmp_path / "d.parquet", scoring.open_release(reading.release).catalogue.text_types, None)
    plan = {"release": scoring.artefacts.digest(reading.release / "manifest.json"), "documents": taken.digest}
    scoring.begin(stopped, plan)
    first = scoring.part_of(target, 0)
    marked = scoring.part_of(stopped, 0)
    shutil.copyfile(first, marked)
    written = marked.stat().st_mtime_ns
    (stopped / "predictions" / "00001.partial").write_bytes(b"half")
    shutil.rmtree(target)
    assert main(["score", str(reading.release), str(tmp_path / "d.parquet"), str(target), "--workers", "1"]) == 0
    assert kill.digests(target) == whole
    assert scoring.part_of(target, 0).stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_document_of_100_000_tokens_is_read_in_bounded_memory(reading):
    """Ten times the text may not take twice the memory, and what stands in the last twentieth is looked at."""
    code = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from pipelines.documents.scoring import Text, open_release, read\n"
        "held, count = open_release(Path(sys.argv[1])), int(sys.argv[2])\n"
        "place = np.arange(count, dtype=np.int32)\n"
        "token = np.full(count, held.tokens.tokenizer.token_to_id('the'), dtype=np.int32)\n"
        "plain = read(held, Text(token, place * 2, place * 2 + 1)).logits\n"
        "at = int(count * 0.97)\n"
        "token[at : at + 2000] = held.tokens.tokenizer.token_to_id('alpha')\n"
        "found = read(held, Text(token, place * 2, place * 2 + 1))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, np.abs(found.logits - plain).max(), found.truncated)"
    )

    def peak(count):
        words = [sys.executable, "-c", code, str(reading.release), str(count)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        assert float(said[1]) > 1e-4
        assert said[2] == "False"
        return int(said[0])

    small, large = peak(10_000), peak(100_000)
    assert large < 1.5 * small
