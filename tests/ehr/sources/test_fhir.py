"""FHIR: hand-made exports against the events written down for them, spoiled ones, and the shared sets counted anew."""

import gzip
import json
import random
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehr.events import EVENTS, order
from ehr.sources import fhir
from ehr.sources.detect import detect, open_source
from ehr.sources.fhir import codings, files, times
from ehr.sources.fhir.links import Links
from ehr.sources.parts import subject_of
from pipelines import shards

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
SETS = ("fhir_bulk", "fhir_bundles/r4", "fhir_bundles/stu3")
NOTHING = Links(resources=lambda _: ())


def expected(folder):
    text = pl.read_csv(folder / "expected.csv", infer_schema=False)
    events = text.select(
        subject_of(text["patient"]),
        pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us"),
        "code",
        pl.col("numeric_value").cast(pl.Float32),
        "text_value",
    )
    return order(events.lazy()).collect()


@pytest.fixture
def export(tmp_path):
    """Return a copy of the hand-made bulk export, to be changed."""
    folder = tmp_path / "export"
    shutil.copytree(FIXTURES / "fhir_bulk", folder, ignore=shutil.ignore_patterns("*.csv"))
    return folder


def write(file, *lines):
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")


@pytest.mark.parametrize("name", SETS)
def test_hand_made_sets_give_the_events_written_down(name):
    folder = FIXTURES / name
    assert_frame_equal(order(fhir.scan(folder)).collect(), expected(folder))
    source = open_source(folder)
    assert detect(folder) == "fhir"
    assert (source.format, source.version) == ("fhir", "STU3" if "stu3" in name else "R4")
    own = pl.read_csv(folder / "expected.csv", infer_schema=False)["patient"].unique().to_list()
    assert source.patients is not None
    assert sorted(source.patients.collect()["patient"]) == sorted(own)
    assert dict(source.patients.collect().select("patient", "subject_id").iter_rows()) == dict(
        zip(own, subject_of(pl.Series(own)), strict=True)
    )


@pytest.mark.parametrize("file", sorted((FIXTURES / "fhir_bundles").glob("*/*.json")), ids=lambda file: file.stem)
def test_a_bundle_at_hand_says_the_same_as_its_file(file):
    found = fhir.of_bundle(files.parse(file.read_bytes()))
    source = fhir.open(file)
    whole = pl.concat([part.events for part in source.parts]).collect()
    assert len(whole)
    # A file of one line counts lines, a bundle its entries.
    assert_frame_equal(found.drop("patient", "row"), whole.drop("row"))
    assert source.patients is not None
    told = found.select("subject_id", "patient").drop_nulls().unique(maintain_order=True)
    assert_frame_equal(told, source.patients.collect())
    assert fhir.of_bundle({"resourceType": "Bundle"}).schema == fhir.SCHEMA


@pytest.mark.parametrize("name", SETS)
def test_packed_files_say_the_same(name, tmp_path):
    for file in (FIXTURES / name).glob("*json"):
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert_frame_equal(order(fhir.scan(tmp_path)).collect(), expected(FIXTURES / name))


def test_one_file_of_all_types_says_the_same(export, tmp_path):
    lines = [line for file in sorted(export.iterdir()) for line in file.read_text("utf-8").splitlines()]
    random.Random(3).shuffle(lines)
    write(tmp_path / "all.ndjson", *lines)
    names = EVENTS.names()
    want = expected(FIXTURES / "fhir_bulk").sort(names)
    assert_frame_equal(fhir.scan(tmp_path / "all.ndjson").collect().sort(names), want)
    assert len(fhir.open(tmp_path / "all.ndjson").patients.collect()) == 3


def test_the_order_of_lines_does_not_matter(export):
    for seed, file in enumerate(sorted(export.iterdir())):
        lines = file.read_text("utf-8").splitlines()
        random.Random(seed).shuffle(lines)
        write(file, *lines)
    names = EVENTS.names()
    assert_frame_equal(fhir.scan(export).collect().sort(names), expected(FIXTURES / "fhir_bulk").sort(names))


def test_bundles_may_stand_one_a_line(tmp_path):
    bundles = [json.loads(file.read_text("utf-8")) for file in sorted((FIXTURES / "fhir_bundles/r4").glob("*.json"))]
    write(tmp_path / "bundles.ndjson", *bundles)
    assert_frame_equal(order(fhir.scan(tmp_path)).collect(), expected(FIXTURES / "fhir_bundles/r4"))


def test_a_visit_begins_before_what_happened_in_it_wherever_the_bundle_puts_it(tmp_path):
    bundle = json.loads((FIXTURES / "fhir_bundles/r4/dee.json").read_text("utf-8"))
    at = "2014-09-09T08:00:00Z"
    next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "Condition")["resource"]["onsetDateTime"] = at
    bundle["entry"].reverse()
    write(tmp_path / "dee.json", bundle)
    events = order(fhir.scan(tmp_path)).collect()
    same = events.filter(pl.col("time") == datetime(2014, 9, 9, 8))["code"].to_list()
    assert same == ["VISIT//AMBULATORY//START", "SNOMED//185349003", "SNOMED//44054006"]


def test_shards_name_the_file_and_line_of_each_event(export, tmp_path):
    write(
        export / "Procedure.ndjson",
        '{"resourceType":"Procedure"',
        *(export / "Procedure.ndjson").read_text("utf-8").splitlines(),
    )
    source = fhir.open(export)
    loaded = pl.concat([shards.load(shard) for shard in shards.divide(source, tmp_path / "spread")])
    broken = loaded.filter(pl.col("reject").is_not_null())
    assert broken.select("file", "row", "reject").rows() == [("Procedure.ndjson", 1, "the line is not JSON")]
    kept = loaded.filter(pl.col("reject").is_null()).select(EVENTS.names())
    assert_frame_equal(order(kept.lazy()).collect(), expected(FIXTURES / "fhir_bulk"))


ABOUT = {"subject": {"reference": "Patient/ada"}}
CODE = {"code": {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}}
WHEN = {"effectiveDateTime": "2010-01-01"}
SPOILED = [
    ('{"resourceType": "Observation", ', "the line is not JSON"),
    ('"Observation"', "no resourceType"),
    ({"id": "x"}, "no resourceType"),
    ({"resourceType": "Observation", **CODE, **WHEN}, "no reference to a Patient"),
    ({"resourceType": "Observation", "subject": {"reference": "Group/1"}, **CODE, **WHEN}, "no reference to a Patient"),
    (
        {"resourceType": "Observation", "subject": {"reference": "Patient?identifier=a|b"}, **CODE, **WHEN},
        "no reference to a Patient",
    ),
    ({"resourceType": "Observation", **ABOUT, **WHEN}, "Observation.code has no code"),
    (
        {"resourceType": "Observation", **ABOUT, **CODE},
        "none of effectiveDateTime, effectivePeriod, effectiveInstant, issued",
    ),
    (
        {"resourceType": "Observation", **ABOUT, **CODE, "effectiveDateTime": "2010-02-30"},
        "effectiveDateTime is no date",
    ),
    (
        {"resourceType": "Observation", **ABOUT, **CODE, **WHEN, "valueQuantity": {"value": "high"}},
        "the value is no number",
    ),
    ({"resourceType": "Condition", **ABOUT, "recordedDate": "2010"}, "Condition.code has no code"),
    ({"resourceType": "MedicationRequest", **ABOUT, "authoredOn": "2010"}, "MedicationRequest.medication has no code"),
    ({"resourceType": "Encounter", **ABOUT}, "no period.start"),
    ({"resourceType": "Encounter", **ABOUT, "period": {"start": "soon"}}, "period.start is no date"),
    ({"resourceType": "Encounter", **ABOUT, "period": {"start": "2010", "end": "late"}}, "period.end is no date"),
    (
        {"resourceType": "Encounter", **ABOUT, "period": {"start": "2010-05-02", "end": "2010-05-01"}},
        "period.end is before period.start",
    ),
    ({"resourceType": "Patient", "id": "x", "birthDate": "1950-13-01"}, "birthDate is no date"),
    ({"resourceType": "Patient", "id": "x", "deceasedDateTime": "?"}, "deceasedDateTime is no date"),
    ({"resourceType": "Patient", "birthDate": "1950"}, "no id"),
]


@pytest.mark.parametrize(("line", "reason"), SPOILED, ids=lambda value: value[:40] if isinstance(value, str) else None)
def test_resources_that_cannot_be_used_are_told_with_their_line(export, line, reason):
    with (export / "Observation.ndjson").open("a", encoding="utf-8") as file:
        file.write("\n" + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    frame = pl.concat([part.events.collect() for part in fhir.open(export).parts])
    rejected = frame.filter(pl.col("reject").is_not_null())
    # A blank line counts as a line.
    assert rejected.select("row", "reject").rows() == [(7, reason)]
    assert rejected["code"].null_count() == 0
    assert len(frame) == len(expected(FIXTURES / "fhir_bulk")) + 1


def test_bytes_that_are_no_utf8_spoil_their_line_alone(export):
    with (export / "Procedure.ndjson").open("ab") as file:
        file.write(b'{"resourceType":"Procedure","status":"\xe9"}\n')
    frame = pl.concat([part.events.collect() for part in fhir.open(export).parts])
    assert frame["reject"].drop_nulls().to_list() == ["the line is not JSON"]


def test_what_json_can_spell_and_a_table_cannot_hold_is_taken_in(tmp_path):
    odd = {"resourceType": "Observation", **ABOUT, **CODE, **WHEN}
    write(
        tmp_path / "Observation.ndjson",
        json.dumps({**odd, "valueString": "a\ud800b"}),
        json.dumps({**odd, "valueQuantity": {"value": 10**400}}),
        json.dumps({**odd, "valueQuantity": {"value": float("nan")}}),
    )
    events = fhir.scan(tmp_path).collect()
    assert events["text_value"].to_list() == ["a?b", None, None]
    assert events["numeric_value"].is_finite().to_list() == [None, False, False]


def cut(folder):
    resources = [
        {"resourceType": "Procedure", "id": f"p{i}", **ABOUT, **CODE, "performedDateTime": f"{1900 + i % 100}"}
        for i in range(2_000)
    ]
    whole = gzip.compress("\n".join(json.dumps(r) + str(random.Random(r["id"]).random()) for r in resources).encode())
    (folder / "Procedure.ndjson").unlink()
    (folder / "Procedure.ndjson.gz").write_bytes(whole[: len(whole) // 2])


def no_gzip(folder):
    (folder / "Procedure.ndjson").rename(folder / "Procedure.ndjson.gz")


def spoilt_gzip(folder):
    packed = bytearray(gzip.compress((folder / "Procedure.ndjson").read_bytes() * 50))
    packed[40:60] = bytes(20)
    (folder / "Procedure.ndjson").unlink()
    (folder / "Procedure.ndjson.gz").write_bytes(packed)


def cut_bundle(folder):
    text = (FIXTURES / "fhir_bundles/r4/dee.json").read_text("utf-8")
    (folder / "dee.json").write_text(text[:-50], "utf-8")


def folder_for_file(folder):
    (folder / "Procedure.ndjson").unlink()
    (folder / "Procedure.ndjson").mkdir()


def only_others(folder):
    for file in folder.iterdir():
        if file.name != "Organization.ndjson":
            file.unlink()


def no_resources(folder):
    for file in folder.iterdir():
        write(file, {"exportId": 1}, {"exportId": 2})


MALFORMED = {
    "cut off": (cut, "Procedure.ndjson.gz: cannot be read"),
    "not packed": (no_gzip, "Procedure.ndjson.gz: cannot be read"),
    "damaged": (spoilt_gzip, "Procedure.ndjson.gz: cannot be read"),
    "half a bundle": (cut_bundle, "dee.json: not JSON"),
    "folder for a file": (folder_for_file, "Procedure.ndjson: cannot be read"),
    "no patients' resources": (only_others, "only Organization; expected Patient"),
    "no resources": (no_resources, "no FHIR resources"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_give_one_line_that_names_file_and_remedy(export, tmp_path, case):
    spoil, message = MALFORMED[case]
    spoil(export)
    with pytest.raises(ValueError, match=r".") as error:
        shards.divide(fhir.open(export), tmp_path / "spread")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert ";" in str(error.value)


def test_matching_never_raises(export, tmp_path):
    assert fhir.matches(export)
    for spoil in (cut, folder_for_file):
        copy = tmp_path / spoil.__name__
        shutil.copytree(export, copy)
        spoil(copy)
        assert fhir.matches(copy)
    assert not fhir.matches(tmp_path / "nothing")
    assert not fhir.matches(FIXTURES / "omop")
    (tmp_path / "page.json").write_text("{}", "utf-8")
    assert not fhir.matches(tmp_path / "page.json")


def test_files_that_are_no_fhir_are_named_in_a_note(export):
    write(export / "log.ndjson", {"exportId": 1})
    assert fhir.open(export).notes == ("no FHIR in log.ndjson",)


def test_reading_holds_a_batch_and_not_the_file(export, monkeypatch):
    monkeypatch.setattr(fhir, "BATCH", 5)
    cut(export)
    held = files.look(export / "Procedure.ndjson.gz", "Procedure.ndjson.gz")
    assert held is not None
    batches = fhir.frames(files.rows(held, NOTHING))
    # The first batches come before the end of the file is found to be missing.
    assert len(next(batches)) == len(next(batches)) == 5
    with pytest.raises(ValueError, match="cannot be read"):
        list(batches)


def test_a_limit_and_a_choice_of_columns_reach_the_reader(export):
    part = next(part for part in fhir.open(export).parts if part.name == "Encounter.ndjson")
    assert part.events.head(2).select("code").collect()["code"].to_list() == [
        "VISIT//INPATIENT//START",
        "SNOMED//32485007",
    ]
    assert part.events.filter(pl.col("code").str.ends_with("END")).collect()["row"].to_list() == [1, 2]


ZONES = st.integers(-14 * 60, 14 * 60)
MOMENTS = st.datetimes(min_value=datetime(1850, 1, 1), max_value=datetime(2150, 1, 1))


@given(MOMENTS, ZONES)
def test_dates_become_utc_whatever_their_zone(moment, minutes):
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    found = times.read(local.isoformat(timespec="microseconds"))
    assert found is not None
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found.time) == local
    assert times.read(moment.isoformat(timespec="seconds") + "Z") == times.read(moment.isoformat(timespec="seconds"))


@given(MOMENTS)
def test_partial_dates_begin_with_their_first_day_and_end_with_their_last(moment):
    day = moment.date().isoformat()
    first = {text: times.read(text) for text in (day, day[:7], day[:4])}
    begins = [datetime(1970, 1, 1) + timedelta(microseconds=found.time) for found in first.values() if found]
    assert begins == [
        moment.replace(hour=0, minute=0, second=0, microsecond=0),
        moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        moment.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0),
    ]
    assert [found.day for found in first.values() if found] == [True, False, False]
    for text in first:
        # The next microsecond belongs to another day, month or year.
        last = datetime(1970, 1, 1) + timedelta(microseconds=times.end_of(text) or 0)
        assert last.isoformat().startswith(text)
        assert not (last + timedelta(microseconds=1)).isoformat().startswith(text)


@given(st.one_of(st.text(), st.from_regex(times.FORM, fullmatch=True)))
def test_no_text_breaks_the_reading_of_dates(text):
    assert times.read(text) is None or times.end_of(text) is None or times.end_of(text) >= times.read(text).time


@given(st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True))
def test_references_are_resolved_in_every_spelling(name):
    spelt = [
        f"Patient/{name}",
        f"https://example.org/r4/Patient/{name}",
        f"Patient/{name}/_history/2",
        f"urn:uuid:{name}",
    ]
    assert {NOTHING.patient({"subject": {"reference": text}}) for text in spelt} == {name}
    assert NOTHING.patient({"patient": {"reference": spelt[0]}}) == name
    for other in (f"Group/{name}", f"#{name}", f"Patient?identifier={name}", "", None, 3):
        assert NOTHING.patient({"subject": {"reference": other}}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("2010-01-01"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["coding", "code", "system", "text", "value", "reference", "start", "end", "extension", "url"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
FIELDS = (
    "id", "subject", "patient", "code", "period", "class", "type", "component", "valueQuantity", "valueCodeableConcept",
    "category", "extension", "birthDate", "_birthDate", "gender", "status", "verificationStatus", "onsetDateTime",
    "effectiveDateTime", "effectivePeriod", "authoredOn", "medicationCodeableConcept", "medicationReference",
    "contained", "encounter", "vaccineCode", "performedPeriod", "deceasedDateTime", "recordedDate", "valueInteger",
)  # fmt: skip


@given(st.sampled_from(sorted(fhir.READ)), st.dictionaries(st.sampled_from(FIELDS), JSON), JSON, st.booleans())
def test_no_resource_breaks_the_reader(kind, fields, other, bundled):
    resource = {"resourceType": kind, **fields}
    entries = [{"fullUrl": "urn:uuid:1", "resource": resource}, {"resource": {"resourceType": other}}, other]
    line = json.dumps({"resourceType": "Bundle", "entry": entries} if bundled else resource).encode()
    for row in files.of_line(1, line, NOTHING):
        assert isinstance(fhir.is_older(row.resource), bool)
        for time, code, number, text, number_of_line, reject, patient in fhir.lines_of(row):
            assert number_of_line == 1
            assert code
            assert reject or patient
            assert isinstance(time, int | None)
            assert isinstance(number, float | None)
            assert isinstance(text, str | None)


@pytest.mark.parametrize(
    ("system", "prefix"),
    [
        ("http://snomed.info/sct", "SNOMED"),
        ("http://loinc.org", "LOINC"),
        ("http://hl7.org/fhir/sid/icd-10-cm/", "ICD10CM"),
        ("http://hl7.org/fhir/sid/icd-9-cm", "ICD9CM"),
        ("https://www.nlm.nih.gov/research/umls/rxnorm", "RXNORM"),
        ("http://www.whocc.no/atc", "ATC"),
        ("urn:oid:2.16.840.1.113883.6.96", "SNOMED"),
        ("http://example.org/CodeSystem/local-lab", "LOCAL-LAB"),
    ],
)
def test_coding_systems_have_the_prefixes_of_the_other_formats(system, prefix):
    assert codings.prefix_of(system) == prefix


def test_the_user_s_choice_among_codings_counts_most():
    local, known = {"system": "http://x.org/y", "code": "1"}, {"system": "http://loinc.org", "code": "2"}
    assert codings.code_of({"coding": [local, known]}, "K") == "LOINC//2"
    assert codings.code_of({"coding": [known, {**local, "userSelected": True}]}, "K") == "Y//1"
    assert codings.code_of({"coding": [{"code": "3"}], "text": "t"}, "K") == "K//3"
    assert codings.code_of({"coding": [{"display": "only words"}], "text": "t"}, "K") == "K//t"
    assert codings.code_of({"coding": "nonsense"}, "K") is None


def plain(resource, patient_of):  # noqa: C901  one after another, as simply as can be
    """Yield patient, time and code of a resource of the shared sets in plain Python, by their own few shapes."""
    prefixes = {"sct": "SNOMED", "loinc.org": "LOINC", "rxnorm": "RXNORM", "cvx": "CVX"}

    def code(concept):
        return f"{prefixes[concept['coding'][0]['system'].split('/')[-1]]}//{concept['coding'][0]['code']}"

    def utc(text):
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

    kind = resource["resourceType"]
    if kind == "Patient":
        who = resource["id"]
        yield who, f"{resource['birthDate']} 00:00:00", "MEDS_BIRTH"
        yield who, None, "SEX//" + resource["gender"][0].upper()
        for extension in resource["extension"]:
            if "us-core-race" in extension["url"] or "us-core-ethnicity" in extension["url"]:
                prefix = "RACE" if "race" in extension["url"] else "ETHNICITY"
                said = extension["extension"][0]["valueCoding"]["display"].lower()
                words = {"black or african american": "black", "not hispanic or latino": "nonhispanic"}
                yield who, None, f"{prefix}//{words.get(said, said).replace('hispanic or latino', 'hispanic')}"
        if "deceasedDateTime" in resource:
            yield who, utc(resource["deceasedDateTime"]), "MEDS_DEATH"
        return
    fields = {
        "Condition": ("code", "onsetDateTime"),
        "Observation": ("code", "effectiveDateTime"),
        "Procedure": ("code", "performedPeriod"),
        "MedicationRequest": ("medicationCodeableConcept", "authoredOn"),
        "Immunization": ("vaccineCode", "occurrenceDateTime"),
        "AllergyIntolerance": ("code", "recordedDate"),
        "DiagnosticReport": ("code", "effectiveDateTime"),
        "CarePlan": ("category", "period"),
        "Encounter": ("type", "period"),
    }
    if kind not in fields:
        return
    who = patient_of(resource.get("subject") or resource["patient"])
    concept, time = (resource[field] for field in fields[kind])
    at = utc(time["start"] if isinstance(time, dict) else time)
    if kind == "Encounter":
        words = {"AMB": "AMBULATORY", "EMER": "EMERGENCY", "IMP": "INPATIENT", "HH": "HOME", "VR": "VIRTUAL"}
        yield who, at, f"VISIT//{words[resource['class']['code']]}//START"
        yield who, utc(time["end"]), f"VISIT//{words[resource['class']['code']]}//END"
    parts = resource.get("component") if kind == "Observation" else None
    for found in [part["code"] for part in parts] if parts else concept if isinstance(concept, list) else [concept]:
        if found["coding"][0]["code"] != "assess-plan":
            yield who, at, code(found)


def counted(folder):
    events = fhir.scan(folder).collect().join(fhir.open(folder).patients.collect(), on="subject_id", how="left")
    stamp = pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S")
    return Counter(events.select("patient", stamp, "code").iter_rows())


@pytest.mark.data
def test_the_shared_bulk_export_has_every_event_as_plain_python_counts_them(shared_data):
    folder = shared_data("fhir_bulk_10")
    resources = [
        json.loads(line)
        for file in sorted(folder.glob("*.ndjson.gz"))
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    want = Counter(event for r in resources for event in plain(r, lambda held: held["reference"].split("/")[1]))
    assert counted(folder) == want
    kinds = Counter(resource["resourceType"] for resource in resources)
    single = ("AllergyIntolerance", "Condition", "Immunization", "MedicationRequest", "Procedure")
    assert want.total() == sum(kinds[kind] for kind in single) + 3 * kinds["Encounter"] + 55 == 8_228
    assert open_source(folder).version == "R4"


@pytest.mark.data
def test_the_shared_bundles_have_every_event_as_plain_python_counts_them(shared_data):
    folder = shared_data("fhir_bundles_r4")
    resources = [
        entry["resource"]
        for file in sorted(folder.glob("*.json.gz"))
        for entry in json.loads(gzip.decompress(file.read_bytes()))["entry"]
    ]
    want = Counter(event for r in resources for event in plain(r, lambda held: held["reference"].split(":")[2]))
    assert counted(folder) == want
    assert want.total() == 958
    numbers = [
        part["valueQuantity"]["value"]
        for resource in resources
        for part in [resource, *resource.get("component", [])]
        if "valueQuantity" in part
    ]
    got = fhir.scan(folder).collect()["numeric_value"].drop_nulls()
    assert len(got) == len(numbers)
    assert got.cast(pl.Float64).sum() == pytest.approx(sum(numbers), rel=1e-5)
