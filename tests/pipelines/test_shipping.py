"""What a release carries for those who install it, and going back to the one before."""

import json
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from pipelines import artefacts, sbom, score
from pipelines.release import open_release, write_sums


@pytest.fixture(scope="module")
def content(chain):
    return json.loads((chain.release / sbom.FILE).read_text())


def test_triton_holds_the_released_model(chain):
    copy = chain.release / "triton" / "anamnesis" / "1" / "model.onnx"
    assert artefacts.digest(copy) == artefacts.digest(chain.release / "model.onnx")
    assert copy.samefile(chain.release / "model.onnx")
    text = (chain.release / "triton" / "anamnesis" / "config.pbtxt").read_text()
    release = open_release(chain.release, trusted=True)
    assert f"dims: [ {release.session.outcomes}, {release.session.horizons} ]" in text


def test_a_changed_copy_is_refused(chain, tmp_path):
    release = tmp_path / "release"
    shutil.copytree(chain.release, release)
    (release / "triton" / "anamnesis" / "1" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"model\.onnx: does not match its checksum in SHA256SUMS"):
        open_release(release)


def test_a_list_of_checksums_that_names_what_lies_outside_is_refused(chain, tmp_path):
    release = tmp_path / "release"
    shutil.copytree(chain.release, release)
    (tmp_path / "secret").write_text("of somebody else")
    sums = release / "SHA256SUMS"
    sums.write_text(f"{artefacts.digest(tmp_path / 'secret')}  ../secret\n" + sums.read_text())
    with pytest.raises(ValueError, match="a file outside the folder"):
        open_release(release)


def test_the_bill_lists_what_is_installed_here(content):
    packages = {held["name"]: held["version"] for held in content["components"]}
    assert {"anamnesis", "numpy", "polars", "pyarrow", "jinja2", "cryptography"} <= set(packages)
    assert not {"torch", "transformers", "pytest"} & set(packages)
    assert len({"onnxruntime", "onnxruntime-gpu"} & set(packages)) == 1
    assert {name: metadata.version(name) for name in packages} == packages


def test_every_requirement_of_a_listed_package_is_listed(content):
    """By the packages' own metadata, read a second way."""
    names = {held["name"] for held in content["components"]}
    core = {Requirement(line).name for line in metadata.requires("anamnesis") if ";" not in line}
    assert core <= names
    for name in names - {"anamnesis"}:
        for line in metadata.requires(name) or ():
            held = Requirement(line)
            if held.marker is None or held.marker.evaluate({"extra": ""}):
                assert held.name.lower().replace("_", "-") in names, f"{name} needs {held.name}"


def test_the_bill_is_one_whole_graph(content):
    """As CycloneDX asks: names of parts are unique, and every arrow ends at one of them."""
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    refs = ["model", *(held["bom-ref"] for held in content["components"])]
    assert len(set(refs)) == len(refs)
    arrows = {held["ref"]: held["dependsOn"] for held in content["dependencies"]}
    assert set(arrows) == set(refs)
    reached, wanted = set(), ["model"]
    while wanted:
        at = wanted.pop()
        if at not in reached:
            reached.add(at)
            wanted += arrows[at]
    assert reached == set(refs)


def test_the_bill_names_the_model(chain, content):
    held = content["metadata"]["component"]
    assert held["hashes"][0]["content"] == artefacts.digest(chain.release / "model.onnx")
    assert {part["name"] for part in held["properties"]} == {"anamnesis:run", "anamnesis:vocabulary"}


def test_differences_from_a_bill_are_told(chain, content, tmp_path):
    assert sbom.differences(content) == []
    changed = json.loads(json.dumps(content))
    changed["components"][1]["version"] = "0.0.1"
    changed["components"].append({"name": "leftpad", "version": "1"})
    assert [line.split(":")[0] for line in sbom.differences(changed)] == [changed["components"][1]["name"], "leftpad"]
    with pytest.raises(ValueError, match="not a bill of materials"):
        sbom.differences({"components": [{}]})
    assert sbom.main([str(chain.release)]) == 0
    (tmp_path / sbom.FILE).write_text(json.dumps(changed))
    words = [sys.executable, "-m", "pipelines.sbom", str(tmp_path)]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 3


def test_a_release_made_before_still_opens(chain, tmp_path):
    """Without Triton's folder, bill and digest, and with a list of checksums of plain names."""
    old = tmp_path / "old"
    shutil.copytree(chain.release, old)
    shutil.rmtree(old / "triton")
    for name in (sbom.FILE, "digest.json", "SHA256SUMS"):
        (old / name).unlink(missing_ok=True)
    manifest = artefacts.read_manifest(old, "release")
    artefacts.write_manifest(old, **{key: held for key, held in manifest.items() if key not in ("format", "files")})
    write_sums(old)
    assert open_release(old).model == open_release(chain.release).model
    assert score.main([str(old), str(chain.records), str(tmp_path / "out"), "--workers", "1"]) == 0


def test_going_back_is_one_rename(chain, tmp_path):
    """Two releases stand side by side; `current` names one of them, and is exchanged in one step."""
    for name in ("2026-10", "2026-11"):
        shutil.copytree(chain.release, tmp_path / name)
    (tmp_path / "2026-11" / "model.onnx").write_bytes(b"broken on the way")
    current = tmp_path / "current"
    current.symlink_to("2026-11")
    with pytest.raises(ValueError, match="does not match its checksum"):
        open_release(current)
    (tmp_path / "next").symlink_to("2026-10")
    (tmp_path / "next").replace(current)
    assert open_release(current).path == current
