"""Completions of a causal language model in a local directory."""

import pytest

from pipelines.rethink.text.causal import CausalLM, first_answer
from pipelines.rethink.text.files import Question
from pipelines.rethink.text.generators import Recorded
from pipelines.rethink.text.prompts import FEW_SHOT, prompt
from pipelines.rethink.text.splitting import steps, yes_or_no

QUESTIONS = [Question("a", "Can a cat fly?", None), Question("b", "Is the river blue?", None)]


def test_samples_differ_and_do_not_hang_on_the_order_of_questions(language_model):
    model = CausalLM(str(language_model), samples=3, max_new_tokens=12)
    held = list(model.complete(QUESTIONS))
    assert [(own.question_id, own.source, own.sample) for own in held[:3]] == [("a", "tiny", at) for at in range(3)]
    assert len({own.text for own in held}) > 2
    assert sorted(model.complete(QUESTIONS[::-1])) == sorted(held)


def test_greedy_is_one_path(language_model):
    held = list(CausalLM(str(language_model), samples=5, temperature=0, max_new_tokens=5).complete(QUESTIONS))
    assert [own.sample for own in held] == [0, 0]


def test_what_cannot_be_opened(tmp_path, language_model):
    with pytest.raises(ValueError, match="causal language model"):
        CausalLM(str(tmp_path))
    with pytest.raises(ValueError, match="samples 0"):
        CausalLM(str(language_model), samples=0)


def test_recorded(files):
    from pipelines.rethink.text.files import read_questions

    questions, chains = files()
    assert len(list(Recorded(str(chains)).complete(read_questions(questions)))) == 6


@pytest.mark.parametrize("task", FEW_SHOT)
def test_prompts_are_read_by_our_own_splitter(task):
    assert prompt(task, "Why?").endswith("\n\nQuestion: Why?\nAnswer:")
    for _, said in FEW_SHOT[task]:
        assert steps(said)
        assert task == "tempquestions" or yes_or_no(said) is not None


def test_what_follows_the_answer_is_cut():
    assert first_answer(" So the answer is yes.\n\nQuestion: And now?") == "So the answer is yes."
