"""POST /score: the numbers of `anamnesis score` to the last bit, gates, refusals, and nothing of a patient in words."""

import gzip
import json
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.riskassessment import RiskAssessment
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.quality.profile import measures
from ehr.sources.detect import open_source
from pipelines import score as verb
from pipelines import scoring, shards
from pipelines.moments import LATEST, Moments
from pipelines.serve import question, records
from pipelines.serve.refusals import Refusal
from tests.chain import write_records
from tests.pipelines import cohorts
from tests.pipelines.serve.bundles import bundle, rows
from tests.pipelines.serve.clients import answered, ask, clinic, close, told

PATIENTS = (1, 7, 77, 150)
LAST = Moments(LATEST)
FHIR = {"Accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def made(chain, tmp_path_factory):
    held = clinic(chain.release, tmp_path_factory.mktemp("clinic") / "audit.jsonl")
    yield held
    close(held)


@pytest.fixture(scope="module")
def scored(chain, tmp_path_factory):
    """Return what the verb gives for bundles in files, at the last event and at a time."""
    folder = tmp_path_factory.mktemp("verb")
    (folder / "bundles").mkdir()
    for subject in PATIENTS:
        (folder / "bundles" / f"{subject}.json").write_text(json.dumps(bundle(subject), indent=1))
    verb.score(chain.release, folder / "bundles", folder / "latest", workers=1)
    verb.score(chain.release, folder / "bundles", folder / "then", at="2001-06-30", workers=1)
    return told(folder / "latest"), told(folder / "then")


def test_a_bundle_gets_the_numbers_of_the_verb_to_the_bit(made, scored):
    latest, then = scored
    assert len(latest) == len(PATIENTS)
    assert then
    for subject in PATIENTS:
        response = ask(made.app, "POST", "/score", json=bundle(subject))
        assert response.status_code == 200
        assert answered(response) == latest[f"case-{subject}"]
        response = ask(made.app, "POST", "/score?at=2001-06-30", json=bundle(subject))
        if f"case-{subject}" in then:
            assert answered(response) == then[f"case-{subject}"]
        else:
            assert response.status_code == 422


def test_meds_rows_get_the_numbers_of_the_verb_to_the_bit_in_any_order(made, chain, tmp_path):
    frame = cohorts.events(200).filter(pl.col("subject_id").is_in(PATIENTS))
    verb.score(chain.release, write_records(frame, tmp_path / "records", files=1), tmp_path / "p", workers=1)
    expected = told(tmp_path / "p")
    for subject in PATIENTS:
        held = rows(subject)
        assert answered(ask(made.app, "POST", "/score", json=held)) == expected[str(subject)]
    shuffled = {"events": sorted(held["events"], key=lambda row: row["time"] or "", reverse=True)}
    response = ask(made.app, "POST", "/score", json=shuffled)
    assert response.json()["codes"]["read"] == len([r for r in held["events"] if r["code"] != "MEDS_BIRTH"])
    assert response.status_code == 200


def test_later_events_change_nothing_at_a_time(made):
    known = rows(77)
    moment = sorted(row["time"] for row in known["events"] if row["time"])[len(known["events"]) // 2]
    earlier = {"events": [row for row in known["events"] if row["time"] is None or row["time"] <= moment]}
    path = f"/score?at={moment}"
    whole, cut = (ask(made.app, "POST", path, json=held) for held in (known, earlier))
    assert whole.status_code == 200
    assert {**whole.json(), "codes": None} == {**cut.json(), "codes": None}


def test_a_risk_assessment_is_one_of_fhir(made):
    plain = ask(made.app, "POST", "/score", json=bundle(7)).json()
    response = ask(made.app, "POST", "/score", json=bundle(7), headers=FHIR)
    assert response.headers["content-type"] == "application/fhir+json"
    held = response.json()
    valid = RiskAssessment.model_validate(held)
    assert valid.subject.reference == "Patient/case-7"
    assert valid.status == "final"
    assert valid.method.coding[0].code == f"urn:sha256:{plain['model']}"
    moment = datetime.fromisoformat(plain["prediction_time"])
    assert valid.occurrenceDateTime == moment
    learnt = [p for p in plain["predictions"] if p["outcome"] not in plain["not_learnt"]]
    assert plain["not_learnt"] == ["never"]
    found = [(p["outcome"]["text"], p["probabilityDecimal"]) for p in held["prediction"]]
    assert found == [(p["outcome"], p["probability"]) for p in learnt]
    periods = [(p.whenPeriod.start, (p.whenPeriod.end - p.whenPeriod.start).days) for p in valid.prediction]
    assert periods == [(moment, p["horizon_days"]) for p in learnt]


def test_a_refusal_is_an_operation_outcome_where_fhir_is_asked_for(made):
    response = ask(made.app, "POST", "/score", json={"resourceType": "Patient"}, headers=FHIR)
    assert response.status_code == 400
    issue = OperationOutcome.model_validate(response.json()).issue[0]
    assert (issue.severity, issue.code) == ("error", "invalid")
    assert issue.diagnostics.startswith("a FHIR resource that is no Bundle")


def test_too_many_unknown_codes_are_refused(made):
    held = rows(7)
    for at, row in enumerate(held["events"]):
        if row["code"].startswith("ICD10CM"):
            row["code"] = f"ZZPLANTED//{at}"
    more = [{"subject_id": 7, "time": "2003-01-01", "code": f"ZZPLANTED//{at}"} for at in range(9)]
    response = ask(made.app, "POST", "/score", json={"events": held["events"] + more})
    assert response.status_code == 422
    assert response.json()["error"].startswith("gate unknown_codes: ")
    assert "ZZPLANTED" not in response.text
    page = ask(made.app, "GET", "/metrics").text
    assert float(next(line for line in page.splitlines() if 'known="false"' in line).split()[-1]) >= 9


@pytest.mark.data
def test_real_bundles_ask_what_the_verb_asks_of_their_files(made, shared_data, tmp_path):
    release = made.service.release
    files = sorted(shared_data("fhir_bundles_r4").glob("*.json.gz"))
    assert files
    for file in files[:3]:
        asked = question.ask(records.read(records.content_of(gzip.decompress(file.read_bytes()))), LAST, release)
        source = open_source(file)
        (shard,) = shards.divide(source, tmp_path / file.name)
        raw = scoring.numbered(shard, shards.load(shard))
        now = release.thresholds.end_of_now("fhir")
        held = scoring.gather(raw, LAST, release, release.thresholds, name="file", now=now)
        assert asked.codes > 50
        assert (asked.codes, asked.unknown) == release.vocabulary.count_unknown(held.sifted.events["code"])[:2]
        assert asked.found["implausible"][:2] == measures(held.sifted.profile)["implausible"][:2]
        assert (asked.sample is None, asked.reason) == (
            not held.samples,
            held.unscored[0][2] if held.unscored else None,
        )
        for sample in held.samples:
            assert all(np.array_equal(a, b) for a, b in zip(asked.sample, sample, strict=True))


EVENT = {"subject_id": 1, "time": "2000-01-01", "code": "ICD10CM//I10"}
BAD = {
    "[]": (400, "the JSON is no object"),
    '{"resourceType":"Patient","id":"zzplanted"}': (400, "a FHIR resource that is no Bundle"),
    '{"zzplanted":1}': (400, "neither resourceType nor events"),
    '{"resourceType":"Bundle"}': (422, "the records name no patient"),
    '{"events":{}}': (400, "events is no list"),
    '{"events":[]}': (422, "the records name no patient"),
    '{"events":["zzplanted"]}': (400, "events, row 1: no object"),
    '{"events":[{"subject_id":1,"time":null}]}': (400, "events, row 1: no code"),
    json.dumps({"events": [EVENT, {**EVENT, "zzplanted": 1}]}): (400, "events, row 2: a column that is none of"),
    json.dumps({"events": [{**EVENT, "subject_id": True}]}): (400, "events, row 1: subject_id is no whole number"),
    json.dumps({"events": [{**EVENT, "subject_id": 2**63}]}): (400, "events, row 1: subject_id is no whole number"),
    json.dumps({"events": [{**EVENT, "time": "zzplanted"}]}): (400, "events, row 1: time is no date"),
    json.dumps({"events": [{**EVENT, "time": 5}]}): (400, "events, row 1: time is no date"),
    json.dumps({"events": [{**EVENT, "code": 5}]}): (400, "events, row 1: code is no text"),
    json.dumps({"events": [{**EVENT, "numeric_value": "zzplanted"}]}): (400, "events, row 1: numeric_value is no"),
    json.dumps({"events": [EVENT, {**EVENT, "subject_id": 2}]}): (422, "records of 2 patients"),
    json.dumps({"events": [{**EVENT, "subject_id": -1}]}): (422, "not scored: no row of the patient can be used"),
    json.dumps({"events": [{**EVENT, "code": None}]}): (422, "not scored: no row of the patient can be used"),
    json.dumps({"events": [{**EVENT, "code": "ZZPLANTED//1"}]}): (422, "not scored: no code that the model knows"),
    json.dumps({"events": [EVENT, {**EVENT, "code": "MEDS_DEATH"}]}): (422, "not scored: dead at the prediction time"),
    json.dumps({"events": [{**EVENT, "code": "MEDS_BIRTH"}]}): (422, "not scored: no event at or before"),
    json.dumps({"events": [{**EVENT, "time": "2101-01-01"}] * 9}): (422, "gate future: 9 found"),
    "[" * 5000: (400, "the JSON is nested too deeply"),
    "{": (400, "the body is not JSON"),
    "": (400, "the body is not JSON"),
}


@pytest.mark.parametrize(("body", "expected"), BAD.items(), ids=[str(at) for at in range(len(BAD))])
def test_what_cannot_be_scored_is_refused_in_one_line(made, body, expected):
    response = ask(made.app, "POST", "/score", content=body)
    status, message = expected
    assert (response.status_code, response.json()["error"][: len(message)]) == (status, message)
    assert "zzplanted" not in response.text.lower()


def test_encodings_methods_and_times(made):
    body = json.dumps(rows(7))
    assert ask(made.app, "POST", "/score", content=body.encode("utf-16")).status_code == 400
    assert ask(made.app, "POST", "/score", content=b"\xff" + body.encode()).status_code == 400
    assert ask(made.app, "GET", "/score").status_code == 405
    for time in ("zzplanted", "9999-12-31", "2001-02-30", "1e9"):
        response = ask(made.app, "POST", f"/score?at={time}", content=body)
        assert (response.status_code, "zzplanted" in response.text) == (400, False)
    assert ask(made.app, "POST", "/score?at=0001-01-01", content=body).status_code == 422
    # Half a character, which JSON can spell.
    planted = body.replace("ICD10CM//I10", "\\ud800")
    assert ask(made.app, "POST", "/score", content=planted).status_code in {200, 422}


def test_the_audit_knows_a_patient_by_a_keyed_hash_alone(made):
    ask(made.app, "POST", "/score", json=bundle(7, name="zzplanted-7"))
    lines = made.service.audit.path.read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["patient"] == made.service.audit.hashed("zzplanted-7")
    assert (last["protocol"], last["status"], len(last["probability"][0])) == ("records", 200, 4)
    text = "\n".join(lines)
    assert not [word for word in ("zzplanted", "case-", "ICD10CM", "LOINC", "I10") if word in text]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS | st.sampled_from(["Patient", "Bundle", "Condition", "2000-01-01", "Patient/a", "ICD10CM//I10"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [*EVENT, "resourceType", "id", "subject", "code", "coding", "onsetDateTime", "period", "start"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


RESOURCES = st.fixed_dictionaries({"resource": JSON})
BODIES = st.fixed_dictionaries({"events": st.lists(JSON, max_size=3)}) | st.fixed_dictionaries(
    {"resourceType": st.just("Bundle"), "entry": st.lists(JSON | RESOURCES, max_size=4)}
)


@settings(max_examples=60)
@given(content=BODIES)
def test_any_json_is_read_or_refused(made, content):
    body = json.dumps(content).encode()
    try:
        asked = question.ask(records.read(records.content_of(body)), LAST, made.service.release)
    except Refusal as refusal:
        refused = refusal
    else:
        assert (asked.sample is None) == (asked.reason is not None)
        return
    assert refused.status in {400, 422}
    assert "\n" not in refused.message
