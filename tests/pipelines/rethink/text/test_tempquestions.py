"""TempQuestions: implicit questions with one answer, and exact match.  The rows are ours, in the published form."""

import json

import pytest

from pipelines.rethink.text.tempquestions import claim, exact, read


def row(number, kind, answers, signal="OVERLAP"):
    return {
        "Id": number,
        "Question": f"Who {number}?",
        "Gold answer": answers,
        "Temporal signal": [signal],
        "Type": kind,
    }


def test_implicit_questions_with_one_answer(tmp_path):
    rows = [
        row(1, ["Implicit"], ["A"]),
        row(2, ["Explicit"], ["B"]),
        row(3, "Implicit", ["C", "D"]),
        row(4, "Implicit", ["E"]),
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    assert [(own.id, own.answers) for own in read(tmp_path / "t.json")] == [("1", ("A",)), ("4", ("E",))]


def test_faults(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read(tmp_path / "none.json")
    (tmp_path / "t.json").write_text('[{"Question": "x"}]')
    with pytest.raises(ValueError, match="Gold answer"):
        read(tmp_path / "t.json")


def test_exact_match_and_claims():
    assert exact("the Urban VIII.", ["Urban VIII"])
    assert not exact(None, ["Urban VIII"])
    assert claim("span", subject="Bonn", relation="capital of", value="West Germany", start="1949", end="1990") == (
        "Bonn was capital of West Germany from 1949 to 1990."
    )
    with pytest.raises(ValueError, match="is missing"):
        claim("span", subject="Bonn")
