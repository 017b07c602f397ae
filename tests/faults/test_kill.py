"""Verbs killed at 20 random moments leave nothing that passes for whole; run again, they end as if undisturbed."""

import shutil

import pytest

from pipelines import artefacts
from tests.faults import kill

MOMENTS = 20
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def torment(command, target, kind, seconds, expected, *, skip=(), codes=(0,)):
    """Kill a verb again and again; whatever it finishes, in one go or in many, has the expected bytes.

    Args:
        command: of the verb.
        target: the artefact it makes.
        kind: of the artefact.
        seconds: an undisturbed run.
        expected: digests of what it makes.
        skip: files that carry the time of day.
        codes: exit codes of a run to its end.
    """
    killed = finished = 0
    for moment in kill.moments(MOMENTS, seconds, seed=11):
        killed += kill.kill_after(command, moment)
        if target.exists():
            # Whole only if it was done before the signal came.
            artefacts.verify(target, artefacts.read_manifest(target, kind))
            assert kill.digests(target, skip=skip) == expected
            shutil.rmtree(target)
            finished += 1
        else:
            with pytest.raises(ValueError, match="no such folder"):
                artefacts.read_manifest(target, kind)
    assert killed >= MOMENTS // 2
    kill.finish(command, expected=codes)
    assert kill.digests(target, skip=skip) == expected
    assert not artefacts.partial(target).exists()
    return finished


def test_prepare(tmp_path):
    records, whole, cohort = tmp_path / "records", tmp_path / "whole", tmp_path / "cohort"
    kill.finish(["simulate", str(records), "--patients", "4000", "--seed", "3"])
    outcomes = ["--outcomes", "configs/demo/outcomes.yaml"]
    seconds = kill.finish(["prepare", str(records), str(whole), *outcomes])
    torment(["prepare", str(records), str(cohort), *outcomes], cohort, "cohort", seconds, kill.digests(whole))


def test_pretrain_to_the_same_weights(chain, tmp_path):
    config = chain.cohort.parent / "pretrain.yaml"
    whole, run = tmp_path / "whole", tmp_path / "run"
    arguments = ["pretrain", "--config", str(config), "--cohort", str(chain.cohort), "--no-estimate"]
    arguments += ["--trainer.max_epochs", "40", "--checkpoint-steps", "3"]
    seconds = kill.finish([*arguments, "--output", str(whole)])
    # What TensorBoard reads carries the time of day, and so does its digest in the manifest.
    skip = ("tensorboard", "manifest.json", "last.ckpt")
    torment([*arguments, "--output", str(run)], run, "run", seconds, kill.digests(whole, skip=skip), skip=skip)


def test_score(chain, tmp_path):
    records, whole, scores = tmp_path / "records", tmp_path / "whole", tmp_path / "scores"
    kill.finish(["simulate", str(records), "--patients", "25000", "--seed", "4", "--no-truth"])
    (tmp_path / "quality.yaml").write_text("unknown_codes: 1.0\n")
    arguments = ["score", str(chain.release), str(records)]
    settings = ["--quality", str(tmp_path / "quality.yaml")]
    # 3: the dead are listed as not scored.
    seconds = kill.finish([*arguments, str(whole), *settings], expected=(0, 3))
    command = [*arguments, str(scores), *settings]
    torment(command, scores, "predictions", seconds, kill.digests(whole), codes=(0, 3))
