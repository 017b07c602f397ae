"""Splits: the same for a patient whoever else is there, of about the right sizes, or as a source or table says."""

import hashlib
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr import splits as s

# Of subjects 0 to 11 at seed 0.
PINNED = ["train", *["tuning"] * 3, *["train"] * 6, "calibration", "train"]
SUBJECTS = np.arange(20_000, dtype=np.int64) * 7 + 3


def test_splits_are_those_of_every_machine_and_day():
    key = hashlib.blake2b(b"0/3", digest_size=4).hexdigest()
    assert s.fraction_of(3, 0) == int(key, 16) / 2**32
    assert s.by_hash(np.arange(12)).tolist() == PINNED
    assert s.by_hash(np.arange(12), seed=1).tolist() != PINNED


@given(st.permutations(range(40)), st.integers(1, 40))
def test_a_patient_s_split_hangs_on_nobody_else(order, number):
    alone = dict(zip(range(40), s.by_hash(np.arange(40)).tolist(), strict=True))
    part = np.array(order[:number], dtype=np.int64)
    assert s.by_hash(part).tolist() == [alone[subject] for subject in part]


@pytest.mark.parametrize("fractions", [s.FRACTIONS, (0.4, 0.3, 0.2, 0.1), (0, 0.5, 0, 0.5), (1, 0, 0, 0)])
def test_fractions_come_out_about_right(fractions):
    found = s.by_hash(SUBJECTS, fractions=fractions)
    for split, fraction in zip(s.SPLITS, fractions, strict=True):
        # Four standard errors.
        assert abs(np.mean(found == split) - fraction) <= 4 * np.sqrt(fraction * (1 - fraction) / len(SUBJECTS))


def test_seeds_split_independently():
    first, second = s.by_hash(SUBJECTS, seed=0) == "train", s.by_hash(SUBJECTS, seed=1) == "train"
    assert abs(np.mean(first & second) - 0.49) < 0.02


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.7, 0.1, 0.1, 0.2), (1.1, -0.1, 0, 0)])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="expected train,tuning,calibration,held_out adding up to 1"):
        s.check_fractions(fractions)
    assert s.check_fractions([0.25] * 4) == (0.25,) * 4


def test_half_of_given_tuning_patients_calibrate_and_nobody_else_moves():
    given_splits = np.array(list(itertools.islice(itertools.cycle(["train", "tuning", "held_out"]), len(SUBJECTS))))
    found = s.halved(SUBJECTS, given_splits)
    tuning = given_splits == "tuning"
    assert np.array_equal(found[~tuning], given_splits[~tuning])
    assert set(found[tuning]) == {"tuning", "calibration"}
    assert abs(np.mean(found[tuning] == "calibration") - 0.5) < 0.03
    assert np.array_equal(found[::-1], s.halved(SUBJECTS[::-1], given_splits[::-1]))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_names_the_split(tmp_path, suffix):
    path = tmp_path / f"splits{suffix}"
    table = pl.DataFrame({"subject_id": [9, 2, 5, 7], "split": ["train", "held_out", "tuning", "external"]})
    table.write_csv(path) if suffix == ".csv" else table.write_parquet(path)
    assert s.listed(np.array([2, 9, 7]), path).tolist() == ["held_out", "train", "external"]
    with pytest.raises(ValueError, match="names no split for 2 patients of the source; add them"):
        s.listed(np.array([2, 3, 10]), path)


def test_wrong_tables_are_refused_in_one_line(tmp_path):
    cases = {
        "twice.csv": ("subject_id,split\n1,train\n1,tuning\n", "a subject stands in two rows"),
        "column.csv": ("subject,split\n1,train\n", "expected a table of subject_id and split"),
        "words.csv": ("subject_id,split\nx,train\n", "expected a table of subject_id and split"),
        "empty.csv": ("", "expected a table of subject_id and split"),
        "damaged.parquet": ("PAR1", "expected a table of subject_id and split"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message) as error:
            s.read(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"none\.csv"):
        s.read(tmp_path / "none.csv")
    (tmp_path / "header.csv").write_text("subject_id,split\n")
    with pytest.raises(ValueError, match="names no split for 1 patients"):
        s.listed(np.array([4]), tmp_path / "header.csv")
