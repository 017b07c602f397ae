"""The page: passages are whole, marks stand where the offsets say, nothing comes from outside."""

import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.documents import evaluation, report
from pipelines.documents.catalogue import Question, checked
from pipelines.documents.predictions import from_matrix
from pipelines.documents.report import AROUND, Content, clip, passages, pieces, render
from pipelines.documents.schema import DOCUMENTS

TEXT = "Naïve <b>patient</b> & 吸烟 since 2001,\r\nquit in 2010. Code status: full."
CATALOGUE = checked(
    [
        Question(id="smoking", category="Social", text_type="social", question="Smokes?", options=("no", "yes")),
        Question(id="code", category="Plan", text_type="social", question="Code status?", options=("full", "none")),
    ]
)


def rows(groups=20):
    made = [
        {
            **dict.fromkeys(DOCUMENTS, "x"),
            "document_id": f"n{at}",
            "group_id": f"p{at}",
            "text": f"{TEXT} {at}",
            "text_type": "social",
            "id": question.id,
            "answer": question.options[label],
            "label": label,
            "category": question.category,
            "data_type": "main",
        }
        for at in range(groups)
        for question, label in zip(CATALOGUE.questions, (int(at % 4 == 0), int(at % 5 == 0)), strict=True)
    ]
    return pl.DataFrame(made, schema=DOCUMENTS)


def predicted(frame, spans):
    label = frame["label"].to_numpy()
    probability = np.full((len(frame), 2), 0.2)
    probability[np.arange(len(frame)), label] = 0.8
    probability[0] = probability[0, ::-1]
    held = from_matrix(frame, probability, CATALOGUE)
    evidence = [
        [{"start": start, "end": end, "weight": 0.5} for start, end in spans[task]] for task in held["id"].to_list()
    ]
    return probability, held.with_columns(pl.Series("evidence", evidence, held.schema["evidence"]))


class Passages(HTMLParser):
    """The text of each passage, and of its marks with their numbers."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.marks, self.skip = [], [], [], False

    def handle_starttag(self, tag, attrs):
        classes = dict(attrs).get("class", "")
        if tag == "div" and classes == "passage":
            self.texts.append("")
            self.open.append(tag)
        elif self.open:
            self.open.append(tag)
            if tag == "mark":
                self.marks.append([dict(attrs)["title"], ""])

    def handle_endtag(self, tag):
        if self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "sup":
            self.texts[-1] += data
            if self.open[-1] == "mark":
                self.marks[-1][1] += data


@pytest.fixture(scope="module")
def page():
    frame = rows()
    spans = {"smoking": [(TEXT.index("吸烟"), TEXT.index("2001") + 4)], "code": [(TEXT.index("Code"), len(TEXT))]}
    probability, held = predicted(frame, spans)
    scores = evaluation.evaluate(
        frame, {"reader": probability, "majority": np.full_like(probability, 0.5)}, CATALOGUE, resamples=50
    ).scores
    shown = passages(frame, held, CATALOGUE, most=3)
    return render(Content("A reader on <notes>", [("Rows", "40")], ["A <note>."], scores, shown))


def parsed(page):
    parser = Passages()
    parser.feed(page)
    return parser


def test_a_passage_is_shown_as_it_is_and_marks_are_its_characters(page):
    found = parsed(page)
    assert len(found.texts) == 3
    assert found.texts[0] == f"{TEXT} 0"
    assert [text for _, text in found.marks[:2]] == ["吸烟 since 2001", "Code status: full."]
    assert [title for title, _ in found.marks[:2]] == ["evidence of 1", "evidence of 2"]


def test_answers_stand_beside_their_labels(page):
    body = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split('id="passages"')[1])))
    # The first answer was turned over.
    assert re.search(r"1 Smokes\? no 0\.80 ✗ yes", body)
    assert re.search(r"2 Code status\? none 0\.80 the same", body)


def test_the_page_needs_nothing_from_outside(page):
    assert not re.search(r"https?:|src=|@import|<script|<link|<iframe|url\(|\son\w+=", page)
    assert "A reader on &lt;notes&gt;" in page
    assert "A &lt;note&gt;." in page
    targets = set(re.findall(r'href="#([\w-]+)"', page))
    assert targets == set(re.findall(r'<section id="([\w-]+)"', page))


def test_scores_are_those_given(page):
    frame = rows()
    probability, _ = predicted(frame, {"smoking": [], "code": []})
    scores = evaluation.evaluate(
        frame, {"reader": probability, "majority": np.full_like(probability, 0.5)}, CATALOGUE, resamples=50
    ).scores
    own = scores.filter(model="reader", level="all", metric="minority_aupr").row(0, named=True)
    assert f"{own['value']:.3f}<small>{own['lower']:.3f} to {own['upper']:.3f}</small>" in page
    gain = scores.filter(level="all", metric="minority_aupr_over_majority").row(0, named=True)
    assert f"+{gain['value']:.3f}" in page
    assert 'class="better"' in page


def test_equal_content_gives_equal_bytes_and_no_passages_no_section(page):
    frame = rows()
    scores = evaluation.evaluate(frame, {"reader": np.full((40, 2), 0.5)}, CATALOGUE, resamples=5).scores
    content = Content("x", [], [], scores, [])
    assert render(content) == render(content)
    assert "Passages" not in render(content)


@given(
    st.text(max_size=60), st.lists(st.tuples(st.integers(-5, 70), st.integers(-5, 70), st.integers(1, 4)), max_size=5)
)
def test_pieces_put_together_are_the_text(text, spans):
    made = pieces(text, spans)
    assert "".join(piece.text for piece in made) == text
    at = 0
    for piece in made:
        covering = {
            number
            for start, end, number in spans
            if max(0, start) <= at and at + len(piece.text) <= end and start < end
        }
        assert set(piece.numbers) == covering
        assert set(piece.begins) <= set(piece.numbers)
        at += len(piece.text)


@given(st.integers(0, 5000), st.integers(1, 50), st.integers(0, 5000))
def test_what_is_left_out_is_counted(before, marked, after):
    text = "a" * before + "b" * marked + "c" * after
    made = clip(pieces(text, [(before, before + marked, 1)]))
    assert sum(len(piece.text) + piece.left_out for piece in made) == len(text)
    assert sum(len(piece.text) for piece in made) <= marked + 4 * AROUND
    shown = "".join(piece.text for piece in made)
    assert "b" * marked in shown
    assert shown.count("a") >= min(before, AROUND)
    assert shown.count("c") >= min(after, AROUND)
    assert sum(len(piece.text) for piece in clip(pieces(text, []))) <= report.UNMARKED + 2 * AROUND


def test_each_text_type_has_its_turn():
    frame = rows(6)
    two = frame.with_columns(
        pl.when(pl.col("document_id") == "n5").then(pl.lit("other")).otherwise("text_type").alias("text_type")
    )
    _, held = predicted(two, {"smoking": [], "code": []})
    assert [shown.text_type for shown in passages(two, held, CATALOGUE, most=2)] == ["social", "other"]


def test_numbers_read_as_people_write_them():
    assert [report.number(None), report.number(-0.5, 1), report.signed(0.01), report.signed(None)] == [
        "–",
        "−0.5",
        "+0.010",
        "–",
    ]
    assert report.within(None) == ""
    assert [report.verdict({"lower": low, "upper": high}) for low, high in ((0.1, 1), (-1, -0.1), (-1, 1))] == [
        "better",
        "worse",
        "level",
    ]
    assert report.verdict(None) == ""


def test_pieces_with_little_attention_are_not_marked():
    told = [{"start": at, "end": at + 4, "weight": weight} for at, weight in ((0, 0.6), (8, 0.35), (16, 0.05))]
    row = {"id": "smoking", "option": "no", "probability": 0.9, "label": 0, "abstain": False, "truncated": False}
    assert report.answer(1, {**row, "evidence": told}, CATALOGUE).evidence == [(0, 4, 0.6), (8, 12, 0.35)]
    assert report.answer(1, {**row, "evidence": None}, CATALOGUE).evidence == []
