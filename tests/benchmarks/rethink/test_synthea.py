"""What the Synthea part reads, and that it says so where its data is absent."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from tests.benchmarks.rethink import synthea


def test_without_the_data_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain message, and no failure."""
    monkeypatch.setattr(synthea, "SOURCE", tmp_path / "absent")
    monkeypatch.setattr(synthea, "PART", "never.made")
    assert synthea.main() == 0
    assert "nothing is measured" in capsys.readouterr().out


def test_records_keep_disorders_findings_birth_sex_and_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Procedures, measurements and visits go; the rows that stay do so as they are, in their order."""
    codes = {
        "SNOMED//1": "Gingivitis (disorder)",
        "SNOMED//2": "Stress (finding)",
        "SNOMED//3": "Cleaning after a (disorder) of teeth (procedure)",
        "LOINC//4": None,
    }
    listed = pl.DataFrame({"code": list(codes), "description": list(codes.values())})
    coded = [
        "MEDS_BIRTH",
        "SEX//F",
        "SNOMED//2",
        "VISIT//AMB//START",
        "LOINC//4",
        "SNOMED//3",
        "SNOMED//1",
        "MEDS_DEATH",
    ]
    rows = pl.DataFrame(
        {"subject_id": [1] * len(coded), "time": [datetime(2020, 1, 1 + at) for at in range(len(coded))], "code": coded}
    )
    (tmp_path / "source" / "metadata").mkdir(parents=True)
    listed.write_parquet(tmp_path / "source" / "metadata" / "codes.parquet")
    for split in synthea.SPLITS:
        (tmp_path / "source" / "data" / split).mkdir(parents=True)
        rows.write_parquet(tmp_path / "source" / "data" / split / "0.parquet")
    monkeypatch.setattr(synthea, "SOURCE", tmp_path / "source")
    synthea.shortened(tmp_path / "made")
    kept = rows.filter(pl.col("code").is_in(["MEDS_BIRTH", "SEX//F", "SNOMED//2", "SNOMED//1", "MEDS_DEATH"]))
    for split in synthea.SPLITS:
        assert pl.read_parquet(tmp_path / "made" / "data" / split / "0.parquet").equals(kept)
    assert (tmp_path / "made" / "metadata" / "codes.parquet").is_file()
