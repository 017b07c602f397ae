"""The doctor names what is broken and how to mend it."""

import pytest

from pipelines import doctor


def test_this_environment_is_sound(capsys):
    assert doctor.main([]) == 0
    assert "nothing is broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gpu", "cpu", "status"),
    [("1.31.1", None, "ok"), (None, "1.32.0", "ok"), ("1.31.1", "1.32.0", "broken"), (None, None, "broken")],
)
def test_exactly_one_runtime(gpu, cpu, status):
    finding = doctor.check_runtime(gpu, cpu)
    assert finding.status == status
    assert status == "ok" or "[cpu] or [gpu]" in finding.detail


def test_broken_and_absent_modules_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "sick.py").write_text("raise RuntimeError('no library found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.check_import("sick", "train") == (
        "sick",
        "broken",
        "does not import: RuntimeError: no library found",
    )
    assert doctor.check_import("nowhere_at_all", "train").status == "absent"
    assert doctor.check_import("nowhere_at_all", "core").status == "broken"


def test_cuda_without_a_driver_is_not_passed_over(monkeypatch):
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    finding = doctor.check_device("cuda")
    assert finding.status in {"broken", "ok"}
    if finding.status == "broken":
        assert "--device cpu" in finding.detail


def test_a_version_out_of_range_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: "1.0.0" if name == "polars" else None)
    finding = doctor.check_pins()
    assert finding.status == "broken"
    assert "polars 1.0.0, expected" in finding.detail


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: doctor.shutil._ntuple_diskusage(10, 10, 0))
    assert doctor.check_disk(tmp_path).status == "broken"
