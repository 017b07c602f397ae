"""Thresholds: the shipped file is the defaults, files come back, shares and small counts, messages with the remedy."""

import json
import math
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ehr.quality.thresholds import EXACT, Measure, Thresholds, hold, message
from tests.docs import ROOT

SHIPPED = ROOT / "configs" / "quality.yaml"


def written(tmp_path, text):
    path = tmp_path / "quality.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_holds_every_key_at_its_default():
    held = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert held == Thresholds().content()
    assert list(held) == list(Thresholds().content())
    assert Thresholds.load(SHIPPED) == Thresholds()


def test_what_is_not_named_keeps_its_default(tmp_path):
    assert Thresholds.load(written(tmp_path, "")) == Thresholds()
    held = Thresholds.load(written(tmp_path, "future: 0.5\nnow: 2031-02-03\nranges: {LOINC//1: [0, 2.5]}\n"))
    assert held == Thresholds(future=0.5, now="2031-02-03", ranges={"LOINC//1": (0, 2.5)})


SHARES = st.floats(0, 1)


@given(
    SHARES, SHARES, st.integers(0, 99), st.none() | st.dates().filter(lambda day: day.year >= 1000).map(str),
    st.dictionaries(st.text("AB/é", min_size=1), st.tuples(st.floats(-9, 0), st.floats(1, 9))),
)  # fmt: skip
def test_thresholds_come_back_from_yaml_and_json(tmp_path_factory, future, duplicates, min_count, now, ranges):
    held = Thresholds(future=future, duplicates=duplicates, min_count=min_count, now=now, ranges=ranges)
    path = tmp_path_factory.getbasetemp() / "quality.json"
    held.save(path)
    assert Thresholds.load(path) == held
    assert json.loads(path.read_text()) == held.content()
    path.write_text(yaml.safe_dump(held.content(), allow_unicode=True), encoding="utf-8")
    assert Thresholds.load(path) == held


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("futur: 0.1", "unknown key futur; expected one of null_subject, negative_subject"),
        ("future: 1.5", "future is 1.5; expected a share from 0 to 1"),
        ("future: -0.1", "future is -0.1; expected a share from 0 to 1"),
        ("future: 5 %", "future is 5 %; expected a share from 0 to 1"),
        ("future: true", "future is True; expected a share from 0 to 1"),
        ("future: .nan", "future is nan; expected a share from 0 to 1"),
        ("future:", "future is None; expected a share from 0 to 1"),
        ("min_count: -1", "min_count is -1; expected a number of at least 0"),
        ("unit_drift: 0", "unit_drift is 0; expected a ratio of at least 1"),
        ("longest_tokens: many", "longest_tokens is many; expected a number"),
        ("now: tomorrow", "now is tomorrow; expected a day, YYYY-MM-DD"),
        ("now: 2024-13-01", r"not YAML \(month must be in 1..12"),
        ("ranges: [1, 2]", "ranges: expected codes and"),
        ("ranges: {A: [2, 1]}", r"ranges: A is \[2, 1\]; expected \[low, high\]"),
        ("ranges: {A: 3}", r"ranges: A is 3; expected \[low, high\]"),
        ("ranges: {A: [1, 2, 3]}", r"expected \[low, high\]"),
        ("ranges: {A: [low, high]}", r"expected \[low, high\]"),
        ("- future", "expected keys and numbers, one a line"),
        ("future: [", r"not YAML in line \d \("),
        ("future: 0.1\nfuture: 0.2", r"not YAML in line 2 \(key future stands there twice\)"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        Thresholds.load(written(tmp_path, text))
    assert "\n" not in str(error.value)
    assert "quality.yaml" in str(error.value)


def test_files_that_are_not_there_name_the_shipped_one(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml: no such file; .* \(see configs/quality\.yaml\)"):
        Thresholds.load(tmp_path / "none.yaml")


@given(st.floats(0, 1), st.integers(0, 10_000), st.integers(0, 20))
def test_a_gate_bears_its_share_or_a_few(share, of, min_count):
    allowed = Thresholds(future=share, min_count=min_count).allowed("future", of)
    few = min_count - 1 if share > 0 else 0
    assert allowed == max(few, math.floor(share * of + 1e-9))
    assert allowed >= few


@pytest.mark.parametrize("gate", Thresholds.bounds())
def test_a_gate_holds_up_to_its_bound_and_not_beyond(gate):
    for share, of in ((0.1, 1000), (0.001, 100_000), (0.0, 1000), (1.0, 1000)):
        held = Thresholds(**{gate: share})
        most = round(share * of)
        assert hold({gate: Measure(most, of)}, held) == []
        if share < 1:
            (found,) = hold({gate: Measure(most + 1, of, "a.parquet:7")}, held)
            assert found == (gate, most + 1, (most + 1) / of, share, "a.parquet:7")


def test_a_few_finds_stop_nothing_where_any_are_borne():
    held = Thresholds(future=0.01, drifted_codes=0.01)
    assert hold({"future": Measure(4, 10)}, held) == []
    assert hold({"future": Measure(5, 10)}, held) != []
    assert hold({"future": Measure(1, 10)}, Thresholds(future=0)) != []
    # One laboratory that changes its unit is one code.
    assert EXACT == ("drifted_codes",)
    assert hold({"drifted_codes": Measure(1, 10)}, held) != []
    assert Measure(0, 0).share == 0


def test_the_message_is_one_line_with_the_remedy():
    measures = {
        "future": Measure(1234, 10_000, "data/0.parquet:7, data/0.parquet:9"),
        "null_code": Measure(0, 10_000),
        "duplicates": Measure(9000, 10_000),
    }
    assert message(hold(measures, Thresholds())) == (
        "gate future: 1,234 found, a share of 0.12 where 0.001 is borne, first at data/0.parquet:7, data/0.parquet:9; "
        "mend the records or raise future in --quality FILE; dates shifted for privacy need a later `now` there; "
        "neither hold duplicates"
    )
    only = message(hold({"duplicates": measures["duplicates"]}, Thresholds()))
    assert only == (
        "gate duplicates: 9,000 found, a share of 0.9 where 0.2 is borne; "
        "mend the records or raise duplicates in --quality FILE"
    )


def test_today_ends_at_its_last_microsecond():
    end = Thresholds(now="2020-02-29").end_of_now()
    assert datetime.fromtimestamp(end // 1_000_000, UTC).isoformat() == "2020-02-29T23:59:59+00:00"
    assert (end + 1) % 86_400_000_000 == 0
    before = datetime.now(UTC).timestamp() * 1e6
    assert before <= Thresholds().end_of_now() <= before + 2 * 86_400_000_000
    # MIMIC's dates are shifted by centuries; a stated day counts before that.
    assert Thresholds().end_of_now("mimic") > Thresholds(now="2299-01-01").end_of_now()
    assert Thresholds(now="2020-02-29").end_of_now("mimic") == end
