"""The page of a report: what it says, what it must not say, and that it is whole on its own."""

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from ehr.metrics.resampling import draw
from ehr.metrics.scores import slot, table
from ehr.metrics.subgroups import by_group
from ehr.report import page as pages
from ehr.report import panels, svg
from ehr.report.figures import Curve, attrition, learning
from ehr.report.page import Content, interval, number, percent, render, signed, verdict

MODELS = ["anamnesis", "logistic_regression"]
VOID = {"meta", "br", "img", "input", "link", "hr"}
SPLITS = pl.Schema(
    {
        "outcome": pl.String,
        "horizon_days": pl.Int32,
        "split": pl.String,
        "count": pl.Int64,
        "positives": pl.Int64,
        "censored": pl.Int64,
        "prevalence": pl.Float64,
    }
)
ATTRITION = pl.Schema({"rule": pl.String, "outcome": pl.String, "patients": pl.Int64, "samples": pl.Int64})


def content(positives=(60, 60, 4), models=MODELS, **changes):
    """Three questions of 500 patients, the last of them rare: two horizons of one outcome, and another."""
    random = np.random.default_rng(0)
    subject = np.arange(500)
    draws = draw(subject, subject < 60, resamples=30, seed=0)
    slots, groups, rows = [], {"sex": np.where(subject % 10 < 9, "F", "M")}, []
    for (name, days), many in zip(
        (("heart_failure", 90), ("heart_failure", 365), ("gout", 365)), positives, strict=True
    ):
        label = (subject < many).astype(np.float32)
        chance = {
            model: 1 / (1 + np.exp(2 - (1.5 - 0.8 * at) * label - random.normal(size=500)))
            for at, model in enumerate(models)
        }
        slots.append(slot(name, days, label, chance, draws.places(subject), draws))
        rows.append(subject)
    given = {
        "title": "Anamnesis on 500 patients",
        "facts": [("Model", "run 0123")],
        "notes": [],
        "models": models,
        "slots": slots,
        "scores": table(slots, models),
        "subgroups": by_group(slots, rows, groups, models[0], draws),
        "curves": [],
        "attrition": pl.DataFrame(schema=ATTRITION),
        "prevalence": pl.DataFrame(schema=SPLITS),
    }
    return Content(**{**given, **changes})


class Balance(HTMLParser):
    """Tags that are open, and texts."""

    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def text_of(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return " ".join(" ".join(parser.texts).split())


@pytest.fixture(scope="module")
def whole():
    curves = [("Fine-tuning", "train/loss", 60), ("Fine-tuning", "tuning/auroc", 5), ("Fine-tuning", "speed/x", 9)]
    rows = [(step, 0, name, 1 / (1 + step)) for _, name, steps in curves for step in range(steps)]
    frame = pl.DataFrame(rows, schema=["step", "epoch", "metric", "value"], orient="row")
    lost = [("candidates", "gout", 9, 90), ("alive", "gout", 1, 10), ("kept", "gout", 8, 80)]
    return content(
        curves=[Curve("Fine-tuning", frame)],
        attrition=pl.DataFrame(lost, schema=ATTRITION, orient="row"),
        prevalence=pl.DataFrame([("gout", 365, "train", 100, 5, 20, 5 / 80)], schema=SPLITS, orient="row"),
        notes=["The cohort defines <b>gout</b> & more otherwise."],
    )


def test_every_part_is_there_and_tags_close(whole):
    page = render(whole)
    text = text_of(page)
    for words in ("Summary", "At a glance", "Calibration", "Subgroups", "Learning curves", "Cohort", "How to read"):
        assert words in text
    assert "removed: dead by then" in text
    assert "AUROC on the tuning split" in text
    assert "5 of 80" in text
    assert "speed" not in text
    assert page.count("<svg") == 5
    targets = set(re.findall(r'href="#([\w-]+)"', page.split("<nav>")[1].split("</nav>")[0]))
    assert targets == set(re.findall(r'<section id="([\w-]+)"', page))


def test_the_table_of_the_summary_says_what_the_scores_say(whole):
    body = render(whole).split('<section id="summary">')[1].split("</section>")[0]
    lines = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", line)).strip() for line in body.split("<tr")[3:]]
    score = {(r["model"], r["outcome"], r["horizon_days"], r["metric"]): r for r in whole.scores.iter_rows(named=True)}
    assert "Mean of 2" in lines[0]
    for line, key in zip(lines[:3], (("macro", None), ("heart_failure", 90), ("heart_failure", 365)), strict=True):
        for model in MODELS:
            for metric in ("auroc", "auprc"):
                row = score[model, *key, metric]
                assert f"{row['value']:.3f} {row['lower']:.3f} to {row['upper']:.3f}" in line
        marked = sum(row["lower"] > 0 for k, row in score.items() if k[1:3] == key and "_over_" in k[3])
        assert line.count("▲") == marked > 0
    # An outcome is named once, at the first of its horizons.
    assert "heart failure" in lines[1]
    assert "heart failure" not in lines[2]
    assert "12.0 %" in lines[1]
    assert "60 of 500" in lines[1]
    assert "gout 365 4 of 500 0.80 % not estimable" in lines[3]


def test_a_page_needs_nothing_from_outside(whole):
    page = render(whole)
    assert not re.search(r"https?:|src=|@import|<script|<link|<iframe|url\((?!#)|xlink", page)
    assert set(re.findall(r"url\(#(\w+)\)", page)) <= set(re.findall(r'id="(\w+)"', page))


def test_notes_and_names_are_text_and_no_markup(whole):
    page = render(whole)
    assert "&lt;b&gt;gout&lt;/b&gt; &amp; more" in page
    assert "<br>regression" not in text_of(page)


def test_equal_content_gives_equal_bytes():
    assert render(content()) == render(content())


def test_few_positives_of_a_group_are_not_told():
    held = content(positives=(60, 60, 4))
    few = held.subgroups.filter(attribute="sex", group="M", metric="auroc")
    assert few["positives"].to_list() == [6, 6]
    page = render(held)
    assert "sex M (under 10 of 50)" in page
    assert "sex M (6" not in page
    assert "sex F (54 of 450)" in page
    assert panels.group_name({"attribute": "site", "group": "Z", "positives": 0, "count": 7}) == "site Z (under 10)"
    # Few negatives are not estimable either, but hide nobody.
    assert panels.group_name({"attribute": "age", "group": "80+", "positives": 95, "count": 99}) == "age 80+ (95 of 99)"
    cells = page.split('<section id="groups">')[1].split("</section>")[0]
    assert re.search(r">\s*–\s*<", cells)
    assert not re.search(r"\b6\b", re.sub(r"<[^>]+>", " ", cells))


def test_without_baselines_nothing_speaks_of_them():
    text = text_of(render(content(models=["anamnesis"])))
    assert "Baselines" not in text
    assert "Logistic" not in text
    assert "minus this" not in text
    assert "no mark" not in text


def test_nothing_estimable_is_said():
    held = content(positives=(3, 4, 5))
    text = text_of(render(held))
    assert "nothing can be estimated" in text
    assert text.count("not estimable") >= 3
    assert "Mean of" not in text
    assert "At a glance" not in text


def test_one_estimable_question_is_a_question():
    text = text_of(render(content(positives=(60, 3, 4))))
    assert "over 1 question:" in text


def test_figures_end_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(pages, "MOST_FIGURES", 1)
    page = render(content())
    assert page.count("Curves of heart failure within") == 1
    assert "only the first 1 outcomes and horizons have one" in page


def test_progress_is_told_for_each_question():
    calls = []
    render(content(), lambda: calls.append(1))
    assert len(calls) == 3


def test_models_differ_in_colour_line_and_mark():
    assert len(set(svg.ORDER)) == len(svg.ORDER) >= 5
    styles = [(panels.LINES[at], panels.MARKS[at]) for at in range(len(svg.ORDER))]
    assert len(set(styles)) == len(styles)


def test_colours_are_apart_for_those_without_red_or_green():
    def seen(colour, without):
        """Viénot, Brettel and Mollon (1999), linear RGB."""
        rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]) ** 2.2
        matrix = {
            "red": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
            "green": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        }[without]
        return np.clip(np.array(matrix) @ rgb, 0, 1) ** (1 / 2.2)

    for without in ("red", "green"):
        first = [seen(colour, without) for colour in svg.ORDER[:3]]
        apart = [np.abs(a - b).max() for at, a in enumerate(first) for b in first[at + 1 :]]
        assert min(apart) > 0.15


def test_svg_is_small_and_bare():
    figure = panels.detail(content().slots[0], MODELS, content().subgroups.filter(horizon_days=90))
    assert len(figure) < 120_000
    assert not re.search(r"\d\.\d{3}", re.sub(r"<text.*?</text>", "", figure, flags=re.DOTALL))
    assert "<metadata" not in figure
    assert re.match(r'<svg viewBox="[\d. ]+" role="img" aria-label="Curves of heart failure within 90 days">', figure)


def test_labels_of_ticks_keep_their_digits():
    rows = [(step, 0, "tuning/auroc", 0.7112 + 0.0011 * step) for step in range(6)]
    frame = pl.DataFrame(rows, schema=["step", "epoch", "metric", "value"], orient="row")
    drawn = learning([Curve("Fine-tuning", frame)])
    ticks = re.findall(r">(0\.7\d+)</text>", drawn)
    assert len(set(ticks)) == len(ticks) >= 4
    assert ">kept</text>" in drawn


def test_empty_curves_and_attrition_draw_nothing():
    assert learning([]) == ""
    one = pl.DataFrame([(1, 0, "train/loss", 1.0)], schema=["step", "epoch", "metric", "value"], orient="row")
    assert learning([Curve("x", one)]) == ""
    assert attrition(pl.DataFrame(schema=ATTRITION)) == ""


def test_numbers_read_as_people_write_them():
    assert number(None) == "–"
    assert number(-0.0001) == "0.000"
    assert number(-0.5, 1) == "−0.5"
    assert signed(0.0104) == "+0.010"
    assert signed(-0.0104) == "−0.010"
    assert percent(0.0042) == "0.42 %"
    assert percent(0.12) == "12.0 %"
    assert interval({"lower": None, "upper": None}) == ""
    assert interval({"lower": -0.1, "upper": 0.25}, 2) == "−0.10 to 0.25"
    assert [verdict(row) for row in ({"lower": 0.1, "upper": 0.2}, {"lower": -0.2, "upper": -0.1})] == [
        "better",
        "worse",
    ]
    assert verdict({"lower": -0.1, "upper": 0.1}) == "level"
    assert verdict({"lower": None, "upper": None}) == ""
