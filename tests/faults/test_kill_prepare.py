"""prepare killed at 20 random moments leaves nothing whole, and its re-run ends with the same bytes."""

import shutil

import pytest

from pipelines import artefacts
from tests.faults import kill

MOMENTS = 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_prepare_is_repeated_to_the_same_bytes(tmp_path):
    records, whole, cohort = tmp_path / "records", tmp_path / "whole", tmp_path / "cohort"
    kill.finish(["simulate", str(records), "--patients", "4000", "--seed", "3"])
    outcomes = ["--outcomes", "configs/demo/outcomes.yaml"]
    seconds = kill.finish(["prepare", str(records), str(whole), *outcomes])
    expected = kill.digests(whole)
    command = ["prepare", str(records), str(cohort), *outcomes]
    killed = 0
    for moment in kill.moments(MOMENTS, seconds, seed=11):
        killed += kill.kill_after(command, moment)
        if cohort.exists():
            # Whole only if it was done before the signal came.
            artefacts.verify(cohort, artefacts.read_manifest(cohort, "cohort"))
            assert kill.digests(cohort) == expected
            shutil.rmtree(cohort)
        else:
            with pytest.raises(ValueError, match="no such folder"):
                artefacts.read_manifest(cohort, "cohort")
    assert killed >= MOMENTS // 2
    kill.finish(command)
    assert kill.digests(cohort) == expected
    assert not artefacts.partial(cohort).exists()
