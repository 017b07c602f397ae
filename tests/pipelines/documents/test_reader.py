"""The reader: chunked as unchunked, deduped as naive, answers that hang on nothing else in the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.documents import pooling
from pipelines.documents.batches import Words
from pipelines.documents.chunks import Window
from pipelines.documents.heads import DescriptionHead, PaddedHead
from pipelines.documents.model import Asked, load, new_encoder, save
from pipelines.documents.modules import elsewhere
from pipelines.documents.pooling import NEVER
from pipelines.documents.reading import answers
from tests.pipelines.documents.readers import OPTIONS, collator, logits, reader, text, tokens, whole


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 8), st.integers(0, 10_000))
def test_pooling_by_windows_is_one_softmax_over_all_owned_tokens(passages, windows, length, seed):
    draw = torch.Generator().manual_seed(seed)
    state, key = (torch.randn(passages, windows, length, width, generator=draw) for width in (6, 4))
    query = torch.randn(3, 4, generator=draw) * 3
    owned = torch.rand(passages, windows, length, generator=draw) < 0.6
    owned[:, 0, 0] = True
    z, share = pooling.merge(pooling.pool(state, key, query, owned))
    for p in range(passages):
        flat = owned[p].flatten()
        score = (query @ key[p].flatten(0, 1)[flat].T) / 2
        weight = torch.softmax(score, -1)
        assert torch.allclose(z[p], weight @ state[p].flatten(0, 1)[flat], atol=1e-5)
    assert torch.allclose(share.sum(-1), torch.ones(passages, 3), atol=1e-5)
    assert (share[(~owned.any(-1))[:, None].expand_as(share)] == 0).all()


def test_a_text_of_one_window_reads_the_same_beside_longer_ones_and_padding():
    network = reader()
    short, long = text(12, 1), text(150, 2)
    window = Window(length=64, overlap=16)
    alone = logits(network, whole(collator([short] * 3, [0, 1, 2], [0, 1, 2], window)))
    beside = logits(network, whole(collator([short] * 3 + [long], [0, 1, 2, 1], [0, 1, 2, 0], window)))
    assert torch.allclose(alone[0], beside[0], atol=1e-5)


def test_one_window_and_many_owners_agree_where_the_encoder_sees_no_neighbours():
    """With an encoder of position-free single tokens, cutting changes nothing at all."""
    network = reader()

    class Alone(torch.nn.Module):
        config = network.encoder.config

        def __init__(self, table):
            super().__init__()
            self.table = table

        def forward(self, inputs_embeds, attention_mask):
            return type("Out", (), {"last_hidden_state": torch.tanh(inputs_embeds) * 3})

        def get_input_embeddings(self):
            return self.table

    network.encoder = Alone(network.encoder.get_input_embeddings())
    passage = text(120, 3)
    big = whole(collator([passage] * 3, [0, 1, 2], [0, 0, 0], Window(length=256, overlap=0)))
    small = whole(collator([passage] * 3, [0, 1, 2], [0, 0, 0], Window(length=20, overlap=6, max_chunks=None)))
    assert small.input_ids.shape[1] > 5
    assert torch.allclose(logits(network, big), logits(network, small), atol=1e-5)


def test_each_passage_is_encoded_once_and_answers_as_row_by_row():
    network = reader()
    texts = [text(40, 1), text(90, 2)]
    rows = [(at, task) for at in (0, 1, 0, 1, 0) for task in (0, 2)][:6]
    rows = sorted(set(rows))
    together = whole(collator([texts[a] for a, _ in rows], [t for _, t in rows], [0] * len(rows)))
    assert len(together.input_ids) == 2
    seen = []
    inner = network.encoder.forward
    network.encoder.forward = lambda **given: seen.append(len(given["inputs_embeds"])) or inner(**given)
    found = logits(network, together)
    assert sum(seen) == int(together.attention_mask.any(-1).sum())
    network.encoder.forward = inner
    place = {task: at for at, task in enumerate(together.asked.task.tolist())}
    for at, task in rows:
        naive = logits(network, whole(collator([texts[at]], [task], [0])))
        assert torch.allclose(found[at, place[task]], naive[0, 0], atol=1e-5)


def test_every_row_is_kept_where_a_text_is_asked_twice():
    made = collator(["a b", "a b", "a b"], [0, 0, 1], [0, 1, 2])
    batch = whole(made)
    assert len(batch.input_ids) == 2
    assert int(batch.ask.sum()) == 3
    assert sorted(batch.label[batch.ask].tolist()) == [0, 1, 2]


def test_reading_in_blocks_is_reading_at_once():
    network = reader()
    made = collator(
        [text(400, 5)] * 2 + [text(20, 6)], [0, 1, 2], [0, 0, 0], Window(length=32, overlap=8, max_chunks=None)
    )
    blocked, at_once = answers(network, made, positions=64), answers(network, made, positions=100_000)
    assert np.allclose(blocked.logits, at_once.logits, atol=1e-5)
    assert not blocked.truncated.any()
    short = collator([text(400, 5)], [0], [0], Window(length=32, overlap=8, max_chunks=2))
    assert answers(network, short).truncated.all()


def test_absent_options_are_never_chosen_and_stay_finite():
    batch = whole(collator([text(10)] * 3, [0, 1, 2], [0, 0, 0]))
    found = logits(reader(), batch)
    for column, options in enumerate(OPTIONS):
        assert (found[0, column, options:] == NEVER).all()
        assert (found[0, column, :options] > NEVER).all()


@pytest.mark.parametrize("head", ["padded", "legacy"])
def test_heads_are_dense_tanh_linear(head):
    torch.manual_seed(0)
    made = PaddedHead(6, 3, 5, dropout=0.0, shared=head == "padded")
    z, task = torch.randn(2, 2, 6), torch.tensor([2, 0])
    found = made(z, task, torch.tensor([5, 5]))
    for column, number in enumerate(task.tolist()):
        dense, offset = (made.dense, made.offset) if head == "padded" else (made.dense[number], made.offset[number])
        hidden = torch.tanh(z[:, column] @ dense.T + offset)
        assert torch.allclose(found[:, column], hidden @ made.weight[number].T + made.bias[number], atol=1e-6)


def test_permuting_options_permutes_the_logits_of_a_description_head():
    torch.manual_seed(0)
    head = DescriptionHead(6, dropout=0.0)
    z, option, order = torch.randn(2, 1, 6), torch.randn(1, 4, 6), [2, 0, 3, 1]
    found = head(z, option, torch.tensor([4]))
    assert torch.allclose(head(z, option[:, order], torch.tensor([4])), found[..., order], atol=1e-6)


def test_an_unseen_question_needs_no_new_weight():
    network = reader(head="description")
    held = tokens()
    known = [["alpha", "beta"], ["gamma", "delta", "eta"], ["the", "of", "and", "or", "zeta"]]
    words = Words(["the alpha", "of beta", "and gamma"], known, held)
    batch = whole(collator([text(30)] * 3, [0, 1, 2], [0, 0, 0], words=words))
    found = logits(network, batch)
    other = Words(["zeta or theta", *["the alpha", "of beta"]], [["eta", "theta"], *known[:2]], held)
    unseen = Asked(torch.arange(3), torch.tensor([2, 2, 3]), other.of_tasks(np.arange(3), 5))
    with torch.no_grad():
        again = network(batch.input_ids, batch.attention_mask, batch.owned, unseen).logits
    assert torch.allclose(again[:, 1, :2], found[:, 0, :2], atol=1e-5)
    assert (again[:, 0, :2] > NEVER).all()


def test_embeddings_can_be_moved():
    network = reader()
    batch = whole(collator([text(60)] * 2, [0, 1], [0, 1]))
    x = network.embed(batch.input_ids.flatten(0, 1))
    with torch.no_grad():
        plain = network.forward_embeddings(x, batch.attention_mask, batch.owned, batch.asked).logits
        moved = network.forward_embeddings(
            x + 0.1 * torch.randn_like(x), batch.attention_mask, batch.owned, batch.asked
        ).logits
    assert torch.allclose(plain, logits(network, batch), atol=1e-5)
    assert not torch.allclose(plain, moved, atol=1e-3)


def test_several_queries_and_the_published_pooling():
    batch = whole(collator([text(20)] * 3, [0, 1, 2], [0, 0, 0], Window(length=32, overlap=8, max_chunks=1)))
    assert logits(reader(queries=3), batch).shape == (1, 3, 5)
    first = reader(pooling="first_token", head="legacy")
    with torch.no_grad():
        found = first(batch.input_ids, batch.attention_mask, batch.owned, batch.asked)
        state = first.encode(first.embed(batch.input_ids[:, 0]), batch.attention_mask[:, 0])[:, 0]
        expected = first.head(state[:, None].expand(-1, 3, -1), batch.asked.task, batch.asked.num_options)
    assert torch.allclose(found.logits, expected, atol=1e-6)


def test_saved_and_loaded_gives_the_same_answers(tmp_path):
    network = reader(queries=2)
    save(network, tmp_path)
    batch = whole(collator([text(20)] * 3, [0, 1, 2], [0, 0, 0]))
    assert torch.equal(logits(network, batch), logits(load(tmp_path), batch))
    (tmp_path / "reader.json").unlink()
    with pytest.raises(ValueError, match=r"reader\.json: missing"):
        load(tmp_path)


def test_frozen_layers_get_no_gradient():
    network = reader(frozen_layers=1)
    trained = {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert trained == {"key", "asking", "head"}
    with pytest.raises(ValueError, match="frozen_layers is 2; the encoder has 1"):
        reader(frozen_layers=2)


def test_an_encoder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one of the two"):
        new_encoder(None, None, 10, 32)
    with pytest.raises(ValueError, match="expected a Hugging Face encoder"):
        new_encoder(tmp_path, None, 10, 32)
    made = new_encoder(None, {"model_type": "bert", "hidden_size": 12, "num_hidden_layers": 1}, 10, 32)
    made.config.save_pretrained(tmp_path)
    torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        new_encoder(tmp_path, None, 10, 32)
    with pytest.raises(ValueError, match="takes 16 positions"):
        new_encoder(None, {"model_type": "bert", "max_position_embeddings": 16}, 10, 32)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_distractors_are_one_softmax_over_own_tokens_and_weighted_ones_of_other_passages(
    passages, windows, length, seed
):
    draw = torch.Generator().manual_seed(seed)
    state, key = (torch.randn(passages, windows, length, width, generator=draw) for width in (6, 4))
    query = torch.randn(3, 4, generator=draw) * 3
    owned = torch.rand(passages, windows, length, generator=draw) < 0.6
    owned[:, 0, 0] = True
    elsewhere = torch.rand(passages, 3, generator=draw) < 0.5
    wanted = 10 ** (4 * torch.rand(passages, generator=draw))
    z, share = pooling.merge(pooling.among(pooling.pool(state, key, query, owned), elsewhere, owned, wanted))
    for p in range(passages):
        for t in range(3):
            others = owned & elsewhere[:, t, None, None]
            times = torch.where(others, wanted[p] / others.sum().clamp(min=1), 0.0)
            times[p] += owned[p]
            weight = torch.softmax((key @ query[t] / 2 + torch.log(times)).flatten(), 0)
            assert torch.allclose(z[p, t], weight @ state.flatten(0, 2), atol=1e-5)
    assert torch.allclose(share.sum(-1), torch.ones(passages, 3), atol=1e-5)
    assert (share[..., -1][:, ~elsewhere.any(0)] == 0).all()


def test_passages_of_a_questions_text_type_are_no_distractors_for_it():
    # Task 1 is asked of the first passage only, but the third is of its kind too.
    batch = whole(collator(["a", "a", "b", "c"], [0, 1, 2, 0], [0, 0, 0, 0]))
    kinds = torch.tensor([0, 0, 1])
    assert elsewhere(batch, kinds).tolist() == [[False, False, True], [True, True, False], [False, False, True]]
