"""Scoring by several jobs: every shard once, parts checked when a run closes them, nothing lost to a bad one."""

import functools
import json
import shutil
import sys

import polars as pl
import pytest

from pipelines import artefacts, closing, scoring, shards
from pipelines import score as verb
from pipelines.hands import hands
from pipelines.release import open_release
from tests.chain import write_records
from tests.faults.kill import digests
from tests.pipelines import cohorts

FILES = 7


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Return records that make seven shards."""
    monkeypatch.setattr(shards, "divide", functools.partial(shards.divide, shard_events=1))
    return write_records(cohorts.events(60), tmp_path / "records", files=FILES)


@pytest.fixture
def whole(chain, records, tmp_path):
    """Return what one run makes of them."""
    verb.score(chain.release, records, tmp_path / "whole", workers=1)
    return digests(tmp_path / "whole")


def job(chain, records, target, place, number):
    arguments = [str(chain.release), str(records), str(target), "--workers", "1", "--shard", f"{place}/{number}"]
    assert verb.main(arguments) == 0


@pytest.mark.parametrize("number", [1, 3, 9])
def test_jobs_and_a_closing_run_leave_the_bytes_of_one_run(chain, records, whole, tmp_path, number, monkeypatch):
    target = tmp_path / "scores"
    for place in reversed(range(1, number + 1)):
        job(chain, records, target, place, number)
        assert not target.exists()
    # Whoever closes finds all done.
    monkeypatch.setattr(scoring, "score", None)
    verb.score(chain.release, records, target, workers=1)
    assert digests(target) == whole
    assert not artefacts.partial(target).exists()


def test_what_a_lost_job_left_is_done_by_the_one_that_closes(chain, records, whole, tmp_path):
    target = tmp_path / "scores"
    job(chain, records, target, 1, 2)
    folder = artefacts.partial(target)
    # A killed writer, a part cut short by a full disk, a file that never came.
    (folder / "predictions" / ".00002.parquet.0123456789abcdef.partial").write_bytes(b"half")
    cut = scoring.part(folder, 0)
    cut.write_bytes(cut.read_bytes()[:-50])
    scoring.beside(folder, 4)["rejected"].unlink()
    assert [scoring.done(folder, at) for at in range(FILES)] == [False, False, True, False, False, False, True]
    verb.score(chain.release, records, target, workers=1)
    assert digests(target) == whole


def test_a_part_of_another_model_is_taken_away(chain, records, whole, tmp_path):
    target = tmp_path / "scores"
    job(chain, records, target, 1, 1)
    part = scoring.part(artefacts.partial(target), 3)
    pl.read_parquet(part).with_columns(model=pl.lit("another")).write_parquet(part)
    with pytest.raises(ValueError, match="shard 3: its predictions are damaged"):
        verb.score(chain.release, records, target, workers=1)
    verb.score(chain.release, records, target, workers=1)
    assert digests(target) == whole


def test_a_patient_in_two_parts_is_refused(chain, records, tmp_path):
    target = tmp_path / "scores"
    job(chain, records, target, 1, 1)
    folder = artefacts.partial(target)
    shutil.copyfile(scoring.part(folder, 1), scoring.part(folder, 2))
    with pytest.raises(ValueError, match="a patient stands in two shards"):
        closing.check(folder, FILES, open_release(chain.release))


def test_a_job_with_other_settings_spoils_nothing(chain, records, tmp_path):
    target = tmp_path / "scores"
    job(chain, records, target, 1, 2)
    folder = artefacts.partial(target)
    before = digests(folder)
    other = verb.Share(2, 2)
    with pytest.raises(ValueError, match="holds shards of another release, records or settings"):
        verb.score(chain.release, records, target, at="2001-01-01", share=other, workers=1)
    assert digests(folder) == before
    plan = json.loads((folder / closing.PLAN).read_text())
    assert plan["at"] == "latest"


def test_jobs_score_at_the_times_of_a_table(chain, records, tmp_path):
    (tmp_path / "times.csv").write_text("patient,prediction_time\n1,2003-05-01\n2,2001-05-01\n999,2003-01-01\n")
    at = str(tmp_path / "times.csv")
    for place in (1, 2):
        verb.score(chain.release, records, tmp_path / "p", at=at, share=verb.Share(place, 2), workers=1)
    found = verb.score(chain.release, records, tmp_path / "p", at=at, workers=1)
    verb.score(chain.release, records, tmp_path / "q", at=at, workers=1)
    assert found["unscored"] >= 1
    assert digests(tmp_path / "p") == digests(tmp_path / "q")


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/", "1/2/3"])
def test_a_share_that_is_none(chain, text, tmp_path):
    with pytest.raises(ValueError, match=r"--shard .*: expected I/N with I from 1 to N, such as 2/8"):
        verb.main([str(chain.release), str(chain.records), str(tmp_path / "p"), f"--shard={text}"])


def test_an_engine_that_is_none(chain, tmp_path):
    with pytest.raises(ValueError, match="--engine spark: expected one of local, ray"):
        verb.score(chain.release, chain.records, tmp_path / "p", engine="spark")
    assert not artefacts.partial(tmp_path / "p").exists()
    with pytest.raises(ValueError, match="--device cuda with --engine ray"):
        verb.score(chain.release, chain.records, tmp_path / "p", engine="ray", device="cuda")


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ValueError, match="--engine ray: Ray is not installed; install the extra cluster"),
        hands("ray", 1),
    ):
        pass
