"""Records as rows of next tokens: what is asked, what may be read, and that learning it brings back the process."""

import numpy as np
import torch

from ehr import losses
from ehr.batches import collate
from ehr.corruption import denoising
from ehr.generation import sample as draw
from ehr.grammar import UPPER_DAYS, time_bin
from ehr.unrolling import REST, unroll
from tests.ehr import futures
from tests.ehr.futures import IN, OUT, SEX, SIZE, sample, tensors


def given():
    token = np.array([SEX, IN, 9, 10, 11, OUT, 12, 13], dtype=np.int32)
    visit = np.array([0, 1, 1, 1, 1, 1, 2, 2], dtype=np.int32)
    age = np.array([0, 100, 101, 101, 102, 103, 140, 140], dtype=np.float32)
    return sample(2)._replace(token=token, visit=visit, age_days=age, query_age_days=150.0)


def asked_of(asked, query):
    return sorted(asked.target[asked.query == query].tolist())


def test_the_rest_of_a_visit_is_asked_for_after_each_code():
    read, asked = unroll(given(), futures.rules(), seed=0, epoch=0, ordered=False)
    assert read.token[0] == SEX
    assert read.token[1] == IN
    assert sorted(read.token[2:6]) == [OUT, 9, 10, 11]
    assert sorted(read.token[6:]) == [12, 13]
    assert read.visit.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    assert read.age_days.tolist() == [0, 100, 100, 100, 100, 100, 140, 140]
    # The start alone, then what is left, then the gap; nothing after the last visit.
    left = [sorted(read.token[at:6].tolist()) for at in range(2, 6)]
    gap = SIZE + int(time_bin(np.array([40.0]))[0])
    assert [asked_of(asked, query) for query in range(len(asked.visit))] == [
        *([IN], *left, [gap]),
        *(sorted(read.token[at:].tolist()) for at in (6, 7)),
    ]
    assert asked.visit.tolist() == [2, 3, 4, 5, 6, 7, 7, 8]
    assert asked.age_days.tolist() == [100] * 6 + [140] * 2
    assert (asked.weight == 1).all()


def test_in_the_order_of_the_record_the_next_code_is_asked_for():
    read, asked = unroll(given(), futures.rules(), seed=0, epoch=0, ordered=True)
    assert read.token.tolist() == given().token.tolist()
    gap = SIZE + int(time_bin(np.array([40.0]))[0])
    assert asked.target.tolist() == [IN, 9, 10, 11, OUT, gap, 12, 13]
    assert asked.query.tolist() == list(range(8))


def test_orders_are_drawn_anew_in_each_epoch_and_hang_on_nothing_else():
    orders = [unroll(given(), futures.rules(), seed=0, epoch=epoch, ordered=False)[0].token for epoch in range(9)]
    again = [unroll(given(), futures.rules(), seed=0, epoch=epoch, ordered=False)[0].token for epoch in range(9)]
    assert all(np.array_equal(one, two) for one, two in zip(orders, again, strict=True))
    assert len({tuple(order) for order in orders}) > 4


def test_long_visits_are_asked_for_a_part_at_a_time():
    token = np.repeat(np.arange(9, SIZE), 4).astype(np.int32)
    long = sample(2)._replace(
        token=token, visit=np.ones(len(token), np.int32), age_days=np.full(len(token), 5.0, np.float32)
    )
    _, asked = unroll(long, futures.rules(), seed=0, epoch=0, ordered=False)
    assert np.bincount(asked.query).max() == REST
    assert len(asked.visit) == len(token)


def test_what_can_never_be_drawn_is_not_asked_for():
    token = np.array([SEX, 9, 1, 2], dtype=np.int32)
    odd = sample(2)._replace(token=token, visit=np.array([1, 1, 1, 1], np.int32), age_days=np.ones(4, np.float32))
    _, asked = unroll(odd, futures.rules(), seed=0, epoch=0, ordered=False)
    assert set(asked.target) == {9}
    empty = odd._replace(token=token[:0], visit=np.zeros(0, np.int32), age_days=np.zeros(0, np.float32))
    assert len(unroll(empty, futures.rules(), seed=0, epoch=0, ordered=False)[1].target) == 0


def test_no_query_reads_what_it_is_asked_for():
    model = futures.network()
    read, asked = unroll(sample(20, 3), futures.rules(), seed=0, epoch=0, ordered=False)

    def answers(one):
        with torch.no_grad():
            return model.pretrain(tensors(denoising([[(one, asked)]], 24)))[0]

    whole = answers(read)
    for place in (4, 11):
        token = read.token.copy()
        token[place:] = 9 + (token[place:] - 8) % (SIZE - 9)
        changed = answers(read._replace(token=token))
        before = torch.from_numpy(asked.visit) <= place + 1
        assert torch.equal(whole[before], changed[before])
        assert not torch.equal(whole[~before], changed[~before])


KINDS = ((9, 10, 11), (12, 13, 14))


def steady(start, subject):
    """Return a record whose visits hold the same three codes, every thirty days."""
    token = np.array([SEX, *KINDS[subject % 2] * 6], dtype=np.int32)
    visit = np.array([0, *np.repeat(np.arange(1, 7), 3)], dtype=np.int32)
    age = np.where(visit > 0, start + 30.0 * visit, 0).astype(np.float32)
    return sample(2, subject=subject)._replace(token=token, visit=visit, age_days=age, query_age_days=float(age[-1]))


def test_learning_brings_back_a_process():
    model = futures.network(width=32, encoder_layers=1, decoder_layers=1).train()
    with torch.no_grad():
        model.clock.weight.zero_()
        model.sets.query.zero_()
    learner = torch.optim.Adam(model.parameters(), lr=5e-3)
    starts = np.random.default_rng(0)
    for epoch in range(90):
        records = [steady(starts.uniform(5_000, 20_000), subject) for subject in range(8)]
        parts = [unroll(one, futures.rules(), seed=0, epoch=epoch, ordered=False) for one in records]
        content = tensors(denoising([[part] for part in parts], 19))
        query, _, table, _ = model.pretrain(content)
        number = torch.cumsum((content.query_segment > 0).flatten(), dim=0) - 1
        output, bias = model.law(table)
        loss = losses.set_ce(
            *(query, output, bias),
            target_query=number[content.target_query],
            target=content.target,
            weight=content.weight,
        )
        learner.zero_grad()
        (loss / len(query)).backward()
        learner.step()
    asked = collate([[steady(12_000, subject)] for subject in (4, 5)], 19)
    found = draw(model, tensors(asked), horizon_days=45, samples=10, seed=0)
    codes = found.token < SIZE
    own = np.isin(found.token, KINDS[0]) == (found.future < 10)
    # Half of the codes by chance.
    assert own[codes].mean() > 0.8
    bins = found.token[~codes] - SIZE
    assert np.isin(bins, np.searchsorted(UPPER_DAYS, 30.0) + np.array([-1, 0, 1])).mean() > 0.9
