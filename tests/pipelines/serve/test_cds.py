"""CDS Hooks: a client's whole talk held against the specification, cards at thresholds, data that are missing."""

import copy
import json
from datetime import UTC, datetime

import jsonschema
import pytest

from pipelines import score as verb
from pipelines.serve import cds, shown
from pipelines.serve.alerts import Alert, load
from tests.pipelines.serve import hooks
from tests.pipelines.serve.bundles import bundle
from tests.pipelines.serve.clients import ask, clinic, close, told

NOW = datetime(2010, 1, 1, tzinfo=UTC)
PATH = "/cds-services/patient-view"


@pytest.fixture(scope="module")
def now(chain, tmp_path_factory):
    """Return what the verb says of one patient at the time of the test."""
    folder = tmp_path_factory.mktemp("now")
    (folder / "7.json").write_text(json.dumps(bundle(7)))
    verb.score(chain.release, folder / "7.json", folder / "p", at=NOW.date().isoformat(), workers=1)
    return {(outcome, days): probability for outcome, days, probability in told(folder / "p")["case-7"][1]}


@pytest.fixture(scope="module")
def made(chain, tmp_path_factory, now):
    """Return a server whose thresholds one patient reaches to the bit, and in one horizon by far."""
    assert now["failure", 365] < now["failure", 1095]
    held = {
        ("failure", 365): Alert(now["failure", 365] * 2),
        ("failure", 1095): Alert(now["failure", 1095], "warning"),
        ("kidney", 730): Alert(now["kidney", 730] / 3),
        ("never", 365): Alert(1e-9),
    }
    patch = pytest.MonkeyPatch()
    patch.setattr(cds, "utc_now", lambda: NOW)
    made = clinic(chain.release, tmp_path_factory.mktemp("cds") / "audit.jsonl", held)
    yield made
    close(made)
    patch.undo()


def sent(made, content, path=PATH):
    return ask(made.app, "POST", path, json=content)


def test_a_client_discovers_asks_and_answers(made):
    discovered = ask(made.app, "GET", "/cds-services").json()
    jsonschema.validate(discovered, hooks.DISCOVERY)
    assert [held["hook"] for held in discovered["services"]] == ["patient-view", "encounter-discharge"]
    for held in discovered["services"]:
        assert set(held["prefetch"]) == {"patient", *hooks.TYPES}
        content = hooks.call(bundle(7), held["hook"], encounterId="e1")
        jsonschema.validate(content, hooks.REQUEST)
        response = sent(made, content, f"/cds-services/{held['id']}")
        assert response.status_code == 200
        jsonschema.validate(response.json(), hooks.RESPONSE)
        cards = response.json()["cards"]
        for outcome in ("accepted", "overridden"):
            content = hooks.response(cards[0]["uuid"], outcome)
            jsonschema.validate(content, hooks.FEEDBACK)
            assert sent(made, content, f"/cds-services/{held['id']}/feedback").status_code == 200
    page = ask(made.app, "GET", "/metrics").text
    # Two calls, of which each showed two cards; the first one of each, of the kidney, was answered twice.
    assert 'anamnesis_cards_total{about="failure"} 2.0' in page
    for outcome in ("accepted", "overridden"):
        assert f'anamnesis_card_feedback_total{{about="kidney",outcome="{outcome}"}} 2.0' in page
    strange = hooks.response("01234567-89AB-cdef-0123-456789abcdef")
    assert sent(made, strange, f"{PATH}/feedback").status_code == 200
    page = ask(made.app, "GET", "/metrics").text
    assert 'anamnesis_card_feedback_total{about="unknown",outcome="accepted"} 1.0' in page


def test_the_oldest_cards_are_forgotten_first():
    held = shown.Shown(2)
    for card, outcome in (("A", "one"), ("b", "two"), ("c", "three")):
        held.add(card, outcome)
    assert [held.about(card) for card in "aBC"] == [shown.UNKNOWN, "two", "three"]


def test_cards_stand_where_thresholds_are_reached_and_nowhere_else(made, now):
    cards = sent(made, hooks.call(bundle(7))).json()["cards"]
    assert [card["summary"].split(":")[0] for card in cards] == [
        "Kidney within 730 days",
        "Failure within 1095 days",
    ]
    assert [card["indicator"] for card in cards] == ["info", "warning"]
    assert f"{now['kidney', 730]:.1%}" in cards[0]["summary"]
    assert f"| 365 | {now['failure', 365]:.1%} |  |" in cards[1]["detail"]
    assert f"| 1095 | {now['failure', 1095]:.1%} | {now['failure', 1095]:.1%} |" in cards[1]["detail"]
    assert "as of 2010-01-01 00:00 UTC" in cards[1]["detail"]
    assert len({card["uuid"] for card in cards}) == 2


def test_without_thresholds_there_are_no_cards(chain, made):
    kept, made.service.alerts = made.service.alerts, {}
    try:
        assert sent(made, hooks.call(bundle(7))).json() == {"cards": []}
    finally:
        made.service.alerts = kept
    last = json.loads(made.service.audit.path.read_text().splitlines()[-1])
    assert last["patient"] == made.service.audit.hashed("case-7")
    assert len(last["probability"][0]) == 4


def test_nobody_to_be_estimated_gets_no_cards(made):
    empty = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": "new"}}]}
    empty["entry"][0]["resource"]["birthDate"] = "1960-01-01"
    response = sent(made, hooks.call(empty))
    assert (response.status_code, response.json()) == (200, {"cards": []})


def change(path, value):
    """Return a change of a request at a path of keys; a value of KeyError takes it out."""

    def apply(content):
        *above, last = path
        for key in above:
            content = content[key]
        if value is KeyError:
            del content[last]
        else:
            content[last] = value

    return apply


FAILED = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
PAGED = {"resourceType": "Bundle", "link": [{"relation": "next", "url": "zzplanted"}], "entry": []}
PART = {"resourceType": "Bundle", "entry": [{"resource": FAILED, "search": {"mode": "outcome"}}]}
CHANGES = {
    "no prefetch": (change(["prefetch"], KeyError), 412, "no prefetch of patient, encounters"),
    "a key is missing": (change(["prefetch", "conditions"], KeyError), 412, "no prefetch of conditions"),
    "a fetch failed": (change(["prefetch", "conditions"], FAILED), 412, "prefetch conditions: the record's server"),
    "a fetch failed in part": (change(["prefetch", "plans"], PART), 412, "prefetch plans: the record's server"),
    "one page of several": (change(["prefetch", "plans"], PAGED), 412, "prefetch plans: the first page alone"),
    "no patient": (change(["prefetch", "patient"], None), 412, "prefetch patient: no Patient"),
    "another patient": (change(["context", "patientId"], "zzplanted"), 400, "prefetch patient: another one"),
    "another's record": (
        change(["prefetch", "conditions", "entry", 0, "resource", "subject", "reference"], "Patient/zzplanted"),
        422,
        "records of 2 patients",
    ),
    "no resource": (change(["prefetch", "plans"], ["zzplanted"]), 400, "prefetch plans: no FHIR resource"),
    "an empty entry": (
        change(["prefetch", "plans"], {"resourceType": "Bundle", "entry": ["zzplanted"]}),
        400,
        "prefetch plans: an entry without a resource",
    ),
    "another hook": (change(["hook"], "zzplanted"), 400, "hook is not patient-view"),
    "no instance": (change(["hookInstance"], "zzplanted"), 400, "hookInstance is no UUID"),
    "no user": (change(["context", "userId"], KeyError), 400, "context.userId is no text"),
    "no context": (change(["context"], "zzplanted"), 400, "context.userId is no text"),
}


@pytest.mark.parametrize(("edit", "status", "message"), CHANGES.values(), ids=CHANGES)
def test_what_is_missing_or_malformed_is_told_apart(made, edit, status, message):
    content = copy.deepcopy(hooks.call(bundle(7)))
    edit(content)
    response = sent(made, content)
    assert (response.status_code, response.json()["error"][: len(message)]) == (status, message)
    assert "zzplanted" not in response.text


def test_hints_of_the_records_server_are_no_failure(made):
    content = hooks.call(bundle(7))
    hint = {**FAILED, "issue": [{"severity": "warning", "code": "informational"}]}
    content["prefetch"]["conditions"]["entry"].append({"resource": hint, "search": {"mode": "outcome"}})
    assert len(sent(made, content).json()["cards"]) == 2


def test_services_and_feedback_that_are_none(made):
    assert sent(made, hooks.call(bundle(7)), "/cds-services/zzplanted").status_code == 404
    right = hooks.response("01234567-89ab-cdef-0123-456789abcdef")
    for key, value in (("card", "zzplanted"), ("outcome", "zzplanted"), ("outcomeTimestamp", "zzplanted")):
        wrong = {"feedback": [{**right["feedback"][0], key: value}]}
        response = sent(made, wrong, f"{PATH}/feedback")
        assert (response.status_code, "zzplanted" in response.text) == (400, False)
    for wrong in ({}, [], {"feedback": []}, {"feedback": right["feedback"] * 101}):
        assert sent(made, wrong, f"{PATH}/feedback").status_code == 400
    assert sent(made, right, "/cds-services/other/feedback").status_code == 404


def test_thresholds_are_read_with_plain_errors(made, tmp_path):
    path, registry = tmp_path / "thresholds.yaml", made.service.release.registry
    path.write_text("failure:\n  365: 0.2\n  1095: {threshold: 0.5, indicator: warning}\n")
    assert dict(load(path, registry)) == {("failure", 365): Alert(0.2), ("failure", 1095): Alert(0.5, "warning")}
    wrong = {
        "": "no outcomes",
        "failure: 0.2": "failure has no horizons",
        "stroke: {365: 0.2}": "unknown outcome stroke; the release has failure, kidney, never",
        "failure: {30: 0.2}": "failure has no horizon 30; the release has 365, 1095 days",
        "failure: {365: 2}": "failure.365 is 2; expected a probability",
        "failure: {365: yes}": "failure.365 is True",
        "failure: {365: {threshold: 0.1, indicator: critical}}": "indicator critical; expected info or warning",
        "failure: {365: {above: 0.1}}": "unknown key above",
        "failure: {365: 0.1, 365: 0.2}": "stands there twice",
    }
    for text, message in wrong.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message.replace(".", r"\.")):
            load(path, registry)
