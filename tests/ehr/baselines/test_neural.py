"""Neural rivals: each learns what can be learnt, reads nothing from padding, and gives the same answers again."""

import numpy as np
import pytest
import torch

from ehr.baselines.neural.batches import Examples, Padded
from ehr.baselines.neural.decoder import Decoder
from ehr.baselines.neural.gru import Gru
from ehr.baselines.neural.learner import Learner, Schedule
from ehr.baselines.neural.masked import Masked
from ehr.baselines.neural.published import Published
from ehr.baselines.neural.recipes import Sizes
from ehr.grammar import TIME_BINS
from ehr.timelines import Sample

CODES, TOKENS = 30, 24
SMALL = {"width": 16, "dropout": 0.0}
RECIPES = {
    "gru": Gru(layers=1, **SMALL),
    "masked": Masked(layers=1, heads=2, **SMALL),
    "decoder": Decoder(layers=1, heads=2, **SMALL),
    "published": Published(encoder_layers=1, decoder_layers=1, heads=2, beams=2, **SMALL),
    "encoder": Published(encoder_layers=1, heads=2, decoder=False, masking="code", dates=False, **SMALL),
}
PRETRAINED = [name for name in RECIPES if name != "gru"]


def sample(length, seed=0, subject=1):
    draw = np.random.default_rng([length, seed, subject])
    visit = np.sort(draw.integers(1, 5, length)).astype(np.int32)
    visit = (np.unique(visit, return_inverse=True)[1] + 1).astype(np.int32)
    age = (12_000 + 50.0 * visit).astype(np.float32)
    token = draw.integers(4, CODES, length).astype(np.int32)
    return Sample(subject, 7, token, visit, age, 12_300.0)


def empty():
    return sample(3)._replace(
        token=np.zeros(0, np.int32), visit=np.zeros(0, np.int32), age_days=np.zeros(0, np.float32)
    )


def examples(number=128):
    """Return samples whose first outcome is that code 3 stands there, the second never known for half of them."""
    draw = np.random.default_rng(5)
    samples = [sample(int(draw.integers(4, TOKENS)), 9, subject) for subject in range(number)]
    label = np.full((number, 2, 1), np.nan, np.float32)
    for at, one in enumerate(samples):
        has = at % 2
        if has:
            one.token[int(draw.integers(len(one.token)))] = 3
        label[at, 0, 0] = has
        if at % 4 < 2:
            label[at, 1, 0] = 0
    return Examples(samples, label)


def built(name):
    torch.manual_seed(0)
    return RECIPES[name].build(Sizes(CODES, 2, 1, TOKENS)).eval()


@pytest.mark.parametrize("name", RECIPES)
def test_answers_do_not_hang_on_the_batch(name):
    network = built(name)
    samples = [sample(n, n) for n in (3, 9, 20)]
    with torch.inference_mode():
        together = network.outcomes(Padded.of(samples))
        alone = torch.cat([network.outcomes(Padded.of([one])) for one in samples])
        assert torch.isfinite(network.outcomes(Padded.of([empty()]))).all()
    assert together.shape == (3, 2, 1)
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretraining_asks_for_what_it_hides(name):
    network = built(name)
    batch = Padded.of([sample(n, n) for n in (6, 9, 20)])
    noise = torch.rand(batch.token.shape, generator=torch.Generator().manual_seed(0))
    total, count = network.pretraining_loss(batch, noise)
    total.backward()
    assert count > 0
    # Nothing is learnt yet: about the logarithm of the number of ids for each of them.
    assert 0.5 < float(total.detach() / count) / np.log(CODES + 2) < 1.6


@pytest.mark.parametrize("name", RECIPES)
def test_learning_separates_what_can_be_separated(name):
    given = examples()
    schedule = Schedule(pretraining_epochs=1, epochs=12, rows=16, learning_rate=1e-2, tokens=TOKENS)
    learner = Learner(RECIPES[name], schedule).fit(given, given, given.samples[:32], codes=CODES)
    logit = learner.predict(given.samples)
    assert logit.shape == (128, 2, 1)
    positive = given.label[:, 0, 0] == 1
    pairs = logit[positive, 0, 0][:, None] - logit[~positive, 0, 0]
    assert (np.sign(pairs) + 1).mean() / 2 > 0.8
    assert np.array_equal(logit, learner.predict(given.samples))


def test_a_seed_gives_the_same_network():
    given = examples(32)
    schedule = Schedule(epochs=1, rows=16, tokens=TOKENS)
    one, two = (Learner(RECIPES["masked"], schedule).fit(given, None, given.samples, codes=CODES) for _ in range(2))
    assert np.array_equal(one.predict(given.samples), two.predict(given.samples))


def test_the_decoder_reads_time_tokens_between_visits():
    network = built("decoder")
    one = sample(2)._replace(
        token=np.array([4, 5, 6], np.int32),
        visit=np.array([0, 1, 2], np.int32),
        age_days=np.array([0, 100, 140], np.float32),
        query_age_days=141.0,
    )
    ids, age = network.timed(Padded.of([one, sample(9)]))
    row = ids[0][ids[0] > 0].tolist()
    assert [token for token in row if token < CODES] == [4, 5, 6]
    assert [token >= CODES for token in row] == [False, True, False, True, False, True]
    assert max(row) < CODES + TIME_BINS
    assert age[0, : len(row)].tolist() == [0, 100, 100, 140, 140, 141]


def test_visits_or_codes_are_hidden_whole():
    one = Padded.of([sample(20), sample(12, 3)])
    noise = torch.rand(one.token.shape, generator=torch.Generator().manual_seed(1))
    hidden = built("published").hidden(one, noise)
    for row, visit, there in zip(hidden, one.visit, one.there, strict=True):
        chosen = visit[row].unique()
        assert len(chosen) == 1
        assert torch.equal(row, (visit == chosen) & there)
    assert torch.equal(built("encoder").hidden(one, noise), one.there & (noise < 0.15))


def test_what_is_written_stands_in_order_and_is_closed():
    network = built("published")
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8]])
    wanted = torch.tensor([[True, False, True, True], [False, False, False, False]])
    end = network.end
    assert network.listed(ids, wanted, 9).tolist() == [[5, 7, 8, end], [end, -100, -100, -100]]
    assert network.listed(ids, wanted, 2).tolist() == [[5, 7, end], [end, -100, -100]]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"pretraining_epochs": -1}])
def test_schedules_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Schedule(**wrong)


def test_an_unknown_masking_is_refused():
    with pytest.raises(ValueError, match="visit, code"):
        Published(masking="patient")
