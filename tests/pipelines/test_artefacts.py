"""Artefacts are whole or absent."""

import json

import pytest

from pipelines import artefacts


def test_a_built_folder_appears_when_whole(tmp_path):
    target = tmp_path / "deep" / "cohort"
    with artefacts.build(target) as folder:
        (folder / "a.txt").write_text("a")
        artefacts.write_manifest(folder, "cohort", seed=1)
        assert not target.exists()
    manifest = artefacts.read_manifest(target, "cohort")
    assert manifest["seed"] == 1
    artefacts.verify(target, manifest)
    assert not artefacts.partial(target).exists()


def test_an_error_leaves_nothing(tmp_path):
    target = tmp_path / "cohort"
    with pytest.raises(RuntimeError), artefacts.build(target) as folder:
        (folder / "a.txt").write_text("a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_resumable_build_keeps_its_parts(tmp_path):
    target = tmp_path / "run"
    with pytest.raises(RuntimeError), artefacts.build(target, resume=True) as folder:
        (folder / "part").write_text("a")
        raise RuntimeError
    assert not target.exists()
    with artefacts.build(target, resume=True) as folder:
        assert (folder / "part").read_text() == "a"
    assert (target / "part").read_text() == "a"


def test_a_killed_build_is_begun_anew(tmp_path):
    stale = artefacts.partial(tmp_path / "cohort")
    stale.mkdir()
    (stale / "old").write_text("x")
    with artefacts.build(tmp_path / "cohort") as folder:
        assert not (folder / "old").exists()


def test_what_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="mine"), artefacts.build(tmp_path / "mine", overwrite=overwrite):
            pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"), artefacts.build(tmp_path / "file"):
        pass


def test_overwrite_replaces_a_whole_artefact(tmp_path):
    for seed in (1, 2):
        with artefacts.build(tmp_path / "a", overwrite=seed == 2) as folder:
            artefacts.write_manifest(folder, "cohort", seed=seed)
    assert artefacts.read_manifest(tmp_path / "a", "cohort")["seed"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "not a whole"), ("{", "not JSON"), ('{"kind": "run"}', "expected a cohort, found run")],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        artefacts.read_manifest(tmp_path, "cohort")


def test_every_changed_byte_is_found(tmp_path):
    (tmp_path / "weights").write_bytes(b"abc")
    manifest = artefacts.write_manifest(tmp_path, "release")
    (tmp_path / "weights").write_bytes(b"abd")
    with pytest.raises(ValueError, match="weights: does not match"):
        artefacts.verify(tmp_path, manifest)
    (tmp_path / "weights").unlink()
    with pytest.raises(ValueError, match="weights: missing"):
        artefacts.verify(tmp_path, manifest)


def test_a_manifest_cannot_name_files_outside(tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    (tmp_path / "secret").write_text("s")
    manifest = {"files": {"../secret": {"sha256": artefacts.digest(tmp_path / "secret")}}}
    with pytest.raises(ValueError, match="outside the folder"):
        artefacts.verify(release, manifest)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    artefacts.write_json(path, {"v": 1})
    monkeypatch.setattr(artefacts.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        artefacts.write_json(path, {"v": 2})
    assert json.loads(path.read_text()) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
