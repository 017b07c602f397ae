"""Installing without a network: scripts that parse and refuse, a container that owns nothing, and the way for real."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.docs import ROOT

FOLDER = ROOT / "configs" / "container"
SCRIPTS = ("wheelhouse.sh", "install.sh")


def bash(*words, **more):
    return subprocess.run(["bash", *map(str, words)], capture_output=True, text=True, check=False, timeout=900, **more)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse_and_stop_at_the_first_fault(name):
    assert bash("-n", FOLDER / name).returncode == 0
    assert "set -euo pipefail" in (FOLDER / name).read_text()
    assert os.access(FOLDER / name, os.X_OK)


def test_two_runtimes_and_a_full_folder_are_refused(tmp_path):
    found = bash(FOLDER / "wheelhouse.sh", tmp_path / "new", "cpu,gpu,serve")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    (tmp_path / "something").touch()
    found = bash(FOLDER / "wheelhouse.sh", tmp_path)
    assert found.returncode == 2
    assert "is not empty" in found.stderr
    found = bash(FOLDER / "install.sh", tmp_path, tmp_path / "environment")
    assert found.returncode == 2
    assert "holds no requirements.txt" in found.stderr


def test_the_container_fetches_nothing_and_owns_nothing():
    lines = (FOLDER / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    words = [word for word, _ in steps]
    assert words[:2] == ["ARG", "FROM"]
    assert set(words) <= {"ARG", "FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    held = dict(steps)
    user, _, group = held["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert words.index("USER") > max(at for at, word in enumerate(words) if word in ("RUN", "COPY"))
    assert {"--no-index", "--require-hashes", "--only-binary"} <= set(held["RUN"].split())
    assert not {"curl", "wget", "apt-get", "git"} & set(held["RUN"].split())


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_what_the_wheelhouse_holds_installs_without_a_network(tmp_path):
    """For real: gathered with pip, installed with no index, a changed wheel refused; then it shows its verbs."""
    house = tmp_path / "house"
    found = bash(FOLDER / "wheelhouse.sh", house, env={**os.environ, "PYTHON": sys.executable})
    if found.returncode and not list(house.glob("*.whl")):
        pytest.skip("needs a package index to gather wheels from")
    assert found.returncode == 0, found.stderr
    alone = ["unshare", "--net", "--map-root-user"] if shutil.which("unshare") else []
    words = [*alone, "bash", str(FOLDER / "install.sh"), str(house), str(tmp_path / "environment")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHON": sys.executable}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("anamnesis ")
    help_of = [tmp_path / "environment" / "bin" / "anamnesis", "score", "--help"]
    assert subprocess.run(help_of, capture_output=True, check=False, cwd="/").returncode == 0
    wheel = next(house.glob("rich-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b" ")
    found = bash(FOLDER / "install.sh", house, tmp_path / "other", env={**os.environ, "PYTHON": sys.executable})
    assert found.returncode
    assert "hash" in found.stderr.lower()
