"""Preparing: what a corpus says of itself."""

import json

import pytest

from pipelines.documents.cli import main
from pipelines.documents.simulator import bayes
from pipelines.documents.simulator.structure import structure


def test_the_generated_corpus_tells_the_best_that_any_reader_can_reach(tmp_path, capsys):
    words = ["prepare", "generated", str(tmp_path / "corpus"), "--groups", "8", "--length", "0.05"]
    assert main([*words, "--allow-missing-classes"]) == 0
    held = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert held["bayes_aupr"] == pytest.approx(bayes.headline(structure(), 0.02))
    told = capsys.readouterr()
    assert f"Bayes AUPR of the corpus: {held['bayes_aupr']:.3f}" in told.out + told.err
    assert held["questions"] == 144


def test_of_other_documents_nobody_knows_it(reading):
    assert json.loads((reading.corpus / "manifest.json").read_text())["bayes_aupr"] is None
