"""`anamnesis doctor`: what this environment has, what is missing and what is broken."""

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

EXAMPLES = """examples:
  anamnesis doctor                 a table; exit 2 when something is broken
  anamnesis doctor --device cuda   also require that onnxruntime runs on CUDA
"""
Status = Literal["ok", "absent", "broken"]
EXTRAS = ("train", "mlflow")
LEAST_FREE_GIB = 2.0
# Imported in a process of their own: one broken package must not hide the others, nor slow `--help` down.
IMPORTS = {
    "core": ("numpy", "polars", "pyarrow", "jinja2", "rich", "yaml"),
    "train": (
        "torch",
        "pytorch_lightning",
        "transformers",
        "great_expectations",
        "sklearn",
        "matplotlib",
        "onnx",
        "safetensors",
    ),
}


class Finding(NamedTuple):
    """One line of the table: what was looked at, how it stands, what to do."""

    subject: str
    status: Status
    detail: str


def installed(package: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Compare the interpreter with what the distribution asks for."""
    found = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("python", "ok" if good else "broken", found if good else f"{found}; expected 3.11 to 3.13")


def check_runtime(gpu: str | None, cpu: str | None) -> Finding:
    """Tell which onnxruntime is installed: both share a folder, so the last one installed wins silently.

    Args:
        gpu: version of onnxruntime-gpu, or None.
        cpu: version of onnxruntime, or None.
    """
    if gpu and cpu:
        cure = "pip uninstall -y onnxruntime onnxruntime-gpu, then install the extra [cpu] or [gpu]"
        return Finding("onnxruntime", "broken", f"both onnxruntime {cpu} and onnxruntime-gpu {gpu}: {cure}")
    if not gpu and not cpu:
        return Finding("onnxruntime", "broken", "absent: install the extra [cpu] or [gpu]; score needs it")
    return Finding("onnxruntime", "ok", f"onnxruntime-gpu {gpu}" if gpu else f"onnxruntime {cpu}")


def check_torchvision() -> Finding:
    """Tell of a torchvision that does not import: beside a CPU torch it takes Lightning down."""
    if installed("torchvision") is None:
        return Finding("torchvision", "ok", "absent, as it should be")
    found = check_import("torchvision", "none of our extras")
    return found if found.status == "ok" else found._replace(detail=f"{found.detail}; uninstall torchvision")


def check_import(module: str, extra: str) -> Finding:
    """Import a module in a fresh interpreter and tell how it went."""
    if importlib.util.find_spec(module) is None:
        status: Status = "broken" if extra == "core" else "absent"
        return Finding(module, status, f"not installed: part of {'the core' if extra == 'core' else f'[{extra}]'}")
    run = subprocess.run(
        [sys.executable, "-c", f"import {module} as m; print(getattr(m, '__version__', 'imports'))"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(module, "broken", f"does not import: {last}")
    return Finding(module, "ok", (run.stdout.strip().splitlines() or [""])[-1])


def check_pins() -> Finding:
    """Compare installed versions with the ranges that the distribution states."""
    wrong: list[str] = []
    for line in requires("anamnesis") or ():
        requirement = Requirement(line)
        found = installed(requirement.name)
        extras = ({"extra": extra} for extra in ("", *EXTRAS))
        asked = not requirement.marker or any(requirement.marker.evaluate(extra) for extra in extras)
        if found and asked and not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, expected {requirement.specifier}")
    return Finding("versions", "broken" if wrong else "ok", "; ".join(wrong) or "within the stated ranges")


def check_device(device: str) -> Finding:
    """Tell on which providers onnxruntime runs, by loading them and not by what it lists.

    onnxruntime-gpu lists CUDA even where no driver is, and then falls back to the CPU with a log line.
    """
    code = (
        "import onnxruntime as o; print(o.__version__, *o.get_available_providers());"
        "import ctypes.util; print(ctypes.util.find_library('cuda') or '')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    if run.returncode:
        return Finding("device", "broken", "onnxruntime does not import")
    providers, driver = [*run.stdout.splitlines(), "", ""][:2]
    has_cuda = "CUDAExecutionProvider" in providers and bool(driver)
    if device == "cuda" and not has_cuda:
        why = "no CUDA driver" if "CUDAExecutionProvider" in providers else "this onnxruntime has no CUDA provider"
        return Finding(
            "device", "broken", f"cuda was asked for: {why}; install [gpu] and a driver, or use --device cpu"
        )
    return Finding("device", "ok", "cuda and cpu" if has_cuda else "cpu")


def check_disk(folder: Path) -> Finding:
    """Tell how much room is left where the verb was called."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < LEAST_FREE_GIB:
        return Finding("disk", "broken", f"{free:.1f} GiB free here; the demo needs {LEAST_FREE_GIB:.0f} GiB")
    return Finding("disk", "ok", f"{free:.0f} GiB free here")


def check_memory() -> Finding:
    """Tell the machine's memory and cores."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("machine", "ok", f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.machine()}")


def examine(device: str = "cpu") -> list[Finding]:
    """Return every finding, in the order of the table."""
    findings = [check_python(), check_memory(), check_disk(Path.cwd())]
    findings.append(check_runtime(installed("onnxruntime-gpu"), installed("onnxruntime")))
    findings += [check_device(device), check_torchvision()]
    findings += [check_import(module, extra) for extra, modules in IMPORTS.items() for module in modules]
    return [*findings, check_pins()]


def main(argv: Sequence[str]) -> int:
    """Print the findings; return 2 when one is broken."""
    parser = argparse.ArgumentParser(
        "anamnesis doctor",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="the device that must work")
    device = parser.parse_args(argv).device
    findings = examine(device)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.status:<7} {finding.subject:<{width}}  {finding.detail}")
    broken = [finding.subject for finding in findings if finding.status == "broken"]
    absent = [finding.subject for finding in findings if finding.status == "absent"]
    if absent:
        print(f"\nscore works; training does not: install the extra [train] ({', '.join(absent)} absent)")
    print(f"\n{len(broken)} broken: {', '.join(broken)}" if broken else "\nnothing is broken")
    return 2 if broken else 0
