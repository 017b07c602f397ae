"""The network: packed is unpacked, nothing leaks, order in a visit is nothing, weights survive a round trip."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.batches import Batch, collate, pad
from ehr.corruption import Corruption, Facts, corrupt, denoising
from ehr.model import Anamnesis, AnamnesisConfig, Moments, Network, OutcomeScorer
from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary

SIZE = 40
KNOWN = Facts(np.arange(SIZE), np.zeros(SIZE, dtype=bool))
IDENTITY = (np.ones(3), np.zeros(3), np.zeros((3, 1)), np.zeros((3, 1)), np.zeros((3, 1)))


def vocabulary():
    codes = ("[PAD]", "[UNK]", "[MASK]", *(f"X//{i}" for i in range(SIZE - 3)))
    ancestors = tuple(() if i < 20 else (3 + i % 5, 8 + i % 3) for i in range(SIZE))
    return Vocabulary(codes=codes, patients=(1,) * SIZE, cuts={}, ancestors=ancestors)


def network(**shape):
    torch.manual_seed(1)
    known = vocabulary()
    settings = {"width": 32, "heads": 2, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0, **shape}
    links = sum(map(len, known.ancestors))
    config = AnamnesisConfig(
        vocabulary_size=SIZE,
        ancestor_links=links,
        network=settings,
        outcomes=["a", "b", "c"],
        horizons=[[30, 365], [365, -1], [90, 180]],
    )
    model = Anamnesis(config)
    model.know(known)
    torch.nn.init.normal_(model.heads.weight)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return network()


def sample(length, seed=0, subject=1):
    draw = np.random.default_rng([length, seed])
    visit = np.sort(draw.integers(0, max(2, length // 3), length)).astype(np.int32)
    age = np.sort(draw.random(length) * 20_000).astype(np.float32)
    age[visit == 0] = 0
    token = draw.integers(3, SIZE, length).astype(np.int32)
    return Sample(subject, 7, token, visit, age, float(age[-1]) + 1)


def tensors(batch):
    if batch is None:
        return None
    return type(batch)(*(tensors(x) if x is None or isinstance(x, tuple) else torch.from_numpy(x) for x in batch))


def answers(model, rows, width):
    batch: Batch = tensors(collate(rows, width))
    with torch.no_grad():
        return model.outcomes(batch, batch.query_age_days)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
def test_packed_equals_unpacked(model, lengths, seed):
    samples = [sample(n, seed + i) for i, n in enumerate(lengths)]
    packed = answers(model, [samples[::2], samples[1::2]] if len(samples) > 1 else [samples], 200)
    alone = torch.cat([answers(model, [[s]], len(s.token)) for s in [*samples[::2], *samples[1::2]]])
    assert packed.shape == (len(samples), 3, 2)
    assert torch.allclose(packed, alone, atol=1e-5)


def test_attention_never_crosses_segments(model):
    one, two, other = sample(12), sample(9, 3), sample(9, 4)
    assert torch.allclose(answers(model, [[one, two]], 30)[0], answers(model, [[one, other]], 30)[0], atol=0)
    changed = one._replace(token=(one.token - 3 + 1) % (SIZE - 3) + 3)
    assert not torch.allclose(answers(model, [[one, two]], 30)[0], answers(model, [[changed, two]], 30)[0])


def test_order_of_codes_in_a_visit_is_nothing(model):
    given = sample(30)
    draw = np.random.default_rng(0)
    order = np.concatenate([draw.permutation(np.flatnonzero(given.visit == v)) for v in np.unique(given.visit)])
    assert (order != np.arange(30)).any()
    shuffled = given._replace(token=given.token[order], age_days=given.age_days[order])
    assert torch.allclose(answers(model, [[given]], 30), answers(model, [[shuffled]], 30), atol=1e-5)


def test_the_record_may_be_read_once_for_many_moments(model):
    given = sample(40)
    visits = np.unique(given.visit)[1:]
    ends = [int(np.flatnonzero(given.visit == v)[-1]) + 1 for v in visits]
    ages = [float(given.age_days[end - 1]) + 0.5 for end in ends]
    batch = tensors(collate([[given]], 40))
    moments = Moments(
        torch.tensor([ages]), torch.ones(1, len(ends), dtype=torch.int32), torch.from_numpy(visits + 1)[None]
    )
    with torch.no_grad():
        together = model.outcomes_at(batch, moments)
    for at, (end, age) in enumerate(zip(ends, ages, strict=True)):
        cut = Sample(1, 7, given.token[:end], given.visit[:end], given.age_days[:end], age)
        assert torch.allclose(together[at], answers(model, [[cut]], end)[0], atol=1e-5)


def asked_gradient(model, one_way):
    """Return |d answers / d embedded token| by query and token of a corrupted sample, its visits and its queries'."""
    given = sample(30, seed=5)
    how = {"seed": 0, "epoch": 0, "one_way": one_way}
    noised, asked = corrupt(given, Corruption(targets=3, code_rate=0.0), KNOWN, **how)
    batch = tensors(denoising([[(noised, asked)]], 32))
    # A table of its own for each position, so that a gradient by position can be read off.
    token = batch.source.token.clone()
    table = model.table().detach()[token[0]].requires_grad_()
    numbered = batch._replace(source=batch.source._replace(token=torch.arange(token.shape[1])[None]))
    reading = model.read(numbered.source, table)
    moments = Moments(batch.query_age_days, batch.query_segment, batch.query_visit)
    anchor = torch.full_like(moments.age_days, given.query_age_days)
    query = model.sets.query.expand(1, len(asked.visit), 1, -1)
    decoded = model.decode(reading, query, moments, anchor)[0, :, 0]
    rows = [torch.autograd.grad(row.square().sum(), table, retain_graph=True)[0].abs().sum(-1) for row in decoded]
    return torch.stack(rows)[:, : len(noised.token)], noised.visit, asked.visit


@pytest.mark.parametrize("attention", ["visit_causal", "bidirectional"])
def test_no_query_reads_the_visit_it_asks_for(attention):
    one_way = attention == "visit_causal"
    model = network(attention=attention)
    gradient, visit, asked = asked_gradient(model, one_way)
    assert len(asked) == 3
    for row, target in zip(gradient, asked, strict=True):
        assert (row[torch.from_numpy(visit < target)] > 0).all()
        if one_way:
            assert (row[torch.from_numpy(visit >= target)] == 0).all()


def test_both_ways_the_visits_asked_for_are_one_mask_each():
    given = sample(30, seed=5)
    noised, asked = corrupt(given, Corruption(targets=3, code_rate=0.0), KNOWN, seed=0, epoch=0, one_way=False)
    for visit in asked.visit:
        assert noised.token[noised.visit == visit].tolist() == [2]


def test_visit_causal_tokens_see_no_later_visit(model):
    given = sample(30)
    last = given.visit == given.visit[-1]
    changed = given._replace(token=np.where(last, 3, given.token).astype(np.int32))
    readings = []
    for one in (given, changed):
        batch = tensors(collate([[one]], 30))
        with torch.no_grad():
            readings.append(model.read(batch, model.table()).encoded[0])
    assert torch.equal(readings[0][~last], readings[1][~last])
    assert not torch.equal(readings[0][last], readings[1][last])


def test_queries_do_not_read_each_other(model):
    whole = answers(model, [[sample(12)]], 12)
    torch.manual_seed(0)
    kept = model.heads.query.detach().clone()
    try:
        with torch.no_grad():
            model.heads.query[1:] = torch.randn_like(model.heads.query[1:]) * 5
        changed = answers(model, [[sample(12)]], 12)
    finally:
        with torch.no_grad():
            model.heads.query.copy_(kept)
    assert torch.allclose(whole[:, 0], changed[:, 0], atol=1e-6)
    assert not torch.allclose(whole[:, 1], changed[:, 1], atol=1e-3)


def test_embedding_is_the_token_and_its_ancestors(model):
    weight, table = model.embedding.weight, model.table()
    for token, chain in enumerate(vocabulary().ancestors):
        expected = weight[token] + sum((weight[a] for a in chain), torch.zeros(32))
        assert torch.allclose(table[token], expected, atol=1e-6)


def test_scorer_with_its_folded_table_is_the_model(model):
    samples = [sample(n, n) for n in (3, 17, 40)]
    scorer = OutcomeScorer(model, IDENTITY)
    inputs = [torch.from_numpy(part) for part in pad(samples, length=64, rows=4)]
    with torch.no_grad():
        logit, probability = scorer(*inputs)
    assert torch.allclose(logit[:3], answers(model, [samples], 64), atol=1e-5)
    assert torch.isfinite(logit).all()
    assert torch.allclose(probability[..., 0], torch.sigmoid(logit[..., 0]))
    assert (probability[..., 1] >= probability[..., 0]).all()


def test_rows_of_padding_stay_finite_and_do_not_hang_on_their_length(model):
    scorer = OutcomeScorer(model, IDENTITY)
    empty = sample(3)._replace(
        token=np.zeros(0, np.int32), visit=np.zeros(0, np.int32), age_days=np.zeros(0, np.float32)
    )
    found = []
    for length in (1, 64):
        with torch.no_grad():
            found.append(scorer(*(torch.from_numpy(part) for part in pad([empty], length=length, rows=1)))[0])
    assert torch.isfinite(found[0]).all()
    assert torch.allclose(*found, atol=1e-6)


def test_a_batch_without_samples_gives_no_answers_and_zero_gradients(model):
    batch = tensors(collate([], 16))
    found = model.outcomes(batch, batch.query_age_days)
    assert found.shape == (0, 3, 2)
    found.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    model.zero_grad(set_to_none=True)


def test_calibration_is_the_formula():
    draw = np.random.default_rng(0)
    slope, intercept = draw.random(3) + 0.5, draw.normal(size=3)
    knots, widths, slopes = draw.normal(size=(3, 4)), draw.random((3, 4)), draw.random((3, 4))
    scorer = OutcomeScorer(network(), (slope, intercept, knots, widths, slopes))
    logit = draw.normal(size=(5, 3, 2)) * 3
    steps = np.clip(logit[..., None] - knots[:, None], 0, widths[:, None])
    expected = slope[:, None] * logit + intercept[:, None] + (slopes[:, None] * steps).sum(-1)
    expected = np.maximum.accumulate(1 / (1 + np.exp(-expected)), axis=-1)
    found = scorer.calibrate(torch.from_numpy(logit).float())
    assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_weights_survive_saving_and_loading(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Anamnesis.from_pretrained(tmp_path, local_files_only=True).eval()
    assert loaded.config.outcomes == ["a", "b", "c"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    for (name, one), (same, two) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == same
        assert torch.equal(one, two), name
    # Weights read from a file lie behind its header, at addresses that are no multiple of a vector's width, and sums
    # then run in another order: answers are equal to the bit only from the same places.
    moved = copy.deepcopy(loaded)
    for parameter in moved.parameters():
        parameter.data = parameter.data.clone()
    assert torch.equal(answers(model, [[sample(12)]], 12), answers(moved, [[sample(12)]], 12))
    assert torch.allclose(answers(model, [[sample(12)]], 12), answers(loaded, [[sample(12)]], 12), rtol=0, atol=1e-5)


def test_saving_twice_gives_the_same_bytes(model, tmp_path):
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_heads_start_from_the_prior():
    model = network()
    prevalence = torch.tensor([[0.1, 0.2], [0.5, 0.5], [0.01, 0.03]])
    model.heads.set_prior(prevalence)
    with torch.no_grad():
        model.heads.weight.zero_()
    assert torch.allclose(torch.sigmoid(answers(model, [[sample(12)]], 12))[0], prevalence, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "named"),
    [({"width": 30, "heads": 4}, "width"), ({"attention": "sideways"}, "attention"), ({"encoder_layers": 0}, "layer")],
)
def test_shapes_that_do_not_fit_are_refused(shape, named):
    with pytest.raises(ValueError, match=named):
        Network(**shape)
