"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import chain as chains

# How fast a machine is tells nothing of what is tested on it.
settings.register_profile("anamnesis", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anamnesis")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data():
    """Return a folder of the shared data, or skip with the reason."""

    def folder(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs the data set {name}, which is not beside this checkout")
        return path

    return folder


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """Return what prepare, pretrain, finetune and export make of a tiny cohort."""
    return chains.make(tmp_path_factory.mktemp("chain"))
