"""MEDS: shards of both versions against the events written down, spoiled ones, the shared sets counted anew."""

import csv
import json
import math
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ehr.events import EVENTS, order
from ehr.quality.profile import sift
from ehr.sources import meds
from ehr.sources.detect import detect, open_source
from ehr.vocabulary import Settings
from pipelines import passes, preparation, shards

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "meds" / "expected.csv"
TYPES = {
    "subject_id": pa.int64(),
    "time": pa.timestamp("us"),
    "code": pa.string(),
    "numeric_value": pa.float32(),
    "text_value": pa.large_string(),
}
# 0.3 asked for a value and had no text; its writers took wider and narrower types.
EARLIER = {**TYPES, "numeric_value": pa.float64()}
del EARLIER["text_value"]
OTHER = {
    "subject_id": pa.int32(),
    "time": pa.timestamp("ns", "UTC"),
    "code": pa.dictionary(pa.int32(), pa.string()),
    "numeric_value": pa.float64(),
    "text_value": pa.string(),
}
FORMS = {"0.4": TYPES, "0.3": EARLIER, "other types": OTHER}


def written_down():
    """Return the rows written down, by shard, in plain Python."""
    by_shard = {}
    with FIXTURE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_shard.setdefault(row.pop("shard"), []).append(
                {
                    "subject_id": int(row["subject_id"]),
                    "time": datetime.fromisoformat(row["time"]) if row["time"] else None,
                    "code": row["code"],
                    "numeric_value": float(row["numeric_value"]) if row["numeric_value"] else None,
                    "text_value": row["text_value"] or None,
                }
            )
    return by_shard


def expected():
    rows = [row for held in written_down().values() for row in held]
    return order(pl.LazyFrame(rows, schema=EVENTS)).collect()


def write(file, rows, types=None):
    types = types or TYPES
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: pa.array([row[name] for row in rows]).cast(kind) for name, kind in types.items()})
    # Small groups, so that a subject crosses them.
    pq.write_table(table, file, row_group_size=2)


def metadata(root, **stated):
    (root / "metadata").mkdir(exist_ok=True)
    (root / "metadata" / "dataset.json").write_text(json.dumps(stated), encoding="utf-8")
    codes = {
        "code": ["SNOMED//44054006", "LOINC//4548-4", "RXNORM//6809", None],
        "description": ["diabetes", None, None, "nothing"],
        "parent_codes": [["SNOMED//73211009", None], None, [], ["X//1"]],
    }
    pl.DataFrame(codes, schema_overrides={"parent_codes": pl.List(pl.String)}).write_parquet(
        root / "metadata" / "codes.parquet"
    )


def lay(root, types=None, rows=None):
    for shard, held in (rows or written_down()).items():
        write(root / "data" / f"{shard}.parquet", held, types)
    metadata(root, dataset_name="small", meds_version="0.4.1")
    return root


@pytest.fixture
def dataset(tmp_path):
    """Return the dataset written down, in MEDS 0.4, to be changed."""
    return lay(tmp_path / "dataset")


@pytest.mark.parametrize("form", FORMS)
def test_every_version_gives_the_events_written_down(form, tmp_path):
    rows, want = written_down(), expected()
    if form == "other types":
        rows["tuning/0"].pop()
        want = want.filter(pl.col("subject_id") < 2**31)
    if form == "0.3":
        want = want.with_columns(pl.lit(None, pl.String).alias("text_value"))
    root = lay(tmp_path, FORMS[form], rows)
    found = meds.scan(root)
    assert isinstance(found, pl.LazyFrame)
    assert_frame_equal(order(found).collect(), want)
    assert detect(root) == "meds"


def test_the_source_tells_version_splits_parts_and_parents(dataset):
    source = open_source(dataset)
    assert (source.format, source.version, source.patients, source.notes) == ("meds", "0.4.1", None, ())
    assert source.parents == {"SNOMED//44054006": ("SNOMED//73211009",)}
    assert [(part.name, part.split, part.rows, part.first_row, part.ordered) for part in source.parts] == [
        ("data/held_out/0.parquet", "held_out", 1, 1, True),
        ("data/train/0.parquet", "train", 9, 1, True),
        ("data/train/1.parquet", "train", 3, 1, True),
        ("data/tuning/0.parquet", "tuning", 3, 1, True),
    ]


@pytest.mark.parametrize(("types", "version"), [(TYPES, "0.4"), (EARLIER, "0.3")])
def test_a_version_that_nobody_states_is_told_by_the_columns(tmp_path, types, version):
    lay(tmp_path, types)
    for stated in ({}, {"meds_version": None}):
        metadata(tmp_path, **stated)
        assert meds.open(tmp_path).version == version
    shutil.rmtree(tmp_path / "metadata")
    source = meds.open(tmp_path)
    assert (source.version, source.parents) == (version, {})


def test_shards_may_lie_without_data_and_one_may_come_alone(dataset):
    moved = dataset.parent / "moved"
    (dataset / "data").rename(moved)
    assert_frame_equal(order(meds.scan(moved)).collect(), expected())
    assert {part.split for part in meds.open(moved).parts} == {"train", "tuning", "held_out"}
    alone = meds.open(moved / "train" / "1.parquet")
    assert [(part.name, part.split, part.rows) for part in alone.parts] == [("1.parquet", None, 3)]
    assert detect(moved) == detect(moved / "train" / "1.parquet") == "meds"


def test_only_folders_of_the_dataset_itself_are_passed_over(dataset):
    # A dataset may lie below folders of such names, and has folders of such names.
    below = dataset.parent / "labels" / "metadata"
    shutil.copytree(dataset, below)
    write(below / "data" / "labels" / "0.parquet", written_down()["train/0"])
    (below / "data" / "train" / ".0.parquet.partial").write_bytes(b"half")
    (below / "data" / "train" / ".hidden.parquet").write_bytes(b"half")
    assert_frame_equal(order(meds.scan(below)).collect(), expected())


def flat(dataset):
    """Move the shards out of folders named by split, and write down the splits."""
    for i, file in enumerate(sorted((dataset / "data").rglob("*.parquet"))):
        file.rename(dataset / "data" / f"{i}.parquet")
    given = {row["subject_id"]: shard.split("/")[0] for shard, rows in written_down().items() for row in rows}
    # One whom the dataset does not have.
    given[99] = "train"
    splits = pl.DataFrame({"subject_id": list(given), "split": list(given.values())})
    splits.write_parquet(dataset / "metadata" / "subject_splits.parquet")
    return given


def test_splits_come_from_the_table_where_folders_name_none(dataset, tmp_path):
    splits = dataset / "metadata" / "subject_splits.parquet"
    pl.DataFrame({"subject_id": [1], "split": ["train"]}).write_parquet(splits)
    assert meds.open(dataset).splits is None
    given = flat(dataset)
    assert meds.open(dataset).splits == splits
    tokens = Settings(min_patients=1)
    plan = passes.Plan(gates=False, halve=False, tokens=tokens)
    preparation.prepare(dataset, tmp_path / "cohort", plan=plan, workers=1)
    found = dict(pl.read_parquet(tmp_path / "cohort" / "splits.parquet").iter_rows())
    del given[99]
    assert found == given
    # What the user names counts more.
    mine = tmp_path / "mine.csv"
    mine.write_text("subject_id,split\n" + "".join(f"{subject},train\n" for subject in given), encoding="utf-8")
    plan = passes.Plan(gates=False, halve=False, tokens=tokens, splits=mine)
    preparation.prepare(dataset, tmp_path / "other", plan=plan, workers=1)
    assert set(pl.read_parquet(tmp_path / "other" / "splits.parquet")["split"]) == {"train"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=8), st.integers(1, 7))
def test_parts_cut_no_subject_and_lose_no_row(lengths, part_rows):
    subjects = [subject for subject, length in enumerate(lengths) for _ in range(length)]
    rows = [
        {"subject_id": subject, "time": None, "code": f"A//{i}", "numeric_value": None, "text_value": None}
        for i, subject in enumerate(subjects)
    ]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "0.parquet"
        write(file, rows)
        parts = meds.open(file, part_rows=part_rows).parts
        frames = [part.events.collect() for part in parts]
    held = [code for frame in frames for code in frame["code"]]
    assert held == [f"A//{i}" for i in range(len(subjects))]
    assert [part.rows for part in parts] == [len(frame) for frame in frames]
    assert [f"A//{part.first_row - 1}" for part in parts] == [frame["code"][0] for frame in frames]
    owners = [set(frame["subject_id"]) for frame in frames]
    assert sum(map(len, owners)) == len(set(subjects))
    # Cut at the first change of subject after so many rows, and no later.
    for frame in frames[:-1]:
        assert len(frame) >= part_rows
        assert len(frame) - (frame["subject_id"] == frame["subject_id"][-1]).sum() < part_rows


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_with_repair_the_order_of_rows_does_not_matter(chance):
    rows = [row for held in written_down().values() for row in held]
    chance.shuffle(rows)
    cut = chance.randint(1, len(rows) - 1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(root / "data" / "0.parquet", rows[:cut])
        write(root / "data" / "1.parquet", rows[cut:])
        source = meds.open(root, repair=True)
        loaded = pl.concat([shards.load(shard) for shard in shards.divide(source, root / "spread")])
    names = EVENTS.names()
    assert_frame_equal(loaded.select(names).sort(names), expected().sort(names))
    assert loaded["subject_id"].is_sorted()


def test_shards_out_of_order_are_refused_with_the_row(dataset):
    held = written_down()["train/0"]
    file = dataset / "data" / "train" / "0.parquet"
    write(file, held[5:] + held[:5])
    with pytest.raises(ValueError, match=r"^data/train/0.parquet: row 5 is not in order of subject_id .*--repair$"):
        meds.open(dataset)
    assert_frame_equal(order(meds.scan(dataset, repair=True)).collect(), expected())
    # Out of order in time: seen when the rows are.
    write(file, [held[0], held[2], held[1], *held[3:]])
    shard = next(s for s in shards.divide(meds.open(dataset), dataset / "spread") if "train" in s.name)
    with pytest.raises(ValueError, match=r"^data/train/0.parquet: row 3 is not in order of subject and time"):
        shards.load(shard)


def test_subjects_in_two_shards_are_refused_with_both_files(dataset):
    write(dataset / "data" / "held_out" / "1.parquet", written_down()["train/1"])
    with pytest.raises(ValueError, match=r"data/held_out/1.parquet and data/train/1.parquet share a subject"):
        meds.open(dataset)
    assert len(meds.scan(dataset, repair=True).collect()) == len(expected()) + 3
    # Rows without a subject are nobody's.
    nobody = [{**row, "subject_id": None} for row in written_down()["train/1"]]
    write(dataset / "data" / "held_out" / "1.parquet", nobody)
    write(dataset / "data" / "held_out" / "2.parquet", nobody)
    assert len(meds.scan(dataset).collect()) == len(expected()) + 6


def test_values_and_ids_that_cannot_be_used_reach_the_gates_which_list_their_rows(dataset):
    rows = written_down()["train/0"]
    rows[3]["numeric_value"] = math.nan
    rows[4]["numeric_value"] = math.inf
    rows[7]["code"] = None
    # A subject of 2**62 after none: their distance is more than 64 bits hold.
    bad = [{**rows[1], "subject_id": None}, {**rows[1], "subject_id": -4}]
    rows.append({**rows[-1], "subject_id": 2**62})
    write(dataset / "data" / "train" / "0.parquet", bad + rows)
    source = meds.open(dataset)
    events = next(part for part in source.parts if part.name == "data/train/0.parquet").events.collect()
    sifted = sift(events, name="train/0", now=2**62)
    assert sifted.rejected.rows() == [
        ("train/0", 1, "null_subject"),
        ("train/0", 2, "negative_subject"),
        ("train/0", 6, "not_finite"),
        ("train/0", 7, "not_finite"),
        ("train/0", 10, "null_code"),
    ]


def drop(column):
    return lambda table: table.drop_columns([column])


def rename(old, new):
    return lambda table: table.rename_columns([new if name == old else name for name in table.column_names])


def retype(column, kind):
    def change(table):
        at = table.column_names.index(column)
        return table.set_column(at, column, pa.array([None] * len(table), type=kind))

    return change


def change(alter):
    def spoil(root):
        file = root / "data" / "train" / "0.parquet"
        pq.write_table(alter(pq.read_table(file)), file)

    return spoil


def cut(root):
    file = root / "data" / "train" / "0.parquet"
    file.write_bytes(file.read_bytes()[:-30])


def hollow(root):
    file = root / "data" / "train" / "0.parquet"
    held = bytearray(file.read_bytes())
    held[4:200] = bytes(196)
    file.write_bytes(held)


def text(name, content):
    return lambda root: (root / name).write_bytes(content)


def empty_folder(root):
    shutil.rmtree(root / "data")
    (root / "data").mkdir()


def folder_for_file(root):
    (root / "data" / "train" / "0.parquet").unlink()
    (root / "data" / "train" / "0.parquet").mkdir()


SHARD = "data/train/0.parquet"
MALFORMED = {
    "no subject": (change(drop("subject_id")), f"{SHARD}: no column subject_id; found time, code"),
    "first name of the subject": (change(rename("subject_id", "patient_id")), f"{SHARD}: no column subject_id"),
    "no time": (change(drop("time")), f"{SHARD}: no column time; found subject_id, code"),
    "code renamed": (change(rename("code", "concept")), f"{SHARD}: no column code; found"),
    "text for subjects": (change(retype("subject_id", pa.string())), f"{SHARD}: column subject_id is string"),
    "unsigned subjects": (change(retype("subject_id", pa.uint64())), f"{SHARD}: column subject_id is uint64"),
    "dates as text": (change(retype("time", pa.string())), f"{SHARD}: column time is String; expected Datetime"),
    "dates as numbers": (change(retype("time", pa.int64())), f"{SHARD}: column time is Int64; expected Datetime"),
    "numbers as text": (change(retype("numeric_value", pa.string())), f"{SHARD}: column numeric_value is String"),
    "numbers for codes": (change(retype("code", pa.int64())), f"{SHARD}: column code is Int64; expected String"),
    "a zone of odd minutes": (
        change(retype("time", pa.timestamp("us", "+05:30"))),
        f"{SHARD}: column time has the zone +05:30; expected UTC",
    ),
    "cut off": (cut, f"{SHARD}: not a whole parquet file"),
    "hollow": (hollow, f"{SHARD}: "),
    "empty": (text(SHARD, b""), f"{SHARD}: not a whole parquet file"),
    "CSV by another name": (text(SHARD, b"subject_id,time,code\n1,,A\n"), f"{SHARD}: not a whole parquet file"),
    "folder for a file": (folder_for_file, f"{SHARD}: not a whole parquet file"),
    "no shards": (empty_folder, "no parquet files of events"),
    "dataset.json": (text("metadata/dataset.json", b"{"), "dataset.json: not JSON"),
    "dataset.json in Latin": (text("metadata/dataset.json", b'{"a": "\xe4"}'), "dataset.json: not JSON"),
    "dataset.json a list": (text("metadata/dataset.json", b"[]"), "dataset.json: not JSON"),
    "codes.parquet": (text("metadata/codes.parquet", b"PAR1"), "codes.parquet: not a whole parquet file"),
    "parents as text": (
        lambda root: pl.DataFrame({"code": ["A"], "parent_codes": ["B"]}).write_parquet(
            root / "metadata/codes.parquet"
        ),
        "codes.parquet: column parent_codes is String; expected lists",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_datasets_give_one_line_that_names_file_and_remedy(dataset, tmp_path, case):
    spoil, message = MALFORMED[case]
    spoil(dataset)
    with pytest.raises(ValueError, match=r".") as error:
        for shard in shards.divide(meds.open(dataset), tmp_path / "spread"):
            shards.load(shard)
    told = str(error.value)
    assert message in told
    assert "\n" not in told
    assert ";" in told


def test_what_looks_like_meds_and_what_does_not(dataset, tmp_path):
    for spoil in (cut, hollow, folder_for_file):
        damaged = tmp_path / spoil.__name__
        shutil.copytree(dataset, damaged)
        spoil(damaged)
        # Reading it says what is wrong, which is more than that no format fits.
        assert meds.matches(damaged)
    first = tmp_path / "first"
    write(first / "0.parquet", written_down()["train/0"])
    pq.write_table(rename("subject_id", "patient_id")(pq.read_table(first / "0.parquet")), first / "0.parquet")
    assert meds.matches(first)
    other = tmp_path / "other.parquet"
    pl.DataFrame({"subject_id": [1], "name": ["x"]}).write_parquet(other)
    for path in (other, tmp_path / "nothing", FIXTURE, FIXTURE.parent):
        assert not meds.matches(path)


def test_codes_without_parents_give_none(dataset):
    file = dataset / "metadata" / "codes.parquet"
    pl.DataFrame({"code": ["A"], "description": ["a"]}).write_parquet(file)
    assert meds.open(dataset).parents == {}


MOMENTS = st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2250, 1, 1))


@settings(max_examples=25, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=4), st.sampled_from(["s", "ms", "us", "ns"]), st.integers(-12, 14))
def test_times_of_every_unit_and_zone_become_utc_in_microseconds(moments, unit, hours):
    zone = timezone(timedelta(hours=hours))
    step = timedelta(seconds=1) if unit == "s" else timedelta(milliseconds=1 if unit == "ms" else 0.001)
    whole = sorted(moment - (moment - datetime.min) % step for moment in moments)
    named = f"{'-' if hours < 0 else '+'}{abs(hours):02d}:00"
    rows = {"subject_id": [1] * len(whole), "code": ["A"] * len(whole)}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "0.parquet"
        local = [moment.replace(tzinfo=UTC).astimezone(zone) for moment in whole]
        pq.write_table(pa.table({**rows, "time": pa.array(local, pa.timestamp(unit, named))}), file)
        assert meds.scan(file).collect()["time"].to_list() == whole
        pq.write_table(pa.table({**rows, "time": pa.array(whole, pa.timestamp(unit))}), file)
        assert meds.scan(file).collect()["time"].to_list() == whole


def plain(root):
    """Yield every row of a dataset's shards in plain Python, with the number as 32 bits hold it."""
    for file in sorted(root.glob("**/[0-9]*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(batch_size=100_000):
            for row in batch.to_pylist():
                value = row["numeric_value"]
                number = None if value is None else float(np.float32(value))
                yield row["subject_id"], row["time"], row["code"], number, row.get("text_value")


SETS = {
    "meds_samples/aces_meds_sample": (77_542, 100, "0.3"),
    "meds_samples/meds_transforms_example": (62, 6, "0.3"),
    "synthea_meds": (224_600, 1_674, "0.4.1"),
}


@pytest.mark.data
@pytest.mark.parametrize("name", SETS)
def test_the_shared_sets_have_every_row_as_plain_python_counts_them(shared_data, name):
    root = shared_data(name)
    rows, patients, version = SETS[name]
    events = meds.scan(root).collect()
    assert Counter(events.iter_rows()) == Counter(plain(root))
    assert (len(events), events["subject_id"].n_unique()) == (rows, patients)
    source = open_source(root)
    assert (source.format, source.version) == ("meds", version)
    assert {part.split for part in source.parts} == {"train", "tuning", "held_out"}


@pytest.mark.data
def test_folders_and_table_of_the_shared_sets_name_the_same_splits(shared_data):
    for name in ("synthea_meds", "meds_samples/meds_transforms_example"):
        root = shared_data(name)
        given = dict(pl.read_parquet(root / "metadata" / "subject_splits.parquet").iter_rows())
        found = {
            subject: part.split
            for part in meds.open(root).parts
            for subject in part.events.select("subject_id").unique().collect().to_series()
        }
        assert found == given


@pytest.mark.data
def test_parents_of_the_shared_sets_are_those_of_their_table(shared_data):
    root = shared_data("meds_samples/meds_transforms_example")
    rows = pq.read_table(root / "metadata" / "codes.parquet").to_pylist()
    want = {row["code"]: tuple(row["parent_codes"]) for row in rows if row["parent_codes"]}
    assert meds.open(root).parents == want


STATED = {"train": 18.1, "tuning": 2.7, "held_out": 6.9, "external": 14.4}


@pytest.mark.data
@pytest.mark.slow
def test_the_large_set_has_every_row_as_plain_python_counts_them(shared_data):
    root = shared_data("synthea_large")
    source = open_source(root)
    assert source.version == "0.4.1"
    for split, millions in STATED.items():
        parts = [part for part in source.parts if part.split == split]
        held = pl.concat([part.events.select("code") for part in parts]).collect(engine="streaming")
        counts = dict(held["code"].value_counts().iter_rows())
        plainly = Counter()
        for file in sorted((root / "data" / split).glob("*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(columns=["code"], batch_size=200_000):
                plainly.update(batch["code"].to_pylist())
        assert counts == plainly
        assert round(sum(counts.values()) / 1e6, 1) == millions


@pytest.mark.data
def test_a_shard_of_the_large_set_has_every_row_as_plain_python_counts_them(shared_data):
    root = shared_data("synthea_large")
    file = root / "data" / "tuning" / "0.parquet"
    first, whole = meds.open(file).parts[0], pq.ParquetFile(file)
    assert whole.metadata.num_rows == sum(part.rows or 0 for part in meds.open(file).parts) == 2_691_822
    subject = next(iter(first.events.select("subject_id").head(1).collect().to_series()))
    rows = [row for row in whole.read_row_group(0).to_pylist() if row["subject_id"] == subject]
    found = first.events.filter(pl.col("subject_id") == subject).collect()
    assert found.to_dicts() == rows
    assert len(rows) > 98
