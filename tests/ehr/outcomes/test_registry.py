"""The registry: every key read, every mistake answered in one line that names the key."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ehr.outcomes import registry as r
from ehr.outcomes.registry import Index, Outcome, Registry
from tests.docs import ROOT

EVERYTHING = """outcomes:
  cancer:
    event: {any_of: [ICD10CM//C25*, ICD9CM//157*]}
    index:
      at: visit_end
      every: first_per_year
      visit_type: IP
      since: 2015-01-01
      until: '2020-01-01'
      min_history_days: 365
      min_age: 18
      max_age: 90.5
      alive: false
    gap_days: 30
    horizons_days: [365, 1095]
    incident_only: false
    exclude: [ICD10CM//Z51.5]
    competing: null
    censor: 2024-12-31
  plain:
    event: {any_of: [A//1]}
"""


def read(tmp_path, text):
    path = tmp_path / "outcomes.yaml"
    path.write_text(text, encoding="utf-8")
    return r.load(path)


def test_every_key_is_read(tmp_path):
    cancer, plain = read(tmp_path, EVERYTHING).outcomes
    assert cancer == Outcome(
        name="cancer",
        any_of=("ICD10CM//C25*", "ICD9CM//157*"),
        index=Index(
            at="visit_end",
            every="first_per_year",
            visit_type="IP",
            since="2015-01-01",
            until="2020-01-01",
            min_history_days=365,
            min_age=18,
            max_age=90.5,
            alive=False,
        ),
        gap_days=30,
        horizons_days=(365, 1095),
        incident_only=False,
        exclude=("ICD10CM//Z51.5",),
        competing=None,
        censor="2024-12-31",
    )
    assert plain == Outcome(name="plain", any_of=("A//1",))


def test_defaults_are_those_that_the_docs_state():
    plain = Outcome(name="x", any_of=("A",))
    assert (plain.gap_days, plain.horizons_days, plain.incident_only, plain.exclude) == (0, (365,), True, ())
    assert (plain.competing, plain.censor) == ("MEDS_DEATH", "last_event")
    assert (plain.index.at, plain.index.every, plain.index.visit_type) == ("visit_end", "all", "*")
    assert (plain.index.min_history_days, plain.index.alive) == (0, True)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "x: expected keys and values"),
        ("{gap_days: 3}", "x.event.any_of is None; expected a list of code patterns"),
        ("{event: {any_of: []}}", "x.event.any_of: expected a list of code patterns"),
        ("{event: {any_of: A//1}}", "x.event.any_of is A//1; expected a list of code patterns"),
        ("{event: {any_of: [157]}}", "x.event.any_of is .*; expected a list of code patterns"),
        ("{event: {all_of: [A]}}", "x.event: unknown key all_of; expected one of any_of"),
        ("{events: {any_of: [A]}}", "x: unknown key events; expected one of censor, competing, event"),
        ("{event: {any_of: [A]}, name: y}", "x: unknown key name"),
        ("{event: {any_of: [A]}, horizons_days: 365}", "x.horizons_days is 365; expected a list of whole days"),
        ("{event: {any_of: [A]}, horizons_days: [30.5]}", "x.horizons_days is .*; expected a list of whole days"),
        ("{event: {any_of: [A]}, horizons_days: [true]}", "x.horizons_days is .*; expected a list of whole days"),
        (
            "{event: {any_of: [A]}, horizons_days: []}",
            "x.horizons_days is .*; expected ascending days from 1 to 36,525",
        ),
        (
            "{event: {any_of: [A]}, horizons_days: [365, 30]}",
            "x.horizons_days .*; expected ascending days from 1 to 36,525",
        ),
        (
            "{event: {any_of: [A]}, horizons_days: [30, 30]}",
            "x.horizons_days .*; expected ascending days from 1 to 36,525",
        ),
        ("{event: {any_of: [A]}, horizons_days: [0]}", "x.horizons_days .*; expected ascending days from 1 to 36,525"),
        ("{event: {any_of: [A]}, gap_days: -1}", "x.gap_days is -1; expected 0 to 36,525"),
        ("{event: {any_of: [A]}, gap_days: soon}", "x.gap_days is soon; expected a number"),
        ("{event: {any_of: [A]}, gap_days: null}", "x.gap_days is None; expected a number"),
        ("{event: {any_of: [A]}, gap_days: .nan}", "x.gap_days is nan; expected 0 to 36,525"),
        ("{event: {any_of: [A]}, incident_only: 1}", "x.incident_only is 1; expected true or false"),
        ("{event: {any_of: [A]}, exclude: A}", "x.exclude is A; expected a list of code patterns"),
        ("{event: {any_of: [A]}, competing: 3}", "x.competing is 3; expected a word, a date or a code pattern"),
        ("{event: {any_of: [A]}, censor: last}", "x.censor is last; expected last_event, never, a date"),
        ("{event: {any_of: [A]}, censor: '2024-13-01'}", "x.censor is 2024-13-01; expected a date such as"),
        ("{event: {any_of: [A]}, index: visit_end}", "x.index: expected keys and values"),
        ("{event: {any_of: [A]}, index: {when: now}}", "x.index: unknown key when; expected one of alive, at"),
        ("{event: {any_of: [A]}, index: {at: visit}}", "x.index.at is visit; expected visit_start, visit_end"),
        ("{event: {any_of: [A]}, index: {at: 2020}}", "x.index.at is 2020; expected a word, a date"),
        ("{event: {any_of: [A]}, censor: 2024-13-01}", r"not YAML \(month must be in 1..12.*\); expected outcomes"),
        ("{event: {any_of: [A]}, horizons_days: [1000000000]}", "x.horizons_days .*; expected ascending days from 1"),
        ("{event: {any_of: [A]}, index: {at: 2020-02-30x}}", "x.index.at is 2020-02-30x; expected a date such as"),
        ("{event: {any_of: [A]}, index: {at: '2020-01-01T00:00:00+02:00'}}", "x.index.at is 2020-.*; expected a date"),
        ("{event: {any_of: [A]}, index: {since: 1.1.2020}}", "x.index.since is 1.1.2020; expected a date such as"),
        (
            "{event: {any_of: [A]}, index: {every: second}}",
            "x.index.every is second; expected one of all, first, latest",
        ),
        ("{event: {any_of: [A]}, index: {alive: 'yes'}}", "x.index.alive is yes; expected true or false"),
        ("{event: {any_of: [A]}, index: {min_age: old}}", "x.index.min_age is old; expected a number"),
        ("{event: {any_of: [A]}, index: {min_history_days: null}}", "x.index.min_history_days is None; expected a num"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, f"outcomes:\n  x: {entry}\n")
    assert "\n" not in str(error.value)
    assert "outcomes.yaml" in str(error.value)


@pytest.mark.parametrize("name", ["Cancer", "1st", "a b", "a-b", "x" * 65])
def test_names_are_those_that_files_and_axes_bear(tmp_path, name):
    with pytest.raises(ValueError, match="expected lower-case letters, digits and underscores"):
        read(tmp_path, f"outcomes:\n  {name}:\n    event: {{any_of: [A]}}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one key `outcomes`"),
        ("outcomes:", "expected one key `outcomes`"),
        ("outcomes: {}\n", "expected one key `outcomes`"),
        ("- a\n", "expected one key `outcomes`"),
        ("outcomes: {x: {event: {any_of: [A]}}}\nmore: 1\n", "expected one key `outcomes`"),
        ("outcomes:\n  x: [\n", "not YAML in line 3"),
        ("outcomes: \x00", "not YAML"),
        (
            "outcomes:\n  x: {event: {any_of: [A]}}\n  x: {event: {any_of: [B]}}\n",
            r"in line 3 \(key x stands there twice\)",
        ),
    ],
)
def test_files_that_hold_no_outcomes_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
    with pytest.raises(ValueError, match=r"none\.yaml: no such file; expected outcomes in YAML"):
        r.load(tmp_path / "none.yaml")


def test_codes_that_begin_with_digits_are_no_dates():
    point = Outcome(name="x", any_of=("A",), index=Index(at="1234//START"), censor="5678-9//END")
    assert not r.is_date(point.index.at)
    assert not r.is_date(point.censor)
    assert r.is_date("2024-02-29")


def test_codes_without_a_system_are_in_capitals():
    assert Index(at="ICU_ADMISSION").at == "ICU_ADMISSION"
    assert Outcome(name="x", any_of=("A",), censor="DISCHARGE*").censor == "DISCHARGE*"
    assert not any(map(r.is_code, ["visit", "Visit_end", "2020", "1.1.2020", ""]))


WORDS = st.sampled_from(["A//1", "VISIT//IP//START", "ICD10CM//C25*", "MEDS_DEATH", "B//ü ß", "C//: #"])
DATES = st.dates().filter(lambda day: day.year >= 1000).map(str)
NUMBERS = st.one_of(st.integers(0, 4000), st.floats(0, 4000))
INDEXES = st.builds(
    Index,
    at=st.one_of(st.sampled_from(r.INDEX_POINTS), DATES, WORDS),
    every=st.sampled_from(r.EVERY),
    visit_type=st.sampled_from(["*", "IP"]),
    since=st.none() | DATES,
    until=st.none() | DATES,
    min_history_days=NUMBERS,
    min_age=st.none() | NUMBERS,
    max_age=st.none() | NUMBERS,
    alive=st.booleans(),
)
OUTCOMES = st.builds(
    Outcome,
    name=st.from_regex(r.NAME, fullmatch=True),
    any_of=st.lists(WORDS, min_size=1, unique=True).map(tuple),
    index=INDEXES,
    gap_days=NUMBERS,
    horizons_days=st.sets(st.integers(1, 9999), min_size=1, max_size=4).map(sorted).map(tuple),
    incident_only=st.booleans(),
    exclude=st.lists(WORDS, unique=True).map(tuple),
    competing=st.none() | WORDS,
    censor=st.one_of(st.sampled_from(r.CENSORS), DATES, WORDS),
)


@given(st.lists(OUTCOMES, min_size=1, max_size=3, unique_by=lambda outcome: outcome.name))
def test_a_registry_comes_back_from_its_yaml(tmp_path_factory, outcomes):
    held = Registry(tuple(outcomes))
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(r.dump(held), encoding="utf-8")
    assert r.load(path) == held
    assert r.dump(r.load(path)) == r.dump(held)


def test_horizons_are_padded_to_one_width():
    held = Registry(
        (
            Outcome(name="a", any_of=("A",), horizons_days=(30, 365, 1095)),
            Outcome(name="b", any_of=("B",), horizons_days=(90,)),
        )
    )
    assert held.names == ("a", "b")
    assert held.horizons.tolist() == [[30, 365, 1095], [90, -1, -1]]
    assert Registry(()).horizons.shape == (0, 0)


def test_dates_are_midnights_without_zone():
    assert r.microseconds("1970-01-02", "x") == 86_400_000_000
    assert r.microseconds("1969-12-31", "x") == -86_400_000_000
    assert r.microseconds("1970-01-01T00:01", "x") == 60_000_000


@pytest.mark.parametrize("path", [ROOT / "configs/demo/outcomes.yaml", *(ROOT / "configs/outcomes").glob("*.yaml")])
def test_shipped_outcomes_are_read(path):
    held = r.load(path)
    assert list(held.names) == list(yaml.safe_load(path.read_text(encoding="utf-8"))["outcomes"])
