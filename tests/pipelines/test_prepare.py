"""prepare end to end on a tiny cohort: what stands on disk, adds up, and hangs on nothing that it should not."""

import functools
import json
import re
from collections import Counter
from datetime import datetime, timedelta

import polars as pl
import pytest

from ehr.events import EVENTS, order
from ehr.outcomes.exchange import to_meds
from ehr.timelines import Timelines
from ehr.vocabulary import Vocabulary
from pipelines import artefacts, cli, cohort, preparation, shards
from tests.chain import write_records
from tests.faults.kill import digests
from tests.pipelines import cohorts

PATIENTS = 60
ONE = ["--workers", "1", "--min-patients", "2"]
FILES = {
    "attrition.parquet",
    "manifest.json",
    "outcomes.yaml",
    "parents.json",
    "patients.parquet",
    "prevalence.parquet",
    "quality.json",
    "quality/index.html",
    "quality/results.json",
    "rejected.parquet",
    "splits.parquet",
    "vocabulary.json",
}


def prepare(*arguments):
    """Run the verb in this process, one worker, and return its exit code."""
    return cli.main(["prepare", *map(str, arguments), *ONE])


def refused(capsys, *arguments):
    """Run the verb, which must refuse, and return its one line."""
    capsys.readouterr()
    assert prepare(*arguments) == cli.BAD_INPUT
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("anamnesis prepare: ")]
    assert len(lines) == 1
    target = arguments[1]
    assert not target.exists()
    assert not artefacts.partial(target).exists()
    return lines[0].removeprefix("anamnesis prepare: ")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("prepare")


@pytest.fixture(scope="module")
def events():
    return cohorts.events(PATIENTS)


@pytest.fixture(scope="module")
def records(place, events):
    (place / "outcomes.yaml").write_text(cohorts.OUTCOMES)
    return write_records(events, place / "records")


@pytest.fixture(scope="module")
def made(place, records):
    assert prepare(records, place / "cohort", "--outcomes", place / "outcomes.yaml") == cli.DONE
    return place / "cohort"


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_stands_on_disk(made):
    manifest = artefacts.read_manifest(made, "cohort")
    parts = {f"{part}/{at:05d}.{ending}" for at in range(manifest["shards"])
             for part, ending in (("events", "parquet"), ("timelines", "arrow"), ("labels", "parquet"))}  # fmt: skip
    assert files(made) == FILES | parts
    artefacts.verify(made, manifest)
    assert set(manifest["files"]) == files(made) - {"manifest.json"}


def test_the_manifest_counts_what_is_there(made, events):
    manifest = artefacts.read_manifest(made, "cohort")
    opened = cohort.open_cohort(made)
    assert manifest["patients"] == PATIENTS
    assert manifest["events"] == len(events)
    assert manifest["rejected"] == 0
    assert manifest["vocabulary"] == opened.vocabulary.digest
    held = cohort.timelines(opened)
    assert manifest["tokens"] == sum(len(held.record(n).token) for n in held.subjects.tolist())
    assert manifest["splits"] == dict(Counter(cohort.splits(opened)["split"]))
    assert manifest["source"]["format"] == "meds"


def test_events_are_those_of_the_source(made, events):
    found = pl.concat(cohort.events(cohort.open_cohort(made))).collect()
    assert found.schema == EVENTS
    assert order(found.lazy()).collect().equals(order(events.lazy()).collect())
    named = pl.read_parquet(made / "patients.parquet")
    assert named["patient"].to_list() == [str(n) for n in range(1, PATIENTS + 1)]


def test_attrition_adds_up_and_ends_with_the_labels(made):
    table = pl.read_parquet(made / "attrition.parquet")
    labels = cohort.labels(cohort.open_cohort(made))
    for outcome in ("failure", "kidney", "never"):
        rows = table.filter(outcome=outcome).rows(named=True)
        for column in ("patients", "samples"):
            assert rows[0][column] - sum(row[column] for row in rows[1:-1]) == rows[-1][column] > 0
        own = labels.filter(outcome=outcome)
        assert rows[-1]["rule"] == "kept"
        assert rows[-1]["patients"] == own["subject_id"].n_unique()
        assert rows[-1]["samples"] == own.select("subject_id", "prediction_time").n_unique()


def test_prevalence_is_a_count_by_hand(made):
    opened = cohort.open_cohort(made)
    split = dict(cohort.splits(opened).rows())
    counts = {}
    for row in cohort.labels(opened).iter_rows(named=True):
        held = counts.setdefault((row["outcome"], row["horizon_days"], split[row["subject_id"]]), [0, 0, 0])
        held[0] += 1
        held[1] += row["boolean_value"] is True
        held[2] += row["boolean_value"] is None
    table = pl.read_parquet(made / "prevalence.parquet")
    assert {row[:3]: list(row[3:6]) for row in table.iter_rows()} == counts
    for *_, count, positives, censored, share in table.iter_rows():
        assert share == pytest.approx(positives / (count - censored)) if count > censored else True
    assert table["positives"].sum() > 0


def test_bytes_hang_on_no_worker_and_no_order_of_files(place, records, events, made):
    expected = digests(made)
    again = ["--outcomes", place / "outcomes.yaml"]
    arguments = ["prepare", records, place / "two", *again, "--min-patients", "2", "--workers", "2"]
    assert cli.main([*map(str, arguments)]) == cli.DONE
    assert digests(place / "two") == expected
    for at in range(3):
        source = records / "data" / f"{at}.parquet"
        target = place / "turned" / "data" / f"{(at + 1) % 3}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    assert prepare(place / "turned", place / "turned-cohort", *again) == cli.DONE
    assert digests(place / "turned-cohort") == expected
    # Rows in any order, which --repair sorts; rows of one moment keep theirs.
    (place / "mixed").mkdir()
    spread = events.with_row_index("at").with_columns(pl.col("at") // 7 % 5)
    for at, part in spread.group_by("at", maintain_order=True):
        part.drop("at").write_parquet(place / "mixed" / f"{at[0]}.parquet")
    assert prepare(place / "mixed", place / "mixed-cohort", *again, "--repair") == cli.DONE
    columns = ["subject_id", "time", "code", "numeric_value"]
    held = [
        pl.concat(cohort.events(cohort.open_cohort(place / name))).collect().sort(columns)
        for name in ("cohort", "mixed-cohort")
    ]
    assert held[0].equals(held[1])
    assert digests(place / "mixed-cohort")["splits.parquet"] == expected["splits.parquet"]


def test_many_shards_make_the_same_cohort_as_one(place, records, made, monkeypatch):
    small = functools.partial(shards.divide, shard_events=200)
    monkeypatch.setattr(preparation.shards, "divide", small)
    monkeypatch.setattr("ehr.sources.meds.PART_ROWS", 200)
    assert prepare(records, place / "many", "--outcomes", place / "outcomes.yaml") == cli.DONE
    one, many = cohort.open_cohort(made), cohort.open_cohort(place / "many")
    assert len(many.shards) > len(one.shards)
    for name in ("vocabulary.json", "splits.parquet", "patients.parquet", "attrition.parquet", "prevalence.parquet"):
        assert (made / name).read_bytes() == (place / "many" / name).read_bytes()
    assert cohort.labels(one).equals(cohort.labels(many))
    first, second = cohort.timelines(one), cohort.timelines(many)
    for subject in first.subjects.tolist():
        for a, b in zip(first.record(subject), second.record(subject), strict=True):
            assert a.tobytes() == b.tobytes() if hasattr(a, "tobytes") else a == b


def changed(events, subjects):
    """Return events in which some patients have other codes and values."""
    theirs = pl.col("subject_id").is_in(subjects) & ~pl.col("code").str.starts_with("MEDS_")
    return events.with_columns(
        pl.when(theirs).then(pl.col("code") + "X").otherwise(pl.col("code")).alias("code"),
        pl.when(theirs)
        .then(pl.col("numeric_value") * 1.5 + 1)
        .otherwise(pl.col("numeric_value"))
        .alias("numeric_value"),
    )


def test_the_vocabulary_knows_the_training_patients_alone(place, events, made):
    splits = cohort.splits(cohort.open_cohort(made))
    for at, split in enumerate(("train", "tuning", "calibration", "held_out")):
        own = splits.filter(split=split)["subject_id"].to_list()
        source = write_records(changed(events, own), place / f"changed-{split}")
        code = prepare(source, place / f"cohort-{split}", "--outcomes", place / "outcomes.yaml", "--no-gates")
        assert code == cli.DONE
        same = (place / f"cohort-{split}" / "vocabulary.json").read_bytes() == (made / "vocabulary.json").read_bytes()
        assert same == (at > 0), split
        assert (place / f"cohort-{split}" / "splits.parquet").read_bytes() == (made / "splits.parquet").read_bytes()


def test_labels_made_elsewhere(place, records, made, capsys):
    opened = cohort.open_cohort(made)
    labels = cohort.labels(opened).filter(outcome="failure", horizon_days=365)
    to_meds(labels, place / "elsewhere")
    path = place / "elsewhere" / "failure"
    assert prepare(records, place / "given", "--labels", path) == cli.DONE
    given = cohort.open_cohort(place / "given")
    columns = ["subject_id", "prediction_time", "boolean_value"]
    known = labels.filter(pl.col("boolean_value").is_not_null())
    assert cohort.labels(given).select(columns).equals(known.select(columns))
    assert given.registry.names == ("failure",)
    assert given.registry.horizons.tolist() == [[0]]
    for part in ("timelines/00000.arrow", "events/00000.parquet", "vocabulary.json", "splits.parquet"):
        assert (place / "given" / part).read_bytes() == (made / part).read_bytes()
    # The same labels, given to the cohort that stands there.
    assert prepare_again(made, place / "given-later", "--labels", path) == cli.DONE
    assert digests(place / "given-later") == digests(place / "given")
    assert prepare(records, place / "given", "--labels", path, "--overwrite") == cli.DONE
    assert digests(place / "given-later") == digests(place / "given")
    both = refused(capsys, records, place / "none", "--labels", path, "--outcomes", place / "outcomes.yaml")
    assert both == "--outcomes and --labels were both given; expected one of them"


def test_labels_of_strangers(place, records, made, capsys):
    table = cohort.labels(cohort.open_cohort(made)).filter(outcome="failure", horizon_days=365)
    some = table.select("subject_id", "prediction_time", "boolean_value").drop_nulls()
    some.with_columns(pl.col("subject_id") + 1_000).write_parquet(place / "strangers.parquet")
    line = refused(capsys, records, place / "none", "--labels", place / "strangers.parquet")
    assert line.endswith("labels no patient of the records; expected their subject_id (see patients.parquet)")
    mixed = some.with_columns(
        pl.when(pl.col("subject_id") > 30).then(pl.col("subject_id") + 1_000).otherwise("subject_id")
    )
    mixed.write_parquet(place / "mixed.parquet")
    assert prepare(records, place / "some", "--labels", place / "mixed.parquet") == cli.DONE
    lost = int((some["subject_id"] > 30).sum())
    assert (
        f"note: {lost:,} of {len(some):,} labels are of patients who are not in the cohort" in capsys.readouterr().err
    )


def prepare_again(*arguments):
    """Label a prepared cohort; what is settled there is not stated again."""
    return cli.main(["prepare", *map(str, arguments), "--workers", "1"])


def test_a_cohort_labelled_later_is_the_one_prepared_for_that(place, records, made, capsys):
    other = place / "other.yaml"
    other.write_text("outcomes:\n  sugar:\n    event: {any_of: [ICD10CM//E11]}\n    horizons_days: [100]\n")
    assert prepare(records, place / "direct", "--outcomes", other) == cli.DONE
    assert prepare_again(made, place / "later", "--outcomes", other) == cli.DONE
    assert digests(place / "later") == digests(place / "direct")
    # And back again.
    assert prepare_again(place / "later", place / "back", "--outcomes", place / "outcomes.yaml") == cli.DONE
    assert digests(place / "back") == digests(made)
    capsys.readouterr()
    assert prepare_again(made, place / "none") == cli.BAD_INPUT
    assert "is a cohort already; expected --outcomes or --labels" in capsys.readouterr().err
    assert prepare_again(made, place / "none", "--outcomes", other, "--min-patients", "3") == cli.BAD_INPUT
    assert "--min-patients: " in capsys.readouterr().err
    assert not (place / "none").exists()


def write(folder, rows, name="data.parquet"):
    """Write rows of (subject, time, code, value) as one MEDS shard, in canonical order."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame([(*row, None) for row in rows], schema=EVENTS, orient="row")
    order(frame.lazy()).collect().write_parquet(folder / name)
    return folder


def day(number):
    return datetime(2019, 1, 1) + timedelta(days=number)


def plain(patients=40, visits=10):
    """Return rows of a sound source: births, and a value each visit."""
    rows = [(n, datetime(1960, 1, 1), "MEDS_BIRTH", None) for n in range(patients)]
    return rows + [
        (n, day(30 * at), "LOINC//8867-4", 60.0 + at + n % 40) for n in range(patients) for at in range(visits)
    ]


def test_too_few_patients_and_too_few_codes_are_refused(tmp_path, capsys):
    alone = write(tmp_path / "alone", [row for row in plain() if row[0] == 7])
    assert (
        refused(capsys, alone, tmp_path / "c") == "1 patients with usable events; expected at least 2 to make a cohort"
    )
    each = write(tmp_path / "each", [(n, day(1), f"LOCAL//{n}", None) for n in range(40)])
    line = refused(capsys, each, tmp_path / "c")
    assert line == "vocabulary: no code has 2 training patients; lower min_patients or add patients"
    only = write(tmp_path / "only" / "data" / "held_out", plain()).parents[1]
    assert "no patient in the split train (found held_out)" in refused(capsys, only, tmp_path / "c")


def test_a_target_that_stands_there_is_kept(place, records, made, capsys):
    before = digests(made)
    capsys.readouterr()
    assert prepare(records, made) == cli.BAD_INPUT
    assert "already exists and is not empty; name another folder or pass --overwrite" in capsys.readouterr().err
    assert digests(made) == before


def test_rejected_rows_are_listed_and_told_by_the_exit_code(tmp_path, capsys):
    source = write(tmp_path / "records", [*plain(), (3, day(9), "", None), (5, day(10_000), "A", None)])
    assert prepare(source, tmp_path / "c") == cli.REJECTED
    rows = pl.read_parquet(source / "data.parquet").with_row_index("row", offset=1)
    expected = {
        (int(rows.filter(pl.col("code") == "")["row"].item()), "null_code"),
        (int(rows.filter(pl.col("code") == "A")["row"].item()), "future"),
    }
    found = pl.read_parquet(tmp_path / "c" / "rejected.parquet")
    assert {(row, reason) for _, row, reason in found.iter_rows()} == expected
    assert found["file"].unique().to_list() == ["data.parquet"]
    manifest = artefacts.read_manifest(tmp_path / "c", "cohort")
    assert manifest["rejected"] == 2
    assert manifest["events"] == len(rows) - 2
    rules = pl.read_parquet(tmp_path / "c" / "attrition.parquet").select("rule", "samples").rows()
    assert rules == [("row rejected: future", 1), ("row rejected: null_code", 1)]
    told = capsys.readouterr()
    assert "2 rows were rejected" in told.err
    assert "row rejected: future" in told.out


FAULTS = {
    "negative_subject": [(-n, day(1), "A", None) for n in range(1, 9)],
    "null_code": [(n, day(1), None, None) for n in range(9)],
    "not_finite": [(n, day(1), "A", float("nan")) for n in range(9)],
    "future": [(n, day(10_000), "A", None) for n in range(9)],
    "before_birth": [(n, datetime(1950, 1, 1), "A", None) for n in range(40)],
    "after_death": [(n, day(5), "MEDS_DEATH", None) for n in range(9)],
    "implausible": [(n, day(1), "LOINC//8867-4", 999.0) for n in range(12)],
    "duplicates": [(n, day(1), "A", None) for n in range(9) for _ in range(20)],
    "births_twice": [(n, datetime(1960, 1, 3), "MEDS_BIRTH", None) for n in range(9)],
    "deaths_twice": [(n, day(at), "MEDS_DEATH", None) for n in range(9) for at in (400, 401)],
}


@pytest.mark.parametrize("gate", FAULTS)
def test_a_gate_stops_and_names_what_relaxes_it(tmp_path, capsys, gate):
    source = write(tmp_path / "records", plain() + FAULTS[gate])
    line = refused(capsys, source, tmp_path / "c")
    told = re.fullmatch(
        r"gate (\w+): ([\d,]+) found, a share of (\S+) where (\S+) is borne, first at (.+?); mend the records or "
        r"raise (\w+) in --quality FILE(; dates .*)?",
        line,
    )
    assert told, line
    assert told[1] == told[6] == gate
    assert told[5].startswith("data.parquet")
    if gate not in ("duplicates", "implausible", "births_twice", "deaths_twice"):
        # First offenders by row number, three at most; the first of them is one.
        row = int(told[5].split(", ")[0].removeprefix("data.parquet:"))
        held = pl.read_parquet(source / "data.parquet").row(row - 1)
        assert any(held[2] == fault[2] for fault in FAULTS[gate]) or gate == "after_death"
    quality = tmp_path / "quality.yaml"
    quality.write_text(f"{gate}: {float(told[3]) * 1.1}\n")
    assert prepare(source, tmp_path / "c", "--quality", quality) in (cli.DONE, cli.REJECTED)
    held = json.loads((tmp_path / "c" / "quality" / "results.json").read_text())
    assert next(row for row in held if row["expectation"] == gate)["found"] == int(told[2].replace(",", ""))
    assert all(row["success"] for row in held)


@pytest.mark.parametrize(
    ("gate", "rows", "arguments"),
    [
        ("no_birth", [row for row in plain() if row[2] != "MEDS_BIRTH"], ()),
        ("empty_patients", plain() + [(n, None, "RACE//x", None) for n in range(100, 200)], ()),
        ("long_patients", plain() + [(7, day(40 * at), "LOINC//8867-4", 70.0) for at in range(11, 30)], ()),
        ("drifted_codes", plain(400) + [(n, day(1), "LOINC//29463-7", 70 + n % 20 if n % 2 else 160 + n % 20)
                                        for n in range(4000, 5000)], ("--splits",)),
    ],
)  # fmt: skip
def test_gates_on_patients_and_values(tmp_path, capsys, gate, rows, arguments):
    strict = {"no_birth": "no_birth: 0", "long_patients": "longest_tokens: 15", "drifted_codes": "no_birth: 1"}
    quality = tmp_path / "quality.yaml"
    quality.write_text(strict.get(gate, "") + "\nmin_count: 0\n")
    source = write(tmp_path / "records", rows)
    if arguments:
        # Those with odd numbers train: kilograms there, pounds elsewhere.
        splits = pl.DataFrame({"subject_id": sorted({row[0] for row in rows})})
        odd = pl.when(pl.col("subject_id") % 2 == 1)
        splits.with_columns(odd.then(pl.lit("train")).otherwise(pl.lit("held_out")).alias("split")).write_csv(
            tmp_path / "s.csv"
        )
        arguments = ("--splits", tmp_path / "s.csv")
    line = refused(capsys, source, tmp_path / "c", "--quality", quality, *arguments)
    assert line.startswith(f"gate {gate}: ")
    assert f"raise {gate} in --quality FILE" in line
    if gate == "drifted_codes":
        assert "first at LOINC//29463-7" in line
    assert prepare(source, tmp_path / "c", "--no-gates", *arguments) in (cli.DONE, cli.REJECTED)
    assert files(tmp_path / "c" / "quality") == set()


def test_codes_that_a_frozen_vocabulary_does_not_know(place, made, tmp_path, capsys):
    source = write(tmp_path / "records", [*plain(), *((n, day(1), "LOCAL//new", None) for n in range(30))])
    arguments = ("--vocabulary", made / "vocabulary.json")
    line = refused(capsys, source, tmp_path / "c", *arguments)
    assert line.startswith("gate unknown_codes: 430 found, a share of 1 where 0.05 is borne")
    (tmp_path / "quality.yaml").write_text("unknown_codes: 1\nempty_patients: 1\n")
    assert prepare(source, tmp_path / "c", *arguments, "--quality", tmp_path / "quality.yaml") == cli.DONE
    assert (tmp_path / "c" / "vocabulary.json").read_bytes() == (made / "vocabulary.json").read_bytes()
    held = Timelines.open([tmp_path / "c" / "timelines" / "00000.arrow"])
    codes = Vocabulary.load(made / "vocabulary.json").codes
    assert {codes[at] for n in held.subjects.tolist() for at in held.record(n).token} == {"[UNK]"}


def test_labels_before_the_first_event_stop_both_ways(records, made, tmp_path, capsys):
    early = pl.DataFrame(
        {
            "subject_id": range(1, 31),
            "prediction_time": pl.Series([datetime(1900, 1, 1)] * 30).cast(pl.Datetime("us")),
            "boolean_value": [True] * 30,
        }
    )
    early.write_parquet(tmp_path / "early.parquet")
    line = refused(capsys, records, tmp_path / "c", "--labels", tmp_path / "early.parquet")
    assert line.startswith("gate label_before_input: 30 found, a share of 1 where 0.05 is borne")
    capsys.readouterr()
    assert prepare_again(made, tmp_path / "c", "--labels", tmp_path / "early.parquet") == cli.BAD_INPUT
    assert line in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_counting_row_by_row_gives_the_same_results(place, records, made, tmp_path):
    arguments = ("--outcomes", place / "outcomes.yaml", "--row-level", "--data-docs")
    assert prepare(records, tmp_path / "c", *arguments) == cli.DONE
    assert (tmp_path / "c/quality/results.json").read_text() == (made / "quality/results.json").read_text()
    assert (tmp_path / "c/quality/data_docs/index.html").is_file()
    assert "data_docs" not in " ".join(files(made))


def test_the_page_shows_no_patient(made, events):
    text = (made / "quality" / "index.html").read_text()
    assert "All 22 gates hold" in re.sub(r"<[^>]*>", "", text)
    for code in events["code"].unique():
        assert code not in text


def test_splits_of_the_source_of_a_table_and_of_the_hash(tmp_path):
    for split, first in (("train", 0), ("tuning", 100), ("held_out", 200)):
        rows = [(n + first, *rest) for n, *rest in plain()]
        write(tmp_path / "records" / "data" / split, rows, "0.parquet")

    def found(*arguments):
        target = tmp_path / f"c{len(list(tmp_path.iterdir()))}"
        assert prepare(tmp_path / "records", target, *arguments) == cli.DONE
        return dict(pl.read_parquet(target / "splits.parquet").rows())

    given = found()
    assert {given[n] for n in range(40)} == {"train"}
    assert {given[n] for n in range(100, 140)} == {"tuning", "calibration"}
    assert {given[n] for n in range(200, 240)} == {"held_out"}
    whole = found("--whole-tuning")
    assert Counter(whole.values()) == {"train": 40, "tuning": 40, "held_out": 40}
    table = pl.DataFrame({"subject_id": list(given), "split": ["train", "external"] * 60})
    table.write_parquet(tmp_path / "splits.parquet")
    assert found("--splits", tmp_path / "splits.parquet") == dict(table.rows())


def test_settings_of_the_hash(tmp_path, capsys):
    source = write(tmp_path / "records", plain())
    assert prepare(source, tmp_path / "a", "--fractions", "1,0,0,0") == cli.DONE
    assert pl.read_parquet(tmp_path / "a" / "splits.parquet")["split"].unique().to_list() == ["train"]
    assert prepare(source, tmp_path / "b") == cli.DONE
    assert prepare(source, tmp_path / "c", "--seed", "5") == cli.DONE
    assert digests(tmp_path / "b")["splits.parquet"] != digests(tmp_path / "c")["splits.parquet"]
    for wrong in ("0.5,0.5", "a,b,c,d", "0.7,0.1,0.1,0.2"):
        assert refused(capsys, source, tmp_path / "d", "--fractions", wrong).startswith(f"--fractions {wrong}: ")
