"""INFOTABS: tables as sentences, and a head that learns from premise and hypothesis what a pair's words tell."""

import numpy as np
import pytest

from pipelines.rethink.cli import main
from pipelines.rethink.text import alignment, head, infotabs
from pipelines.rethink.text.entailment import open_entailment
from pipelines.rethink.text.similarity import SentenceEncoder

TABLE = {
    "title": ["In Rainbows"],
    "Released": ["10 October 2007"],
    "Genre": ["art rock", "art pop"],
    "Produced by": ["Nigel Godrich"],
    "Length": ["42:39"],
    "Label(s)": ["XL , TBD"],
}


def test_tables_as_sentences():
    assert infotabs.described(TABLE) == [
        "In Rainbows.",
        "In Rainbows was released 10 October 2007.",
        "The genre of In Rainbows are art rock, art pop.",
        "In Rainbows was produced by Nigel Godrich.",
        "The length of In Rainbows is 42:39.",
        "The labels of In Rainbows are XL , TBD.",
    ]


def test_the_published_splits(shared_data):
    folder = shared_data("infotabs")
    tables = infotabs.read_tables(folder)
    assert len(tables) == 2719
    for split, rows, tables_of in (("dev", 1800, 200), ("test_alpha1", 1800, 200)):
        held = infotabs.read_pairs(folder, split)
        assert len(held) == rows
        assert len({pair.table_id for pair in held}) == tables_of
        assert len(infotabs.read_pairs(folder, split, neutral=False)) == 1200
    with pytest.raises(ValueError, match="splits"):
        infotabs.read_pairs(folder, "nothing")
    with pytest.raises(ValueError, match=r"tables\.jsonl"):
        infotabs.read_tables(folder / "nothing")


def value(hypothesis, premise=None):
    held = alignment.take(premise or infotabs.passage(TABLE))
    return dict(zip(alignment.NAMES, alignment.align(held, hypothesis).value.tolist(), strict=True))


def test_what_words_and_numbers_tell():
    assert value("In Rainbows was released in October 2007.")["found"] == 1
    assert value("In Rainbows was released in October 2007.")["agrees"] == 1
    assert value("In Rainbows was released in October 2005.")["disagrees"] == 1
    assert value("In Rainbows was released after 2005.")["agrees"] == 1
    assert value("In Rainbows was released before 2005.")["disagrees"] == 1
    assert value("In Rainbows has two genre, art rock and art pop.")["counts"] == 1
    assert value("Thom Yorke never sang.")["denial"] == 1
    assert value("Thom Yorke sang.")["found"] == 0
    assert value("Released in March.")["months_found"] == 0
    assert all(0 <= own <= 3 for own in value("A, b and 9,300.5 of c.").values())
    assert alignment.tokens("9,300 cats, 3.5 dogs") == ["9300", "cats", "3.5", "dogs"]


def pairs(number, seed):
    """Return pairs whose label hangs on whether the hypothesis' number is the premise's, told by nothing else."""
    draw = np.random.default_rng(seed)
    label = draw.choice([0, 2], number)
    there = draw.integers(1900, 2000, number)
    said = np.where(label == 0, there, there + draw.integers(1, 50, number))
    premises = [f"The cat. The cat was born in {year}." for year in there]
    return premises, [f"The cat was born in {year}." for year in said], label.astype(np.int64)


SETTINGS = head.Training(epochs=6, batch=32, width=32, bag=8, dropout=0.1, tuning=0.2)


def test_a_head_learns_from_the_premise_what_the_hypothesis_does_not_tell(encoder_folder, tmp_path):
    encoder = SentenceEncoder(encoder_folder)
    premises, hypotheses, label = pairs(600, 0)
    fresh, said, right = pairs(200, 1)
    found = {}
    for blind in (False, True):
        settings = head.Training(**{**SETTINGS.__dict__, "hypothesis_only": blind})
        taken = head.prepare(premises, hypotheses, encoder, hypothesis_only=blind)
        made, _ = head.train(taken, label, premises, settings)
        folder = tmp_path / str(blind)
        folder.mkdir()
        head.save(made, settings, encoder, folder)
        found[blind] = open_entailment(folder, encoder).judge(fresh, said)
        assert (
            head.probabilities(made, head.prepare(fresh, said, encoder, hypothesis_only=blind)) == found[blind]
        ).all()
    assert (found[False].argmax(1) == right).mean() > 0.9
    assert (found[True].argmax(1) == right).mean() < 0.75
    # The control must not move with the premise.
    blind = open_entailment(tmp_path / "True", encoder)
    assert (blind.judge(fresh[::-1], said) == found[True]).all()


def test_a_head_is_refused_where_damaged_or_over_another_encoder(encoder_folder, tmp_path):
    encoder = SentenceEncoder(encoder_folder)
    head.save(head.PairHead(10, SETTINGS), SETTINGS, encoder, tmp_path)
    encoder.held.clear()
    encoder.model.embeddings.word_embeddings.weight.data *= -1
    with pytest.raises(ValueError, match="another sentence encoder"):
        head.load(tmp_path, encoder)
    (tmp_path / head.WEIGHTS).write_bytes(b"short")
    with pytest.raises(ValueError, match="not a trained head"):
        head.load(tmp_path, SentenceEncoder(encoder_folder))
    with pytest.raises(ValueError, match="too few"):
        head.train(head.prepare(["a"], ["b"], encoder), np.array([0]), ["a"], SETTINGS)


def test_the_verb(encoder_folder, tmp_path):
    import json

    premises, hypotheses, label = pairs(300, 0)
    names = ["entailment", "neutral", "contradiction"]
    rows = [
        {"premise": p, "hypothesis": h, "label": names[own]}
        for p, h, own in zip(premises, hypotheses, label, strict=True)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["entailment", "--pairs", tmp_path / "p.jsonl", "--encoder", encoder_folder, "--output", tmp_path / "head"]
    assert main([*map(str, words), "--epochs", "1"]) == 0
    assert json.loads((tmp_path / "head" / "manifest.json").read_text())["pairs"] == 300
    quick = [*map(str, words[:-1]), str(tmp_path / "quick"), "--epochs", "1", "--no-embeddings"]
    assert main(quick) == 0
    made = open_entailment(tmp_path / "quick", SentenceEncoder(encoder_folder))
    assert made.encoder is None
    assert made.judge(premises[:4], hypotheses[:4]).shape == (4, 3)
    (tmp_path / "p.jsonl").write_text('{"premise": "a", "hypothesis": "b", "label": "maybe"}\n')
    with pytest.raises(ValueError, match="labels are unknown"):
        main([*map(str, words), "--overwrite"])
