"""The catalogue: what is written is what is asked, and what is wrong is named."""

import json

import polars as pl
import pytest

from pipelines.documents.catalogue import Question, checked, from_frame, load, natural, of
from pipelines.documents.schema import DOCUMENTS, NONE, OTHER

GOOD = """
questions:
  - id: "10.10"
    category: Conditions
    text_type: accuracy
    question: Must they be accurate?
    options: ["No", "Yes"]
  - id: "25"
    text_type: carveouts
    question: Which carveouts are there?
    options: [war, pandemic, law]
    multi: true
"""


def write(tmp_path, text):
    path = tmp_path / "questions.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_question_with_several_answers_becomes_tasks(tmp_path):
    held = load(write(tmp_path, GOOD))
    assert held.ids == ("10.10", "25-0", "25-1", "25-2")
    assert held.parents == ("10.10", "25", "25", "25")
    assert held.questions[2].options == (OTHER, "pandemic")
    assert held.questions[2].subquestion == "pandemic"
    assert held.asked() == {"accuracy": (0,), "carveouts": (1, 2, 3)}
    assert held.num_options.tolist() == [2, 2, 2, 2]
    assert held.text_types == ("accuracy", "carveouts")


def test_content_makes_the_same_catalogue(tmp_path):
    held = load(write(tmp_path, GOOD))
    assert of(held.content()) == held
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps(held.content()))
    assert load(path) == held
    assert load(path).digest == held.digest
    other = checked([*held.questions[:1]])
    assert other.digest != held.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"10.10"', "10.10", "id holds 10.1, no string; put it in quotes"),
        ('"No"', "No", "options holds False, no string"),
        ("category: C", "kategory: C", "key kategory is not known"),
        ("    text_type: accuracy\n", "", "key text_type is missing"),
        ("multi: true", "multi: 1", "multi is 1; expected true or false"),
        ("[war, pandemic, law]", "war", "options is no list"),
        ("[war, pandemic, law]", "[war, war]", "question 25: options must all be different"),
        ('["No", "Yes"]', '["Yes"]', "1 options; expected two or more"),
        ("Must they be accurate?", '""', "question is empty"),
        ('"25"', '"10.10"', "stands there twice|question 10.10"),
        ("    category: Conditions\n", "    category: A\n    category: B\n", "key category stands there twice in line"),
        ("questions:", "answers:", "no questions"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, message):
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    if message.startswith("stands there twice"):
        text = text.replace("    multi: true\n", "")
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        load(write(tmp_path, "questions: [}"))


def rows(*held):
    frame = pl.DataFrame(
        [{"id": name, "subquestion": part, "label": label, "answer": answer} for name, part, label, answer in held]
    )
    return frame.lazy().with_columns(
        *(pl.lit(None, kind).alias(name) for name, kind in DOCUMENTS.items() if name not in frame.columns)
    )


def test_a_catalogue_from_answers():
    held = from_frame(
        rows(("10", NONE, 2, "c"), ("10", NONE, 0, "a"), ("9", NONE, 1, "y"), ("25-1", "war", 1, "war")),
        {"10": "Ten?"},
    )
    assert held.ids == ("9", "10", "25-1")
    assert held.questions[1].options == ("a", "<LABEL 1>", "c")
    assert held.questions[1].question == "Ten?"
    assert held.questions[2].parent == "25"
    with pytest.raises(ValueError, match="label 0 has several answers"):
        from_frame(rows(("10", NONE, 0, "a"), ("10", NONE, 0, "b")))


def test_ids_sort_as_people_count():
    ids = ["10-10", "9", "10-9", "10.1", "101", "a2", "a10"]
    assert sorted(ids, key=natural) == ["a2", "a10", "9", "10-9", "10-10", "10.1", "101"]


def test_parents_are_of_sub_questions_alone():
    common = {"text_type": "t", "question": "q", "options": ("a", "b")}
    assert Question(id="COVID-19", **common).parent == "COVID-19"
    assert Question(id="10.10", **common).parent == "10.10"
    assert Question(id="10.10", subquestion="a", **common).parent == "10"
    with pytest.raises(ValueError, match="a sub-question with 3 options"):
        Question(id="1-1", multi=True, **{**common, "options": ("a", "b", "c")})
