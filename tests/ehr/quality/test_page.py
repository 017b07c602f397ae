"""The page of results: nothing from outside, nothing that runs, each gate in words, whatever a file is called."""

import re
from html.parser import HTMLParser

import pytest

from ehr.quality import page
from ehr.quality.thresholds import Thresholds


def gate(**changes):
    held = {
        "suite": "events",
        "expectation": "future",
        "success": True,
        "found": 12,
        "of": 240_000,
        "share": 0.00005,
        "bound": 0.001,
        "where": "data/0.parquet:7",
    }
    return {**held, **changes}


class Reader(HTMLParser):
    """Tags with their attributes, checked for balance, and the text."""

    VOID = ("meta", "col", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("results", [[], [gate()], [gate(success=False, found=9999), gate(suite="timelines")]])
def test_nothing_comes_from_outside_and_nothing_runs(results):
    text = page.render(results)
    read = Reader(text)
    assert not re.search(r"https?:|//|url\(|@import|javascript:", text)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    assert not {name for _, held in read.tags for name in held} & {"src", "href", "onload", "onclick", "srcset"}


def test_every_gate_is_told_in_words():
    for name in Thresholds.bounds():
        text = " ".join(Reader(page.render([gate(expectation=name)])).words)
        assert page.MEANINGS[name] in text
        assert name in text
    assert set(page.MEANINGS) == set(Thresholds.bounds())


def test_verdict_counts_and_first_offenders():
    text = page.render([gate(), gate(expectation="duplicates", success=False, found=1234, share=0.3, bound=0.2)])
    words = " ".join(" ".join(Reader(text).words).split())
    assert "1 of 2 gates do not hold" in words
    assert "1,234" in words
    assert "240,000" in words
    assert "first at data/0.parquet:7" in words
    assert words.index("Raw events") < words.index("Rows dated later than today")
    assert "All 1 gates hold" in " ".join(" ".join(Reader(page.render([gate()])).words).split())


def test_names_of_files_are_text():
    text = page.render([gate(where="<script>alert(1)</script>.parquet:3", suite="<b>mine</b>")])
    Reader(text)
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.5, "50 %"),
        (0.0151, "1.5 %"),
        (0.00005, "0.005 %"),
        (1e-7, "1e-05 %"),
        (0.1, "10 %"),
    ],
)
def test_shares_as_percentages(share, text):
    assert page.percent(share) == text


@pytest.mark.parametrize(
    ("found", "share", "bound", "width"),
    [(0, 0, 0.1, 0), (1, 0.05, 0.1, 50), (1, 1e-6, 0.1, 2), (9, 0.9, 0.1, 100), (1, 0.01, 0.0, 100), (0, 0, 0, 0)],
)
def test_bars_show_how_much_of_what_is_borne_was_found(found, share, bound, width):
    assert page.used({"found": found, "share": share, "bound": bound}) == width
