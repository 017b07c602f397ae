"""Who finds facts: BM25 against its formula, embeddings against a full sort, nothing hidden ever found."""

import math
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rethink.paths import Step
from pipelines.rethink.text.retrieval import BM25, Dense, Hybrid, open_retriever
from pipelines.rethink.text.similarity import SentenceEncoder

FACTS = [
    "The cat sat on the red mat.",
    "A dog can not fly.",
    "The river is blue.",
    "The cat is red, the cat is blue.",
    "A bird can fly.",
]
NOTHING = np.empty(0, dtype=np.int64)
content = st.lists(st.sampled_from(["cat", "dog", "river", "red", "blue", "fly", "mat"]), min_size=1, max_size=6)


def reference(query, texts, k1=1.5, b=0.75):
    """Return BM25 as Lucene has it."""
    mean = sum(map(len, texts)) / len(texts)
    scores = np.zeros(len(texts))
    for word in query:
        held = sum(word in text for text in texts)
        if held:
            idf = math.log(1 + (len(texts) - held + 0.5) / (held + 0.5))
            for at, text in enumerate(texts):
                count = text.count(word)
                scores[at] += idf * count / (count + k1 * (1 - b + b * len(text) / mean))
    return scores


@given(content, st.lists(content, min_size=2, max_size=8))
def test_bm25_matches_its_formula(query, texts):
    held = BM25([" ".join(text) for text in texts]).retrieve([Step(" ".join(query))], [NOTHING], top=3)[0]
    scores = reference(query, texts)
    np.testing.assert_allclose([own.found for own in held], sorted(scores[scores > 0], reverse=True)[:3], rtol=1e-4)
    for own in held:
        assert scores[own.place] == pytest.approx(own.found, rel=1e-4)


def test_hidden_rows_are_not_found(encoder_folder):
    encoder = SentenceEncoder(encoder_folder)
    step = Step("The cat is red.")
    for kind in ("bm25", "dense", "hybrid"):
        retriever = open_retriever(kind, FACTS, encoder)
        best = retriever.retrieve([step], [NOTHING], top=3)[0]
        hidden = np.array([own.place for own in best[:2]])
        held = retriever.retrieve([step, step], [hidden, NOTHING], top=3)
        assert not {own.place for own in held[0]} & set(hidden.tolist())
        assert [own.place for own in held[1]] == [own.place for own in best]


def test_a_step_without_a_shared_word_finds_nothing():
    assert BM25(FACTS).retrieve([Step("Xylophones."), Step("the of and")], [NOTHING, NOTHING], top=5) == [[], []]
    with pytest.raises(ValueError, match="no facts"):
        BM25([])


def test_a_stored_index_is_of_its_own_pool(tmp_path):
    index = BM25(FACTS)
    index.save(tmp_path / "index")
    steps, nothing = [Step("A red cat."), Step("fly")], [NOTHING, NOTHING]
    assert BM25.load(tmp_path / "index", FACTS).retrieve(steps, nothing, top=4) == index.retrieve(steps, nothing, top=4)
    with pytest.raises(ValueError, match="index of other facts"):
        BM25.load(tmp_path / "index", FACTS[::-1])
    with pytest.raises(ValueError, match="stored index"):
        BM25.load(tmp_path, FACTS)


def test_hybrid_has_each_once_and_dense_is_sorted(encoder_folder):
    encoder = SentenceEncoder(encoder_folder)
    step = Step("The cat is blue.")
    dense = Dense(FACTS, encoder).retrieve([step], [NOTHING], top=5)[0]
    cosine = encoder.encode(FACTS) @ encoder.encode([step.text])[0]
    np.testing.assert_allclose([own.found for own in dense], sorted(cosine, reverse=True), rtol=1e-5)
    both = Hybrid(BM25(FACTS), Dense(FACTS, encoder)).retrieve([step], [NOTHING], top=5)[0]
    assert sorted(own.place for own in both) == [0, 1, 2, 3, 4]


def test_embeddings_do_not_hang_on_their_neighbours_in_a_batch(encoder_folder):
    one, other = SentenceEncoder(encoder_folder), SentenceEncoder(encoder_folder)
    alone = np.concatenate([one.encode([text]) for text in FACTS])
    np.testing.assert_allclose(other.encode(FACTS), alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    assert one.encode([]).shape == (0, 16)
    with pytest.raises(ValueError, match=r"config\.json"):
        SentenceEncoder(encoder_folder / "nowhere")


def test_weights_that_would_be_unpickled_are_refused(encoder_folder, tmp_path):
    shutil.copytree(encoder_folder, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save(safetensors.torch.load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="safetensors"):
        SentenceEncoder(tmp_path / "pickled")
