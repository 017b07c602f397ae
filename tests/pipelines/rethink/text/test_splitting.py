"""Completions to steps and answers."""

import gzip
import json

import pytest

from pipelines.rethink.text import splitting
from pipelines.rethink.text.files import read_completions, read_questions
from pipelines.rethink.text.splitting import chosen, normalised, sentences, short_answer, steps, yes_or_no


def texts(completion):
    return [step.text for step in steps(completion)]


def test_sentences_keep_initials_abbreviations_and_numbers_whole():
    said = 'Dr. A. Smith paid $1.50 in the U.S. in 2010. He left. "Why?" Nobody knows!'
    assert sentences(said) == ["Dr. A. Smith paid $1.50 in the U.S. in 2010.", "He left.", '"Why?', "Nobody knows!"]


def test_conclusions_are_no_steps():
    assert texts("Milk is homogenised. Thus, it has no cream. So the answer is no.") == ["Milk is homogenised."]
    assert texts("Yes. Therefore it holds. No way.") == []


def test_least_to_most_answers_are_steps_and_their_questions_context():
    held = steps(
        "Q1. Is it old?\nYes, it is old. It was made in 1900.\n\nQ2. Who knows?\nNobody.\n"
        "Final answer: Is it?\nThe answer is yes."
    )
    assert [step.text for step in held] == ["It is old.", "It was made in 1900.", "Nobody."]
    assert [step.payload for step in held] == ["Is it old?", "Is it old?", "Who knows?"]


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("It is so. So the answer is yes.", "yes"),
        ("So the answer is no. Wait. So the answer is: Yes.", "yes"),
        ("Thus, the answer is FALSE.", "no"),
        ("Q1. x?\nNo, it is.\nFinal answer: Is it?\nYes, it is.", "yes"),
        ("Q1. x?\nYes, it is.\nFinal answer: Is it?\nIt depends.", None),
        ("It depends. So the answer is maybe.", None),
        ("Some facts. No.", "no"),
        ("Yes, milk has cream.", "yes"),
        ("Nobody knows.", None),
        ("", None),
        ("the answer is not applicable", None),
    ],
)
def test_yes_or_no(completion, answer):
    assert yes_or_no(completion) == answer


def test_open_answers():
    assert short_answer("Bonn was the capital. So the answer is Bonn.") == "Bonn"
    assert short_answer("So the answer is St. Gallen.\nMore.") == "St. Gallen"
    assert normalised("The  Berlin-Wall!") == "berlinwall"
    assert chosen("So the answer is the Cat.", ["dog", "cat"]) == "cat"
    assert chosen("So the answer is bird.", ["dog", "cat"]) is None


def test_recorded_chains(shared_data):
    """Of the recorded completions about one in nine states no answer; a quarter of all step texts would be too few."""
    questions = read_questions(shared_data("strategyqa") / "train.json.gz")
    assert len(questions) == 2060
    held = read_completions(shared_data("strategyqa_chains") / "chains_train.jsonl.gz", questions)
    assert len(held) == 2060 * 12
    silent = sum(yes_or_no(own.text) is None for own in held)
    assert 0.08 < silent / len(held) < 0.15
    assert not [
        own
        for own in held[:2000]
        for step in steps(own.text)
        if splitting.SAYS_ANSWER.search(step.text) and step.payload is None
    ]


def test_completions_of_a_merged_question_are_taken_once(shared_data, tmp_path):
    with gzip.open(shared_data("strategyqa") / "train.json.gz", "rt") as file:
        rows = json.load(file)
    merged = [own for own in read_questions(shared_data("strategyqa") / "train.json.gz") if own.aliases]
    assert len(rows) == 2061
    assert len(merged) == 1
