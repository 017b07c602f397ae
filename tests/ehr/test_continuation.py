"""The generating mode as transformers users know it."""

import numpy as np
import pytest
import torch

from ehr.continuation import AnamnesisForCausalLM
from ehr.generation import prompts_of
from ehr.grammar import CLOSES, IMPOSSIBLE, LOWER_DAYS, OPENS, UPPER_DAYS
from ehr.network import AnamnesisConfig
from tests.ehr import futures
from tests.ehr.futures import DEAD, SIZE, batch_of


@pytest.fixture(scope="module")
def model():
    return futures.network()


def prompt(length=20, seed=3):
    found = prompts_of(batch_of([[futures.sample(length, seed)]]))[0]
    return {
        "input_ids": torch.from_numpy(found.token)[None],
        "visit": torch.from_numpy(found.visit)[None],
        "age_days": torch.from_numpy(found.age_days)[None],
    }


def test_the_cache_gives_what_recomputing_gives(model):
    given = prompt()
    with torch.no_grad():
        whole = model(**given).logits
        first = {name: value[:, :12] for name, value in given.items()}
        part = model(**first, use_cache=True)
        rest = model(**given, past_key_values=part.past_key_values)
    assert torch.allclose(whole, torch.cat([part.logits, rest.logits], dim=1), atol=1e-5)
    how = {"max_new_tokens": 25, "do_sample": False}
    kept, again = (model.generate(**given, **how, use_cache=use_cache) for use_cache in (True, False))
    assert torch.equal(kept, again)
    assert kept.shape[1] > given["input_ids"].shape[1]


@pytest.mark.parametrize("how", [{"do_sample": True, "num_return_sequences": 3, "top_k": 0}, {"num_beams": 3}])
def test_ids_keep_to_the_grammar(model, how):
    torch.manual_seed(0)
    given = prompt()
    rows = model.generate(**given, max_new_tokens=40, **how)
    rules, start = futures.rules(), given["input_ids"].shape[1]
    for row in rows.tolist():
        held = set(given["input_ids"][0][given["visit"][0] == given["visit"][0, -1]].tolist())
        level = [0] * rules.types
        for at, token in enumerate(row):
            new = at >= start
            if token >= SIZE:
                assert not new or held
                held = set()
                continue
            kind, partner = rules.kind[token], rules.partner[token]
            if new:
                assert kind != IMPOSSIBLE
                assert token not in held
                assert kind != OPENS or not held
                assert kind != CLOSES or level[partner] > 0
                held.add(token)
            level[partner] += int(kind == OPENS) - int(kind == CLOSES and level[partner] > 0)
            if new and token == DEAD:
                assert set(row[at + 1 :]) <= {0}
                break


def test_time_tokens_move_the_clock(model):
    ids = torch.tensor([[9, 10, SIZE + 30, 11, SIZE + 40, SIZE + 2, 0]])
    code, order, age = model.clocked(ids, None, None)
    middle = np.sqrt(LOWER_DAYS * UPPER_DAYS)
    moved = np.cumsum([0, 0, middle[30], 0, middle[40], middle[2], 0])
    assert np.allclose(age[0], moved, rtol=1e-5)
    assert code.tolist() == [[True, True, False, True, False, False, False]]
    assert order.tolist() == [[1, 2, 3, 4, 5, 6, 7]]


def test_padding_on_the_left_changes_nothing(model):
    ids = torch.tensor([[9, 10, SIZE + 30, 11]])
    padded = torch.tensor([[0, 0, 9, 10, SIZE + 30, 11]])
    with torch.no_grad():
        one = model(ids).logits
        two = model(padded, attention_mask=(padded > 0).long()).logits
    assert torch.allclose(one, two[:, 2:], atol=1e-5)


def test_saving_and_loading_keeps_answers_and_rules(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AnamnesisForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    given = prompt()
    with torch.no_grad():
        assert torch.allclose(model(**given).logits, loaded(**given).logits, atol=1e-5)
    assert all(np.array_equal(one, two) for one, two in zip(model.rules(), loaded.rules(), strict=True))
    assert loaded.can_generate()


def test_a_network_without_time_tokens_does_not_generate():
    with pytest.raises(ValueError, match="permuted_ce"):
        AnamnesisForCausalLM(AnamnesisConfig(vocabulary_size=SIZE))
