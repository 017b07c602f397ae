"""MIMIC: hand-made copies of both versions against the events written down for them, spoiled ones, the demo anew."""

import csv
import gzip
import random
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehr.events import EVENTS
from ehr.quality.thresholds import Thresholds
from ehr.sources import mimic
from ehr.sources.detect import detect, open_source
from pipelines import shards

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
VERSIONS = ("mimic3", "mimic4")


def copy(version, folder):
    """Return a copy of a hand-made set, to be changed."""
    return shutil.copytree(FIXTURES / version, folder / version, ignore=shutil.ignore_patterns("expected.csv"))


@pytest.fixture
def three(tmp_path):
    return copy("mimic3", tmp_path)


@pytest.fixture
def four(tmp_path):
    return copy("mimic4", tmp_path)


def expected(version):
    text = pl.read_csv(FIXTURES / version / "expected.csv", infer_schema=False)
    return text.select(
        pl.col("subject_id").cast(pl.Int64),
        pl.col("time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us"),
        "code",
        pl.col("numeric_value").cast(pl.Float32),
        "text_value",
    )


def files(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def edit(path, change):
    """Rewrite a file through a function of its lines."""
    path.write_text("\n".join(change(path.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def rejected(folder):
    frames = [part.events.with_columns(pl.lit(part.name).alias("file")) for part in mimic.open(folder).parts]
    return (
        pl.concat(pl.collect_all(frames)).filter(pl.col("reject").is_not_null()).select("file", "row", "reject").rows()
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_hand_made_sets_give_the_events_written_down(version):
    found = mimic.scan(FIXTURES / version)
    assert isinstance(found, pl.LazyFrame)
    assert_frame_equal(found.collect(), expected(version))


def as_gzip(file):
    (file.parent / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()


def in_capitals(file):
    edit(file, lambda lines: [lines[0].upper(), *lines[1:]])
    file.rename(file.with_name(file.name.upper()))


def in_small_letters(file):
    edit(file, lambda lines: [lines[0].lower(), *lines[1:]])
    file.rename(file.with_name(file.name.lower()))


def with_a_mark(file):
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


def with_carriage_returns(file):
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("form", [as_gzip, in_capitals, in_small_letters, with_a_mark, with_carriage_returns])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_form_of_the_files_says_the_same(version, form, tmp_path):
    folder = copy(version, tmp_path)
    for file in files(folder):
        form(file)
    assert_frame_equal(mimic.scan(folder).collect(), expected(version))
    assert detect(folder) == "mimic"


def test_all_tables_may_lie_in_one_folder(four):
    for file in files(four):
        file.rename(four / file.name)
    assert_frame_equal(mimic.scan(four).collect(), expected("mimic4"))


def test_the_source_tells_version_and_what_to_know(three, four):
    shifted = "dates are shifted by patient, most of them into the future"
    old = "1 patients over 89: age not told, taken as 91"
    bare = "no loinc_code in d_labitems: laboratory codes are MIMIC_LAB//itemid"
    source = open_source(three)
    assert (source.format, source.version, source.notes) == ("mimic", "III", (old, shifted))
    assert open_source(four).version == "IV"
    assert open_source(four).notes == (bare, old, shifted)
    for name in ("LABEVENTS.csv", "CHARTEVENTS.csv", "D_LABITEMS.csv", "NOTEEVENTS.csv"):
        (three / name).unlink()
    assert open_source(three).notes == ("tables absent: chartevents, labevents", old, shifted)
    codes = expected("mimic3").filter(~pl.col("code").str.contains("^LOINC|MIMIC_LAB|220045|224084"))
    assert_frame_equal(mimic.scan(three).collect(), codes)


def test_without_loinc_codes_results_are_named_by_their_item(three):
    (three / "D_LABITEMS.csv").unlink()
    found = set(mimic.scan(three).collect()["code"])
    assert {"MIMIC_LAB//50813", "MIMIC_LAB//50800"} <= found
    assert "LOINC//32693-4" not in found


def test_the_gate_for_future_dates_knows_that_they_are_shifted():
    last = expected("mimic4")["time"].max()
    assert isinstance(last, datetime)
    at = int((last - datetime(1970, 1, 1)).total_seconds() * 1_000_000)
    assert Thresholds().end_of_now() < at < Thresholds().end_of_now("mimic")


@contextmanager
def changed(version):
    with tempfile.TemporaryDirectory() as name:
        yield copy(version, Path(name))


@settings(max_examples=4, deadline=None)
@given(st.sampled_from(VERSIONS), st.randoms(use_true_random=False))
def test_the_order_of_rows_in_the_files_does_not_matter(version, chance):
    def shuffled(lines):
        return [lines[0], *chance.sample(lines[1:], len(lines) - 1)]

    names = EVENTS.names()
    with changed(version) as folder:
        for file in files(folder):
            edit(file, shuffled)
        assert_frame_equal(mimic.scan(folder).collect().sort(names), expected(version).sort(names))


LISTED = [
    ("LABEVENTS.csv", 4, "charttime: not a date or time"),
    ("LABEVENTS.csv", 5, "valuenum: not a finite number"),
    ("LABEVENTS.csv", 6, "subject_id: empty; expected a subject"),
    ("LABEVENTS.csv", 7, "subject_id: not a whole number of 0 or more"),
    ("LABEVENTS.csv", 8, "charttime: empty; expected a time"),
    ("DIAGNOSES_ICD.csv", 7, "icd9_code: empty; expected a code"),
    ("DIAGNOSES_ICD.csv", 8, "hadm_id: no discharge; expected an admission that has one"),
]


def test_rows_that_cannot_be_used_are_listed_once_each():
    assert sorted(rejected(FIXTURES / "mimic3")) == sorted(LISTED)
    assert rejected(FIXTURES / "mimic4") == []


SPOILED = [
    ("ADMISSIONS.csv", "2129-01-02 08:00:00", "soon", 2, "admittime: not a date or time"),
    ("ADMISSIONS.csv", "1,1,1002", "1,,1002", 1, "subject_id: empty; expected a subject"),
    ("PATIENTS.csv", "2100-11-11 00:00:00", "2100-13-11 00:00:00", 3, "dob: not a date or time"),
    ("PATIENTS.csv", "2131-01-20 00:00:00,,2131", "2131-01-32 00:00:00,,2131", 2, "dod: not a date or time"),
    ("PATIENTS.csv", "1,1,", "1,one,", 1, "subject_id: not a whole number of 0 or more"),
    ("CHARTEVENTS.csv", "118,", "inf,", 1, "valuenum: not a finite number"),
    ("CHARTEVENTS.csv", "501,224084,", "501,,", 3, "itemid: empty; expected a code"),
    ("OUTPUTEVENTS.csv", '35,"ml",2130-05-09 03:10', 'NaN,"ml",2130-05-09 03:10', 1, "value: not a finite number"),
    ("PRESCRIPTIONS.csv", "2130-05-09 00:00:00", "tomorrow", 1, "startdate: not a date or time"),
    ("PRESCRIPTIONS.csv", '"Norepinephrine"', '""', 2, "drug: empty; expected a code"),
    ("ICUSTAYS.csv", "2130-05-08 22:00:00", "", 1, "intime: empty; expected a time"),
    ("CPTEVENTS.csv", "1,1,1002", "1,1,1009", 1, "hadm_id: no discharge; expected an admission that has one"),
    ("TRANSFERS.csv", "2130-12-01 10:00:00", "2130-12-01 25:00:00", 2, "intime: not a date or time"),
]


def test_spoiled_rows_are_listed_once_each_and_no_others(three):
    for name, old, new, _, _ in SPOILED:
        replace(three / name, old, new)
    want = [*LISTED, *((name, row, reason) for name, _, _, row, reason in SPOILED)]
    assert sorted(rejected(three)) == sorted(want)


@pytest.mark.parametrize(("old", "new"), [("91,2150", "-1,2150"), ("91,2150", "x,2150"), ("91,2150", "91,10150")])
def test_an_age_that_cannot_be_told_is_listed_and_its_patient_stays(four, old, new):
    replace(four / "hosp" / "patients.csv", old, new)
    assert rejected(four) == [("hosp/patients.csv", 2, "anchor_age, anchor_year: not an age and a year")]
    lost = (pl.col("subject_id") == 22) & (pl.col("code") == "MEDS_BIRTH")
    assert_frame_equal(mimic.scan(four).collect(), expected("mimic4").filter(~lost))


def test_codes_of_unknown_versions_give_nothing(four):
    assert mimic.scan(four).collect()["code"].str.contains("J18.9$").sum() == 1
    replace(four / "hosp" / "diagnoses_icd.csv", "22,2003,1,J189,10", "22,2003,1,J189,9a")
    assert not mimic.scan(four).collect()["code"].str.contains("J18.9$").any()


def test_shards_name_file_and_row_and_hold_what_is_written_down(three, tmp_path):
    loaded = pl.concat([shards.load(shard) for shard in shards.divide(mimic.open(three), tmp_path / "spread")])
    listed = loaded.filter(pl.col("reject").is_not_null())
    assert sorted(listed.select("file", "row", "reject").rows()) == sorted(LISTED)
    kept = loaded.filter(pl.col("reject").is_null()).select(EVENTS.names())
    assert_frame_equal(kept.sort("subject_id", maintain_order=True), expected("mimic3"))


def rename(name, old, new):
    return lambda folder: edit(folder / name, lambda lines: [lines[0].replace(old, new), *lines[1:]])


def cut_gzip(folder):
    rows = "".join(f"{i},1,1002,50813,2130-05-08 21:30:00,{random.Random(i).random()},,\n" for i in range(20_000))
    header = "ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM\n"
    whole = gzip.compress((header + rows).encode())
    (folder / "LABEVENTS.csv").unlink()
    (folder / "LABEVENTS.csv.gz").write_bytes(whole[: len(whole) // 2])


def no_gzip(folder):
    (folder / "LABEVENTS.csv").rename(folder / "LABEVENTS.csv.gz")
    (folder / "LABEVENTS.csv.gz").write_bytes(b"\x1f\x8b not packed at all")


def latin(name, old, new):
    def spoil(folder):
        held = (folder / name).read_bytes()
        assert old in held
        (folder / name).write_bytes(held.replace(old, new))

    return spoil


def late_latin(name):
    def spoil(folder):
        lines = (folder / name).read_bytes().splitlines()
        (folder / name).write_bytes(b"\n".join([*lines, *lines[1:] * 1_000, lines[-1].replace(b",", b",\xe4")]))

    return spoil


def folder_for_file(folder):
    (folder / "LABEVENTS.csv").unlink()
    (folder / "LABEVENTS.csv").mkdir()


MALFORMED = {
    "no admissions": (lambda folder: (folder / "ADMISSIONS.csv").unlink(), "no ADMISSIONS.csv"),
    "no patients": (lambda folder: (folder / "PATIENTS.csv").unlink(), "no PATIENTS.csv"),
    "neither version": (rename("PATIENTS.csv", "DOB", "BORN"), "PATIENTS.csv: no column dob (III) or anchor_age (IV)"),
    "no sex": (rename("PATIENTS.csv", "GENDER", "SEX"), "PATIENTS.csv: no column gender"),
    "no discharge": (rename("ADMISSIONS.csv", "DISCHTIME", "OUT"), "ADMISSIONS.csv: no column dischtime"),
    "renamed": (rename("LABEVENTS.csv", "CHARTTIME", "WHEN"), "LABEVENTS.csv: no column charttime"),
    "no subject": (rename("DRGCODES.csv", "SUBJECT_ID", "ID"), "DRGCODES.csv: no column subject_id"),
    "lookup renamed": (rename("D_LABITEMS.csv", "ITEMID", "ITEM"), "D_LABITEMS.csv: no column itemid"),
    "one name twice": (rename("SERVICES.csv", "HADM_ID", "subject_id"), "SERVICES.csv: two columns differ in case"),
    "cut off": (cut_gzip, "LABEVENTS.csv.gz: cannot be read"),
    "not packed": (no_gzip, "LABEVENTS.csv.gz: cannot be read"),
    "header not UTF-8": (latin("LABEVENTS.csv", b"FLAG", b"FL\xc4G"), "LABEVENTS.csv: not UTF-8"),
    "rows not UTF-8": (latin("LABEVENTS.csv", b"mmol", b"\xb5mol"), "LABEVENTS.csv: not UTF-8"),
    "late rows not UTF-8": (late_latin("LABEVENTS.csv"), "LABEVENTS.csv: cannot be read (invalid utf-8"),
    "late patients not UTF-8": (late_latin("PATIENTS.csv"), "PATIENTS.csv: cannot be read (invalid utf-8"),
    "empty": (lambda folder: (folder / "LABEVENTS.csv").write_bytes(b""), "LABEVENTS.csv: an empty file"),
    "blank": (lambda folder: (folder / "LABEVENTS.csv").write_bytes(b"\n\n"), "LABEVENTS.csv: no header"),
    "folder for a file": (folder_for_file, "LABEVENTS.csv: a folder"),
    "twice": (
        lambda folder: shutil.copy(folder / "LABEVENTS.csv", folder / "labevents.csv"),
        "LABEVENTS.csv and labevents.csv are one table",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_tables_give_one_line_that_names_file_and_remedy(three, tmp_path, case):
    spoil, message = MALFORMED[case]
    spoil(three)
    with pytest.raises(ValueError, match=r".") as error:
        shards.divide(mimic.open(three), tmp_path / "spread")
    told = str(error.value)
    assert message in told
    assert "\n" not in told
    assert ";" in told


def test_what_is_no_folder_of_mimic_is_told(tmp_path):
    with pytest.raises(ValueError, match="not a folder; expected the folder with the CSV files of MIMIC"):
        mimic.open(FIXTURES / "mimic3" / "PATIENTS.csv")
    with pytest.raises(ValueError, match=r"no PATIENTS.csv; expected"):
        mimic.open(tmp_path)
    for path in (tmp_path, tmp_path / "nothing", FIXTURES / "mimic3" / "PATIENTS.csv", FIXTURES / "omop"):
        assert not mimic.matches(path)


def plain(folder, name):
    with gzip.open(folder / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def dotted(code, at):
    return code if len(code) <= at else f"{code[:at]}.{code[at:]}"


def day_end(text, discharge):
    """Return when something of that day was known: at its end, or at the discharge on that day."""
    day = text[:10]
    return discharge if discharge and discharge[:10] == day else f"{day} 23:59:59"


def plain_patients(folder, stays):
    """Yield facts, births and deaths of the demo."""
    for row in plain(folder, "PATIENTS"):
        who = row["subject_id"]
        mine = sorted((stay for stay in stays.values() if stay["subject_id"] == who), key=lambda s: s["admittime"])
        yield who, None, f"SEX//{row['gender']}", None
        yield who, None, f"RACE//{mine[0]['ethnicity']}", None
        first = mine[0]["admittime"]
        age = int(first[:4]) - int(row["dob"][:4])
        # 91 years before a leap day there was none.
        shifted = f"{int(first[:4]) - 91}{first[4:]}".replace("-02-29", "-02-28")
        yield who, row["dob"] if age < 200 else shifted, "MEDS_BIRTH", None
        died = [max(stay["deathtime"], stay["dischtime"]) for stay in mine if stay["deathtime"]]
        yield who, max(died) if died else f"{row['dod'][:10]} 23:59:59", "MEDS_DEATH", None


def plain_stays(  # noqa: C901  one after another, as simply as can be
    folder, stays
):
    """Yield admissions, stays in intensive care and moves of the demo."""
    for row in stays.values():
        who = row["subject_id"]
        yield who, row["admittime"], "VISIT//INPATIENT//START", None
        yield who, row["dischtime"], "VISIT//INPATIENT//END", None
        for column in ("admission_type", "admission_location", "insurance", "marital_status"):
            if row[column]:
                yield who, row["admittime"], f"{column.upper()}//{row[column]}", None
        if row["discharge_location"]:
            yield who, row["dischtime"], f"DISCHARGE_LOCATION//{row['discharge_location']}", None
        if row["edregtime"]:
            yield who, row["edregtime"], "VISIT//EMERGENCY//START", None
            yield who, row["edouttime"], "VISIT//EMERGENCY//END", None
    for row in plain(folder, "ICUSTAYS"):
        yield row["subject_id"], row["intime"], f"ICU//{row['first_careunit']}//START", None
        if row["outtime"]:
            yield row["subject_id"], row["outtime"], f"ICU//{row['last_careunit']}//END", None
    for row in plain(folder, "TRANSFERS"):
        if row["eventtype"] != "discharge":
            yield row["subject_id"], row["intime"], f"TRANSFER//{row['curr_careunit'] or 'WARD'}", None
    for row in plain(folder, "SERVICES"):
        yield row["subject_id"], row["transfertime"], f"SERVICE//{row['curr_service']}", None


def plain_care(  # noqa: C901  one after another, as simply as can be
    folder, stays
):
    """Yield what was given, measured and found in the demo."""
    for row in plain(folder, "PRESCRIPTIONS"):
        when = day_end(row["startdate"], stays[row["hadm_id"]]["dischtime"])
        yield row["subject_id"], when, f"MIMIC_DRUG//{row['drug'].strip().upper()}", None
    for row in plain(folder, "INPUTEVENTS_MV"):
        if row["statusdescription"].lower() != "rewritten":
            said = row["rate"] or row["amount"]
            yield row["subject_id"], row["starttime"], f"MIMIC_ITEM//{row['itemid']}", float(said)
    for row in plain(folder, "PROCEDUREEVENTS_MV"):
        if row["statusdescription"].lower() != "rewritten":
            yield row["subject_id"], row["starttime"], f"MIMIC_ITEM//{row['itemid']}", None
    for row in plain(folder, "OUTPUTEVENTS"):
        if row["iserror"] != "1":
            said = float(row["value"]) if row["value"] else None
            yield row["subject_id"], row["charttime"], f"MIMIC_ITEM//{row['itemid']}", said
    cultures = set()
    for row in plain(folder, "MICROBIOLOGYEVENTS"):
        left = stays[row["hadm_id"]]["dischtime"] if row["hadm_id"] else ""
        drawn = row["charttime"] or row["chartdate"]
        drawn = day_end(drawn, left) if drawn.endswith("00:00:00") else drawn
        five = (datetime.fromisoformat(drawn) + timedelta(days=5)).isoformat(sep=" ")
        read = max(drawn, left or five)
        cultures.add((row["subject_id"], drawn, f"MIMIC_SPECIMEN//{row['spec_itemid']}", None))
        if row["org_itemid"]:
            cultures.add((row["subject_id"], read, f"MIMIC_ORGANISM//{row['org_itemid']}", None))
            if row["ab_itemid"] and row["interpretation"]:
                words = f"{row['org_itemid']}//{row['ab_itemid']}//{row['interpretation']}"
                cultures.add((row["subject_id"], read, f"MIMIC_SUSCEPTIBILITY//{words}", None))
    yield from cultures


def plain_bills(folder, stays):
    """Yield what was coded after the discharge in the demo."""
    codes = {
        "DIAGNOSES_ICD": lambda r: "ICD9CM//" + dotted(r["icd9_code"], 4 if r["icd9_code"][0] == "E" else 3),
        "PROCEDURES_ICD": lambda r: "ICD9PCS//" + dotted(r["icd9_code"], 2),
        "CPTEVENTS": lambda r: f"CPT//{r['cpt_cd']}",
        "DRGCODES": lambda r: f"DRG//{r['drg_type'].strip()}//{r['drg_code']}",
    }
    for name, code in codes.items():
        for row in plain(folder, name):
            yield row["subject_id"], stays[row["hadm_id"]]["dischtime"], code(row), None


@pytest.mark.data
def test_the_demo_has_every_event_as_plain_python_counts_them(shared_data):
    folder = shared_data("mimic3_demo")
    stays = {row["hadm_id"]: row for row in plain(folder, "ADMISSIONS")}
    tables = (plain_patients, plain_stays, plain_care, plain_bills)
    want = Counter(
        (int(who), when, code, value) for events in tables for who, when, code, value in events(folder, stays)
    )
    events = mimic.scan(folder).collect()
    stamp = pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S")
    number = pl.col("numeric_value").cast(pl.Float64).round(3)
    found = Counter(events.select("subject_id", stamp, "code", number).iter_rows())
    rounded = Counter()
    for (who, when, code, value), times in want.items():
        # As near as 32 bits come.
        near = None if value is None else round(float(pl.Series([value], dtype=pl.Float32)[0]), 3)
        rounded[(who, when, code, near)] += times
    assert found == rounded
    assert found.total() == 41_113
    assert len({who for who, *_ in found}) == 100
