"""Questions, facts and completions: every form they come in, and every way they do not fit together."""

import gzip
import json

import numpy as np
import pytest

from pipelines.rethink import paths
from pipelines.rethink.paths import Path, Step
from pipelines.rethink.text.files import Question, read_completions, read_questions
from pipelines.rethink.text.pools import own_rows, read_pool, same_text


def test_questions_in_each_form(tmp_path):
    rows = [{"id": 1, "question": "A?", "answer": "Yes"}, {"id": 2, "question": "B?"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    held = read_questions(tmp_path / "a.json")
    assert held == read_questions(tmp_path / "a.jsonl.gz") == [Question("1", "A?", "Yes"), Question("2", "B?", None)]


def test_a_text_under_two_ids_is_one_question(tmp_path):
    rows = [{"qid": name, "question": "A?", "answer": True} for name in ("x", "y")]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    held = read_questions(tmp_path / "a.json")
    assert held == [Question("x", "A?", "yes", ("y",))]
    lines = [{"qid": "y", "source": "m", "completion": text} for text in ("one", "two")]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert [own.text for own in read_completions(tmp_path / "c.jsonl", held)] == ["one"]


def test_facts_in_each_form(tmp_path):
    (tmp_path / "a.txt").write_text("One fact.\n\nAnother.\n")
    (tmp_path / "b.jsonl").write_text('{"id": "f", "text": "One fact.", "question_id": "q"}\n')
    (tmp_path / "c.json").write_text(json.dumps([{"qid": "q", "question": "?", "facts": ["one  FACT.", "Another."]}]))
    assert read_pool(tmp_path / "a.txt") == (("1", "2"), ("One fact.", "Another."), (None, None))
    assert read_pool(tmp_path / "b.jsonl") == (("f",), ("One fact.",), ("q",))
    assert read_pool(tmp_path / "c.json")[0] == ("q:0", "q:1")


def test_own_facts_and_those_that_say_the_same(tmp_path):
    rows = [
        {"qid": "a", "question": "A?", "facts": ["One.", "Two."]},
        {"qid": "b", "question": "B?", "facts": ["one. ", "Three."]},
    ]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    pool, questions = read_pool(tmp_path / "c.json"), read_questions(tmp_path / "c.json")
    owned = own_rows(pool, questions)
    assert [own.tolist() for own in owned] == [[0, 1], [2, 3]]
    assert [own.tolist() for own in same_text(pool, owned)] == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "[1", "not JSON"),
        ("a.jsonl", '{"id": 1, "question": "A?"}\n{', "line 2"),
        ("a.json", '[{"id": 1}]', "no question or text"),
        ("a.json", '[{"question": "A?"}]', "no question_id or qid or id"),
        ("a.json", '[{"id": 1, "question": "A?"}, {"id": 1, "question": "B?"}]', "two questions under the id 1"),
        ("a.json", "[]", "no questions"),
    ],
)
def test_questions_that_cannot_be_read(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        read_questions(tmp_path / name)


def test_damaged_files(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(b"no gzip")
    for name in ("a.json.gz", "b.json"):
        with pytest.raises(ValueError, match=name):
            read_questions(tmp_path / name)
    (tmp_path / "f.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n')
    with pytest.raises(ValueError, match="stand twice"):
        read_pool(tmp_path / "f.jsonl")


def test_completions_that_do_not_fit_are_all_counted(tmp_path):
    rows = [
        {"qid": "1", "source": "m", "completion": "a"},
        {"qid": "1", "source": "m", "completion": "b"},
        {"qid": "1", "source": "n", "completion": "c"},
        {"qid": "9", "source": "m", "completion": "d"},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="4 completions") as error:
        read_completions(tmp_path / "c.jsonl", [Question("1", "A?", None), Question("2", "B?", None)])
    said = str(error.value)
    assert "unknown question 9" in said
    assert "question 1: two completions of m, sample 0" in said
    assert "question 2: none of m" in said
    assert "question 2: none of n" in said


def test_paths_come_back_from_their_file_and_are_checked(tmp_path):
    held = [Path("q", "m#0", "m", (Step("a"), Step("b", payload="why")), "yes", -1.5), Path("q", "n#0", "n", (), None)]
    paths.write(held, tmp_path / "p.jsonl")
    assert list(paths.read(tmp_path / "p.jsonl")) == held
    paths.check(held, ["q"], ["m", "n"])
    with pytest.raises(ValueError, match="2 do not fit"):
        paths.check([*held, held[0]], ["q"], ["m", "n", "o"])
    (tmp_path / "p.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="line 1"):
        list(paths.read(tmp_path / "p.jsonl"))
    assert np.array(held[0].steps, dtype=object).shape == (2, 4)
