"""Detection: every format from its files, one clear line where none or several fit, and no file that breaks it."""

import gzip
import shutil
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.sources.detect import FORMATS, detect, open_source

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
KNOWN = {
    "omop": "omop",
    "fhir_bulk": "fhir",
    "fhir_bundles": "fhir",
    "fhir_bundles/r4": "fhir",
    "fhir_bundles/stu3/old.json": "fhir",
    "mimic3": "mimic",
    "mimic4": "mimic",
}
MAP = "tables:\n  all:\n    files: '*.csv'\n    subject: id\n    static: [{code: 'SEX//{sex}'}]\n"


def write_meds(folder):
    folder.mkdir(parents=True, exist_ok=True)
    events = pl.DataFrame({"subject_id": [1], "time": [None], "code": ["SEX//F"]})
    events.write_parquet(folder / "0.parquet")
    return folder


def write_table(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "visits.csv").write_text("id,sex\n1,F\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", KNOWN)
def test_every_fixture_is_told_by_its_files(name):
    assert detect(FIXTURES / name) == KNOWN[name]
    assert open_source(FIXTURES / name).format == KNOWN[name]


def test_meds_is_told_by_its_columns(tmp_path):
    dataset = write_meds(tmp_path / "set" / "data" / "train")
    assert detect(tmp_path / "set") == detect(dataset) == detect(dataset / "0.parquet") == "meds"
    assert open_source(tmp_path / "set").format == "meds"


def test_every_shared_set_is_told_by_its_files(shared_data):
    sets = {
        "meds": ("synthea_meds", "synthea_large", "meds_samples/aces_meds_sample"),
        "omop": ("omop_synthea27nj",),
        "fhir": ("fhir_bulk_10", "fhir_bundles_r4"),
        "mimic": ("mimic3_demo",),
    }
    for format, names in sets.items():
        for name in names:
            assert detect(shared_data(name)) == format
    for name in ("eicu_demo", "physionet2012", "diabetes130"):
        with pytest.raises(ValueError, match="no known format"):
            detect(shared_data(name))


def fail(path, **options):
    with pytest.raises(ValueError, match=r".") as error:
        open_source(path, **options)
    told = str(error.value)
    assert "\n" not in told
    return told


def test_what_fits_several_formats_is_asked_about(tmp_path):
    both = tmp_path / "both"
    shutil.copytree(FIXTURES / "omop", both)
    shutil.copytree(FIXTURES / "mimic3", both, dirs_exist_ok=True, ignore=shutil.ignore_patterns("expected.csv"))
    assert fail(both) == f"{both}: fits omop and mimic; expected one format; pass --format omop, say"
    assert open_source(both, format="omop").format == "omop"
    assert open_source(both, format="mimic").format == "mimic"
    shutil.copy(FIXTURES / "fhir_bulk" / "Patient.ndjson", both)
    write_meds(both)
    assert "fits meds and omop and fhir and mimic;" in fail(both)


def test_what_fits_none_is_named(tmp_path):
    assert fail(tmp_path / "nothing") == f"{tmp_path / 'nothing'}: no such file or folder; expected health records"
    (tmp_path / "empty").mkdir()
    assert fail(tmp_path / "empty") == f"{tmp_path / 'empty'}: an empty folder; expected health records"
    (tmp_path / "file.csv").touch()
    assert fail(tmp_path / "file.csv") == f"{tmp_path / 'file.csv'}: an empty file; expected health records"
    told = fail(write_table(tmp_path / "table"))
    assert "no known format (found visits.csv); expected meds: " in told
    assert told.endswith("for other tables pass --columns FILE")
    assert "found visits.csv)" in fail(tmp_path / "table" / "visits.csv")
    # Folders and no files: the first names, no more.
    for i in range(9):
        (tmp_path / "many" / f"{i}").mkdir(parents=True)
    assert "(found 0, 1, 2, 3, 4);" in fail(tmp_path / "many")
    # Half of a format is none.
    (tmp_path / "half").mkdir()
    shutil.copy(FIXTURES / "omop" / "person.csv", tmp_path / "half")
    shutil.copy(FIXTURES / "mimic3" / "PATIENTS.csv", tmp_path / "half")
    assert "no known format (found PATIENTS.csv, person.csv)" in fail(tmp_path / "half")


def test_formats_are_asked_for_by_name(tmp_path):
    table = write_table(tmp_path / "table")
    columns = tmp_path / "columns.yaml"
    columns.write_text(MAP, encoding="utf-8")
    assert open_source(table, columns=columns).format == "table"
    assert open_source(table, columns=columns, format="table").format == "table"
    assert fail(table, format="table").startswith("format table: no column map; pass --columns FILE")
    assert fail(table, format="csv") == "format csv: expected auto, table, meds, omop, fhir, mimic"
    for format in FORMATS:
        assert str(tmp_path / "nothing") in fail(tmp_path / "nothing", format=format)
        assert fail(table, format=format).startswith(f"{table}: no")
    # A map beside another format than its own would be left unread without a word.
    assert fail(table, columns=columns, format="omop") == (
        "format omop: got --columns, which maps plain tables; leave out one of them"
    )


NAMES = st.sampled_from(
    [
        "person.csv", "visit_occurrence.csv", "PATIENTS.csv.gz", "ADMISSIONS.csv", "0.parquet", "data/0.parquet",
        "Patient.ndjson", "Patient.ndjson.gz", "bundle.json", "bundle.json.gz", "notes.txt", "hosp/patients.csv",
    ]
)  # fmt: skip
HEADS = [b"", b"PAR1", b'{"resourceType":"Patient"}', b"\x1f\x8b", gzip.compress(b'{"resourceType"'), b"a,b\n1,2\n"]
CONTENT = st.one_of(st.sampled_from(HEADS), st.binary(max_size=40))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.one_of(CONTENT, st.none()), min_size=1, max_size=5))
def test_no_file_breaks_detection(files):
    with tempfile.TemporaryDirectory() as name:
        for place, content in files.items():
            file = Path(name) / place
            file.parent.mkdir(exist_ok=True)
            # None: a folder of that name.
            if content is None:
                file.mkdir()
            else:
                file.write_bytes(content)
        try:
            assert detect(Path(name)) in FORMATS
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(error).startswith(f"{name}: ")  # noqa: PT017
