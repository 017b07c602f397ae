"""OMOP: a hand-made database against the events written down for it, whatever form its files have."""

import csv
import gzip
import random
import shutil
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehr.events import EVENTS, order
from ehr.sources import omop
from ehr.sources.detect import detect, open_source
from ehr.sources.omop import columns
from ehr.sources.omop.files import Table
from pipelines import shards

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "omop"
TABLES = sorted(file for file in FIXTURE.glob("*.csv") if file.name != "expected.csv")


@pytest.fixture
def database(tmp_path):
    """Return a copy of the hand-made database, to be changed."""
    folder = tmp_path / "database"
    folder.mkdir()
    for file in TABLES:
        shutil.copy(file, folder / file.name)
    return folder


def expected():
    text = pl.read_csv(FIXTURE / "expected.csv", infer_schema=False)
    return text.select(
        pl.col("subject_id").cast(pl.Int64),
        pl.coalesce(
            pl.col("time").str.to_datetime(form, time_unit="us", strict=False)
            for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S")
        ).alias("time"),
        "code",
        pl.col("numeric_value").cast(pl.Float32),
        "text_value",
    )


def edit(path, change):
    """Rewrite a table through a function of its lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def table(file):
    tabs = "\t" in file.read_text(encoding="utf-8").splitlines()[0]
    return pl.read_csv(file, separator="\t" if tabs else ",", quote_char=None if tabs else '"', try_parse_dates=True)


def as_gzip(file):
    (file.parent / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()


def as_capitals(file):
    edit(file, lambda lines: [lines[0].upper(), *lines[1:]])
    file.rename(file.with_name(file.name.upper()))


def as_parquet(file):
    table(file).write_parquet(file.with_suffix(".parquet"))
    file.unlink()


def as_parquet_folder(file):
    rows = table(file)
    shard = file.parent / file.stem.lower()
    shard.mkdir()
    rows.head(2).write_parquet(shard / "part-0.parquet")
    rows.slice(2).write_parquet(shard / "part-1.parquet")
    file.unlink()


def as_tabs(file):
    rows = pl.read_csv(file, infer_schema=False) if "," in file.read_text(encoding="utf-8").splitlines()[0] else None
    # Answers with quotes inside cannot be told in unquoted text; observations stay as they are.
    if rows is not None and file.stem != "observation":
        rows.write_csv(file.with_suffix(".tsv"), separator="\t", quote_style="never")
        file.unlink()


@pytest.mark.parametrize(
    "form",
    [None, as_gzip, as_capitals, as_parquet, as_parquet_folder, as_tabs],
    ids=lambda form: form.__name__ if form else "as_is",
)
def test_every_form_of_the_files_gives_the_events_written_down(database, form):
    for file in sorted(database.iterdir()):
        if form:
            form(file)
    assert_frame_equal(order(omop.scan(database)).collect(), expected())
    assert detect(database) == "omop"


def test_a_vocabulary_may_lie_in_a_folder_of_its_own(database):
    (database / "vocabulary").mkdir()
    for name in ("CONCEPT.csv", "CONCEPT_ANCESTOR.csv"):
        (database / name).rename(database / "vocabulary" / name)
    assert_frame_equal(order(omop.scan(database)).collect(), expected())


def test_the_source_tells_version_patients_parents_and_rows(database):
    source = open_source(database)
    assert (source.format, source.version, source.notes) == ("omop", "5.4", ())
    assert source.patients is not None
    assert source.patients.collect().rows() == [(11, "alpha"), (12, "beta"), (13, "13"), (14, "delta")]
    assert source.parents == {"RXNORM//6809": ("ATC//A10BA",), "SNOMED//44054006": ("SNOMED//73211009",)}
    rows = {part.name: part.events.collect() for part in source.parts}
    assert rows["condition_occurrence.csv"]["row"].to_list() == [1, 2, 3, 4]
    assert all(part["reject"].null_count() == len(part) for part in rows.values())


def test_older_databases_are_told_by_their_columns(database):
    (database / "cdm_source.csv").unlink()
    assert omop.open(database).version == "5.4"
    edit(
        database / "visit_occurrence.csv",
        lambda lines: [lines[0].replace("admitted_from_concept_id", "admitting_source_concept_id"), *lines[1:]],
    )
    assert omop.open(database).version == "5.3"
    assert_frame_equal(order(omop.scan(database)).collect(), expected())


def test_parents_come_from_relationships_where_there_are_no_ancestors(database):
    (database / "CONCEPT_ANCESTOR.csv").unlink()
    (database / "CONCEPT_RELATIONSHIP.csv").write_text(
        "concept_id_1\tconcept_id_2\trelationship_id\tinvalid_reason\n"
        "201826\t201820\tIs a\t\n"
        "201820\t201826\tSubsumes\t\n"
        "1503297\t21600745\tIs a\tD\n"
        "201820\t5\tIs a\t\n"
        "5\t201820\tIs a\t\n",
        encoding="utf-8",
    )
    # The level above a parent counts too, a cycle ends, and what is no longer valid is left out.
    assert omop.open(database).parents == {
        "SNOMED//44054006": ("SNOMED//73211009",),
        "SNOMED//73211009": ("SNOMED//5",),
        "SNOMED//5": ("SNOMED//73211009",),
    }


def test_without_a_vocabulary_codes_are_concept_numbers_and_a_note_says_so(database):
    for name in ("CONCEPT.csv", "CONCEPT_ANCESTOR.csv", "death.csv"):
        (database / name).unlink()
    source = omop.open(database)
    assert source.notes == (
        "tables absent: death",
        "no table concept: codes are concept numbers (OMOP//NUMBER) or source values",
    )
    codes = set(omop.scan(database).collect()["code"])
    assert {"OMOP//201826", "CONDITION//E11.9", "CONDITION//X-77", "VISIT//INPATIENT//START"} <= codes
    assert "VISIT//38004515//END" in codes


def test_the_order_of_rows_in_the_files_does_not_matter(database):
    before = omop.scan(database).collect()

    def shuffled(lines):
        rows = lines[1:]
        random.Random(5).shuffle(rows)
        return [lines[0], *rows]

    for file in database.iterdir():
        edit(file, shuffled)
    names = EVENTS.names()
    assert_frame_equal(omop.scan(database).collect().sort(names), before.sort(names))


def replaced(old, new):
    return lambda lines: [line.replace(old, new) for line in lines]


def drop(name):
    return lambda folder: (folder / name).unlink()


def rewrite(name, old, new):
    return lambda folder: edit(folder / name, replaced(old, new))


def truncated_gzip(folder):
    rows = "".join(f"{i},11,3004410,2010-01-01,{random.Random(i).random()}\n" for i in range(20_000))
    header = "measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number\n"
    whole = gzip.compress((header + rows).encode())
    (folder / "measurement.csv").unlink()
    (folder / "measurement.csv.gz").write_bytes(whole[: len(whole) // 2])


def truncated_parquet(folder):
    as_parquet(folder / "measurement.csv")
    file = folder / "measurement.parquet"
    file.write_bytes(file.read_bytes()[:-20])


def listed_column(folder):
    frame = table(folder / "measurement.csv").with_columns(pl.concat_list("person_id").alias("person_id"))
    frame.write_parquet(folder / "measurement.parquet")
    (folder / "measurement.csv").unlink()


def odd_zone(folder):
    frame = pl.DataFrame({"person_id": [11], "death_datetime": [datetime(2012, 1, 1)]}).to_arrow()
    times = frame["death_datetime"].cast(pa.timestamp("us", "+05:30"))
    pq.write_table(frame.set_column(1, "death_datetime", times), folder / "death.parquet")
    (folder / "death.csv").unlink()


def folder_for_file(folder):
    (folder / "measurement.csv").unlink()
    (folder / "measurement.csv").mkdir()


def latin(folder):
    file = folder / "person.csv"
    file.write_bytes(file.read_bytes().replace(b"Martian", b"M\xe4rz"))


MALFORMED = {
    "no person": (drop("person.csv"), "no table person"),
    "person_id renamed": (rewrite("measurement.csv", "person_id", "patient"), "measurement.csv: no column person_id"),
    "concept renamed": (
        rewrite("condition_occurrence.csv", "condition_concept_id", "concept"),
        "condition_occurrence.csv: no column condition_concept_id",
    ),
    "no dates": (rewrite("death.csv", "death_date", "day"), "death.csv: no column death_datetime or death_date"),
    "no birth": (rewrite("person.csv", "birth", "b"), "person.csv: no column birth_datetime or year_of_birth"),
    "no visit dates": (rewrite("visit_occurrence.csv", "_start_", "_"), "visit_start_datetime or visit_start_date"),
    "vocabulary without codes": (rewrite("CONCEPT.csv", "concept_code", "code"), "CONCEPT.csv: no column concept_code"),
    "truncated gzip": (truncated_gzip, "measurement.csv.gz: cannot be read"),
    "truncated parquet": (truncated_parquet, "measurement.parquet: cannot be read"),
    "list for a number": (listed_column, "measurement.parquet: column person_id is List"),
    "zone of odd minutes": (odd_zone, "death.parquet: column death_datetime has the zone +05:30; expected UTC"),
    "folder for a file": (folder_for_file, "measurement.csv: a folder without parquet files"),
    "not UTF-8": (latin, "person.csv: cannot be read"),
    "empty": (lambda folder: (folder / "death.csv").write_bytes(b""), "death.csv: an empty file"),
    "twice": (lambda folder: shutil.copy(folder / "death.csv", folder / "death.tsv"), "are the same table"),
    "same column twice": (
        rewrite("death.csv", "death_type_concept_id", "PERSON_ID"),
        "death.csv: two columns of one name",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_tables_give_one_line_that_names_file_and_remedy(database, tmp_path, case):
    spoil, message = MALFORMED[case]
    spoil(database)
    with pytest.raises(ValueError, match=r".") as error:
        shards.divide(omop.open(database), tmp_path / "spread")
    told = str(error.value)
    assert message in told
    assert "\n" not in told
    assert "secret" not in told
    assert ";" in told or "mend" in told


def test_a_file_is_no_database():
    with pytest.raises(ValueError, match="not a folder"):
        omop.open(FIXTURE / "person.csv")
    assert not omop.matches(FIXTURE / "person.csv")
    assert not omop.matches(FIXTURE / "nothing")


SPOILED = [
    ("person_id cannot be read", "measurement.csv", "601,11,", "601,eleven,", 1),
    ("measurement_date cannot be read", "measurement.csv", "13,3004410,2013-01-15", "13,3004410,2013-02-30", 3),
    ("no measurement_date", "measurement.csv", "13,3004410,2013-01-15", "13,3004410,", 3),
    ("value_as_number cannot be read", "measurement.csv", "8.4,0,8554", "high,0,8554", 1),
    ("visit_end_date is before visit_start_date", "visit_occurrence.csv", ",2014-09-12,", ",2014-09-08,", 5),
    ("visit_end_datetime cannot be read", "visit_occurrence.csv", "2010-05-04 17:00:00", "soon", 1),
    ("no year_of_birth", "person.csv", "1961,11,", "1961,13,", 2),
    ("birth_datetime cannot be read", "person.csv", "1950-03-07 04:30:00", "spring", 1),
    ("death_date cannot be read", "death.csv", "14,2014-09-12", "14,2014-99-12", 2),
    # A cell too many moves the others along.
    ("death_date cannot be read", "death.csv", "12,2012", "12,secret,2012", 1),
]


@pytest.mark.parametrize(("reason", "name", "old", "new", "row"), SPOILED)
def test_rows_that_cannot_be_used_are_told_with_their_number(database, reason, name, old, new, row):
    rewrite(name, old, new)(database)
    frames = [part.events.collect() for part in omop.open(database).parts]
    rejected = pl.concat(frames).filter(pl.col("reject").is_not_null())
    assert rejected["reject"].to_list() == [reason]
    assert rejected["row"].to_list() == [row]
    # All other rows stay.
    assert len(omop.scan(database).collect()) == len(expected()) - 1


def test_a_missing_person_leaves_a_null_subject_which_the_gates_list(database):
    rewrite("measurement.csv", "601,11,", "601,,")(database)
    source = omop.open(database)
    events = pl.concat([part.events.collect() for part in source.parts if part.name == "measurement.csv"])
    assert events["subject_id"].to_list() == [None, 12, 13]


def read_text(values, column="day"):
    return Table("t.csv", pl.LazyFrame({column: values}, schema={column: pl.String()}), {column: pl.String()})


MOMENTS = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1))


@given(MOMENTS, st.sampled_from([" ", "T"]), st.integers(-14 * 60, 14 * 60))
def test_times_are_read_in_every_spelling(moment, between, offset):
    zone = f"{'+' if offset >= 0 else '-'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    spelt = [
        moment.isoformat(sep=between, timespec="microseconds"),
        moment.isoformat(sep=between, timespec="seconds"),
        moment.date().isoformat(),
        moment.strftime("%Y%m%d") if moment.year >= 1000 else moment.date().isoformat(),
        moment.isoformat(sep=between, timespec="seconds") + zone,
        f" {moment.isoformat(sep=between, timespec='seconds')}Z ",
        "",
        "yesterday",
    ]
    held = read_text(spelt)
    got = held.frame.select(columns.moment(held, "day")).collect().to_series().to_list()
    second = moment.replace(microsecond=0)
    midnight = second.replace(hour=0, minute=0, second=0)
    assert got == [moment, second, midnight, midnight, second - timedelta(minutes=offset), second, None, None]


@given(st.integers(-(2**62), 2**62))
def test_whole_numbers_are_read_exactly(number):
    held = read_text([str(number), f"{number}.0", f" {number} ", "", "1e3", "x"], "n")
    got = held.frame.select(columns.integer(held, "n")).collect().to_series().to_list()
    assert got == [number, number, number, None, None, None]


def plain_rows(folder, name):
    with gzip.open(folder / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def plain_events(folder):
    """Yield subject, time and code of every event of the shared set in plain Python, one row at a time."""
    prefix = {"SNOMED": "SNOMED", "LOINC": "LOINC", "RxNorm": "RXNORM"}
    codes = {
        row["concept_id"]: f"{prefix[row['vocabulary_id']]}//{row['concept_code']}"
        for row in plain_rows(folder, "CONCEPT")
        if row["vocabulary_id"] in prefix
    }
    for row in plain_rows(folder, "PERSON"):
        yield row["person_id"], row["birth_datetime"], "MEDS_BIRTH"
        yield row["person_id"], None, f"SEX//{row['gender_source_value']}"
        yield row["person_id"], None, f"RACE//{row['race_source_value']}"
        yield row["person_id"], None, f"ETHNICITY//{row['ethnicity_source_value']}"
    for row in plain_rows(folder, "DEATH"):
        yield row["person_id"], f"{row['death_date']} 23:59:59.999999", "MEDS_DEATH"
    places = {"9201": "INPATIENT", "9202": "OUTPATIENT", "9203": "EMERGENCY"}
    for row in plain_rows(folder, "VISIT_OCCURRENCE"):
        for side in ("start", "end"):
            code = f"VISIT//{places[row['visit_concept_id']]}//{side.upper()}"
            yield row["person_id"], row[f"visit_{side}_datetime"], code
    stems = {
        "CONDITION_OCCURRENCE": ("condition", "condition_start"),
        "DRUG_EXPOSURE": ("drug", "drug_exposure_start"),
        "PROCEDURE_OCCURRENCE": ("procedure", "procedure"),
        "DEVICE_EXPOSURE": ("device", "device_exposure_start"),
        "MEASUREMENT": ("measurement", "measurement"),
        "OBSERVATION": ("observation", "observation"),
    }
    for name, (stem, start) in stems.items():
        for row in plain_rows(folder, name):
            yield row["person_id"], row[f"{start}_datetime"], codes[row[f"{stem}_concept_id"]]


@pytest.mark.data
def test_the_shared_database_has_every_row_as_plain_python_counts_them(shared_data):
    folder = shared_data("omop_synthea27nj")
    events = omop.scan(folder).collect()
    stamp = pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S%.f")
    plain = Counter((int(subject), time, code) for subject, time, code in plain_events(folder))
    assert Counter(events.select("subject_id", stamp, "code").iter_rows()) == plain
    assert len(events) == plain.total() == 28 * 4 + 3 + 2 * 1791 + 470 + 883 + 1649 + 1 + 10_040 + 8_099
    valued = [float(row["value_as_number"]) for row in plain_rows(folder, "MEASUREMENT") if row["value_as_number"]]
    got = events["numeric_value"].drop_nulls()
    assert len(got) == len(valued)
    assert got.cast(pl.Float64).sum() == pytest.approx(sum(valued), rel=1e-5)


@pytest.mark.data
def test_the_shared_database_is_detected_and_keeps_its_own_ids(shared_data):
    source = open_source(shared_data("omop_synthea27nj"))
    assert (source.format, source.version) == ("omop", "5.4")
    assert source.patients is not None
    own = {row["person_source_value"] for row in plain_rows(shared_data("omop_synthea27nj"), "PERSON")}
    assert set(source.patients.collect()["patient"]) == own
